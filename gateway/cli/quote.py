"""`gateway quote`: what a call would cost, from the settings alone; no server and no store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from gateway.background import SystemClock
from gateway.cli.books import refuse, refusing
from gateway.cli.options import SETTINGS, Config
from gateway.config.catalog import catalog_from
from gateway.config.load import load, process_environ
from gateway.domain.catalog import Catalog
from gateway.domain.errors import InvalidRequest
from gateway.domain.money import format_usd
from gateway.edge.parse import FieldRules, parse_generation
from gateway.service.quotes import CallQuote, quote_call

#: What OpenAI takes at the most (protocols/openai_images.md §3.1).
MAX_REFERENCES = 16

#: Of one call (§2.1 there).
MAX_PICTURES = 10


def quote(
    *,
    model: Annotated[str, typer.Option(help="A model that the settings offer.")],
    prompt: Annotated[str, typer.Option(help="The prompt; its length is part of the price.")],
    size: Annotated[str, typer.Option(help="Such as 1024x1024; auto is the model's.")] = "auto",
    quality: Annotated[str, typer.Option(help="Such as low; auto is the model's.")] = "auto",
    n: Annotated[int, typer.Option(min=1, max=MAX_PICTURES, help="How many pictures.")] = 1,
    references: Annotated[
        int, typer.Option(min=0, max=MAX_REFERENCES, help="Pictures that it is made from.")
    ] = 0,
    config: Config = SETTINGS,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print what POST /v1/images/quotes answers.")
    ] = False,
) -> None:
    """Tell what a call would cost; exit with 1 when it would be refused."""
    fields: dict[str, str | int] = {
        "model": model,
        "prompt": prompt,
        "size": size,
        "quality": quality,
        "n": n,
    }
    try:
        with refusing(config):
            catalog = catalog_from(load(config, process_environ()).settings)
        quoted = _quote(catalog, fields, references)
    except InvalidRequest as error:
        refuse(error.message)
    if json_output:
        typer.echo(json.dumps(quoted.described(), indent=2))
    else:
        for line in _lines(quoted):
            typer.echo(line)


def _quote(catalog: Catalog, fields: Mapping[str, str | int], references: int) -> CallQuote:
    today = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).date()
    asked = parse_generation(
        json.dumps(fields).encode(), FieldRules(partial(catalog.find, day=today))
    )
    model = catalog.models[asked.model].on(today)
    return quote_call(model, model.picture(asked, references=references), n=asked.n)


def _lines(quoted: CallQuote) -> Iterable[str]:
    picture = quoted.picture
    made_from = f", from {picture.references} references" if picture.references else ""
    many = f", {quoted.n} pictures" if quoted.n > 1 else ""
    yield f"{quoted.model}, {picture.size}, {picture.quality}{made_from}{many}"
    yield ""
    yield _line("at most", "held", _dollars(quoted.hold_microusd))
    tokens = quoted.tokens()
    for category, microusd in quoted.quote.by_category.items():
        counted = f"{tokens[category]} tokens" if category in tokens else ""
        yield _line(f"  {category}", counted, _dollars(microusd * quoted.n))
    yield _line("list price", "no text", _dollars(quoted.listed_microusd))
    yield ""
    for bid in quoted.bids:
        asks = None if bid.quote is None else bid.quote.total_microusd * quoted.n
        chosen = "  chosen" if bid.offer is quoted.offer else ""
        yield _line(bid.offer.provider, bid.offer.upstream_model, _dollars(asks)) + chosen


def _line(name: str, about: str, amount: str) -> str:
    return f"{name:<18} {about:>16} {amount:>14}"


def _dollars(microusd: int | None) -> str:
    return "no price" if microusd is None else f"${format_usd(microusd)}"
