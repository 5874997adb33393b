"""`gateway usage --budgets`: how the budgets of teams and keys stand now."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.table import Table

from gateway.cli.books import Books, Format, in_books
from gateway.cli.tables import print_whole
from gateway.domain.money import format_usd
from gateway.ledger.holds import Standing
from gateway.service.amounts import standing_fields

_COLUMNS = ("team", "key", "budget", "per", "limit", "topped_up", "spent", "held", "remaining")
_NAMES = 4


def tell_budgets(config: Path, team: str, output: Format) -> None:
    """Print every budget of a team (empty: of all) with its figures; limits hold top-ups."""

    async def read(books: Books) -> tuple[Standing, ...]:
        return await (books.budgets.of(team) if team else books.budgets.all())

    standings = in_books(config, read)
    if output is Format.JSON:
        typer.echo(json.dumps([standing_fields(each) for each in standings], indent=2))
    elif output is Format.CSV:
        csv.writer(sys.stdout, lineterminator="\n").writerows(_rows(standings))
    else:
        print_whole(_table(standings))


def _rows(standings: Sequence[Standing]) -> Iterator[list[str]]:
    """Yield a header and a row for each budget; amounts are dollars."""
    money = [f"{name}_usd" for name in _COLUMNS[_NAMES:]]
    yield [*_COLUMNS[:_NAMES], *money, "resets_at"]
    for standing in standings:
        yield _cells(standing)


def _table(standings: Sequence[Standing]) -> Table:
    table = Table(box=None)
    for index, name in enumerate(_COLUMNS):
        money = index >= _NAMES
        title = f"{name.replace('_', ' ')} $" if money else name
        table.add_column(title, justify="right" if money else "left")
    table.add_column("resets at")
    for standing in standings:
        table.add_row(*_cells(standing))
    return table


def _cells(standing: Standing) -> list[str]:
    state = standing.state
    amounts = (
        state.limit_microusd,
        state.topped_up_microusd,
        state.spent_microusd,
        state.held_microusd,
        state.remaining_microusd,
    )
    ends = ""
    if state.resets_at_ms is not None:
        ends = f"{datetime.fromtimestamp(state.resets_at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    names = [standing.team, state.owner, state.name, state.per]
    return [*names, *map(format_usd, amounts), ends]
