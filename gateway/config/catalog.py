"""The models that the settings offer, made of the packaged catalogue and of what they add to it.

Routes in the settings choose which providers serve a model; each offer of a provider's kind then
becomes offers of that provider, one for each operation.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from importlib.resources import files

from gateway.config.catalog_rows import STANDARD, CatalogRows, ModelRow, OfferRow
from gateway.config.problems import Place, Problem, did_you_mean, dotted
from gateway.config.provider_settings import ProviderSettings
from gateway.config.settings import ModelSettings, Settings
from gateway.domain.catalog import Catalog, Model, Offer
from gateway.domain.latency import Lognormal
from gateway.domain.price_books import written


@cache
def packaged() -> CatalogRows:
    """Return the catalogue that comes with this release."""
    text = files("gateway.config").joinpath("catalog.toml").read_text(encoding="utf-8")
    return CatalogRows.model_validate(tomllib.loads(text, parse_float=Decimal))


def catalog_from(settings: Settings) -> Catalog:
    """Return the models of this release that the settings route, with their own; see `routed`."""
    return routed(settings, packaged())


def routed(settings: Settings, known: CatalogRows) -> Catalog:
    """Return the models that the settings route, offers in the order of their routes.

    A model without a route is not offered. The settings have no `catalog_problems`, and have passed
    `rules.py`: every route exists, and every model is known or told.
    """
    rows = merged(settings, known)
    return Catalog(
        models={name: _model(name, settings, rows) for name in settings.models},
        aliases={alias: name for name, told in settings.models.items() for alias in told.aliases},
    )


def merged(settings: Settings, known: CatalogRows) -> CatalogRows:
    """Return the models that are routed and all prices; what the settings say goes before."""
    return CatalogRows.model_construct(
        models={name: _row(told, known.models.get(name)) for name, told in settings.models.items()},
        prices={**known.prices, **settings.prices},
        output_tokens={**known.output_tokens, **settings.output_tokens},
    )


def catalog_problems(settings: Settings, known: CatalogRows) -> list[Problem]:
    """Return what is wrong with the models that the settings add or change, as a whole."""
    rows = merged(settings, known)
    return [
        *_name_problems(settings),
        *(
            problem
            for name, told in settings.models.items()
            if told.offers is not None or told.default_size or told.default_quality
            for problem in _model_problems(("models", name), rows.models[name], rows)
        ),
        *(
            Problem(
                dotted(("prices", name, "output_tokens")),
                f"no such block of tokens; {did_you_mean(sheet.output_tokens, rows.output_tokens)}",
            )
            for name, sheet in settings.prices.items()
            if sheet.form == "tokens" and sheet.output_tokens not in rows.output_tokens
        ),
    ]


def _name_problems(settings: Settings) -> Iterator[Problem]:
    seen = dict.fromkeys(settings.models, "the name of a model")
    for name, told in settings.models.items():
        for index, alias in enumerate(told.aliases):
            path = dotted(("models", name, "aliases", index))
            if alias in seen:
                yield Problem(path, f"this is {seen[alias]} already")
            seen.setdefault(alias, f"an alias of {name}")


def _model_problems(place: Place, row: ModelRow, rows: CatalogRows) -> Iterator[Problem]:
    for index, offer in enumerate(row.offers):
        if offer.prices not in rows.prices:
            path = dotted((*place, "offers", index, "prices"))
            yield Problem(path, f"no such prices; {did_you_mean(offer.prices, rows.prices)}")
    if not any(offer.size_rule().allows(row.default_size) for offer in row.offers):
        yield Problem(dotted((*place, "default_size")), "expected a size that an offer makes")
    if not any(row.default_quality in qualities_of(offer) for offer in row.offers):
        yield Problem(dotted((*place, "default_quality")), "expected a quality that an offer makes")


def qualities_of(row: OfferRow) -> tuple[str, ...]:
    """Return the qualities of an offer: one where there are none to choose from."""
    return row.qualities or (STANDARD,)


def _row(told: ModelSettings, known: ModelRow | None) -> ModelRow:
    changes = {
        field: value
        for field in ModelRow.model_fields
        if (value := getattr(told, field)) not in (None, "")
    }
    return (
        ModelRow.model_construct(**changes) if known is None else known.model_copy(update=changes)
    )


def _model(name: str, settings: Settings, rows: CatalogRows) -> Model:
    row = rows.models[name]
    return Model(
        name=name,
        created_s=row.created.unix_s,
        owned_by=row.owned_by,
        default_size=row.default_size,
        default_quality=row.default_quality,
        unpriced_hold_microusd=settings.models[name].unpriced_hold_microusd,
        successor=row.successor,
        openai=row.openai.rules(),
        offers=tuple(
            offer
            for provider in settings.models[name].routes
            for offered in row.offers
            if offered.kind == settings.providers[provider].kind
            for offer in _offers(offered, provider, settings.providers[provider], rows)
        ),
    )


def _offers(
    row: OfferRow, name: str, provider: ProviderSettings, rows: CatalogRows
) -> Iterator[Offer]:
    book = rows.book(row.prices, provider.credits_per_usd)
    kept = written(book)
    for operation in row.operations:
        yield Offer(
            provider=name,
            upstream_model=row.upstream_model,
            operation=operation,
            sizes=row.size_rule(),
            qualities=qualities_of(row),
            book=book,
            prompt=row.prompt_limits(),
            max_references=row.max_references,
            masks=row.masks,
            formats=row.formats,
            transparent=row.transparent,
            wording=row.told(),
            channel=row.channel,
            retires=row.retires,
            latency={
                believed.quality: Lognormal(believed.median_s, believed.sigma)
                for believed in row.latency
            },
            written=kept,
        )
