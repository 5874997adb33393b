"""`gateway usage`: what was spent, from the sums that are kept beside the ledger."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table

from gateway.background import SystemClock
from gateway.cli.books import Books, Format, in_books
from gateway.cli.budgets import tell_budgets
from gateway.cli.options import SETTINGS, Config, OneTeam
from gateway.cli.tables import print_whole
from gateway.domain.errors import InvalidRequest
from gateway.domain.money import format_usd
from gateway.edge.usage import spending_fields
from gateway.ledger.rollups import Grouping, Spend
from gateway.service.usage import Days, Spending, days_of, spending


def usage(
    *,
    team: OneTeam = "",
    since: Annotated[
        str, typer.Option(help="First UTC day, such as 2026-11-01; default: the month's first.")
    ] = "",
    until: Annotated[str, typer.Option(help="Last UTC day; default: today.")] = "",
    by: Annotated[Grouping, typer.Option(help="What to tell apart.")] = Grouping.TEAM,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    json_output: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    budgets: Annotated[
        bool, typer.Option("--budgets", help="Tell how budgets stand now, instead of days.")
    ] = False,
    config: Config = SETTINGS,
) -> None:
    """Tell what teams have spent."""
    output = Format.JSON if json_output else output
    if budgets:
        tell_budgets(config, team, output)
        return
    try:
        days = days_of(since, until, now_ms=SystemClock().now_ms())
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from None

    async def read(books: Books) -> Spending:
        return await spending(books.redis, await books.teams(team), days, by)

    spent = in_books(config, read)
    if spent.complete_from is not None:
        typer.echo(f"warning: entries before {spent.complete_from} were trimmed", err=True)
    if output is Format.JSON:
        typer.echo(json.dumps(spending_fields(spent, days), indent=2))
    elif output is Format.CSV:
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows(spent))
    else:
        print_whole(_table(spent, days))


def rows(spent: Spending) -> Iterator[list[str | int]]:
    """Yield a header and a row for each group: every category that occurs has its columns."""
    categories, tokens = list(spent.total.categories_microusd), list(spent.total.tokens)
    yield [
        *(spent.by.value, "images", "cost_usd", "possible_usd", "adjusted_usd"),
        *(f"{name}_usd" for name in categories),
        *(f"{name}_tokens" for name in tokens),
    ]
    for name, spend in spent.groups.items():
        yield [
            name,
            *_figures(spend),
            *(format_usd(spend.categories_microusd.get(category, 0)) for category in categories),
            *(spend.tokens.get(category, 0) for category in tokens),
        ]


def _table(spent: Spending, days: Days) -> Table:
    table = Table(
        title=f"{days.since} to {days.until}", title_justify="left", show_footer=True, box=None
    )
    totals = ["total", *map(str, _figures(spent.total))]
    names = [spent.by.value, "images", "cost $", "of it possible $", "adjusted $"]
    for column, (name, total) in enumerate(zip(names, totals, strict=True)):
        table.add_column(name, footer=total, justify="right" if column else "left")
    for name, spend in spent.groups.items():
        table.add_row(name, *map(str, _figures(spend)))
    return table


def _figures(spend: Spend) -> list[str | int]:
    return [
        spend.images,
        format_usd(spend.cost_microusd),
        format_usd(spend.possible_microusd),
        format_usd(spend.adjusted_microusd),
    ]
