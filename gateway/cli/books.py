"""What the commands that read the books share: settings in, the books open, refusals as lines."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
import uvloop

from gateway.access.redis_accounts import RedisAccounts
from gateway.access.teams import AllTeams
from gateway.background import SystemClock
from gateway.cli.opened_store import opened_store
from gateway.cli.refusals import REFUSALS, lines_of
from gateway.config.load import Loaded, load, process_environ
from gateway.domain.ids import TeamId
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.redis_top_ups import RedisTopUps
from gateway.service.admin import NoSuchError
from gateway.service.budgets import Budgets
from gateway.store.client import Store

T = TypeVar("T")


class Format(StrEnum):
    """How a table is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Books:
    """The books of all teams, open for one command."""

    redis: RedisBooks
    accounts: RedisAccounts
    budgets: Budgets
    in_file: frozenset[TeamId]

    async def teams(self, only: str = "") -> list[TeamId]:
        """Return the teams there are, or the one that is asked for.

        A team that was taken out of the settings still has its books. Raises NoSuchError for one
        that has none, and is no team: its name was mistyped.
        """
        known = self.in_file | await self.accounts.teams()
        if not only:
            return sorted(known)
        team = TeamId(only)
        if team not in known and not await self.redis.has(team):
            raise NoSuchError(f"There is no team '{only}', and there are no books of it.")
        return [team]


def in_books(config: Path, work: Callable[[Books], Awaitable[T]]) -> T:
    """Run a command's work on the books of the store that the settings name, as `on_settings`."""

    async def on_books(loaded: Loaded) -> T:
        async with opened_store(loaded) as store:
            return await work(books_on(store, loaded))

    return on_settings(config, on_books)


def on_settings(config: Path, work: Callable[[Loaded], Coroutine[object, object, T]]) -> T:
    """Load the settings and run a command's work on them.

    What cannot be done is told on standard error and ends the command with 1.
    """
    with refusing(config):
        loaded = load(config, process_environ())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work(loaded))


@contextmanager
def refusing(config: Path) -> Iterator[None]:
    """End the command with 1 for what its settings, its store or its operator got wrong."""
    try:
        yield
    except REFUSALS as error:
        refuse(*lines_of(error, config))


def refuse(*lines: str) -> NoReturn:
    """End the command with 1 and say why."""
    for line in lines:
        typer.echo(f"gateway: {line}", err=True)
    raise typer.Exit(1)


def books_on(store: Store, loaded: Loaded) -> Books:
    """Return the books in a store."""
    accounts = RedisAccounts(store)
    return Books(
        redis=RedisBooks(store),
        accounts=accounts,
        budgets=Budgets(
            teams=AllTeams(loaded.settings.teams, accounts),
            ledger=RedisLedger(store, SystemClock()),
            top_ups=RedisTopUps(store),
            random_bytes=secrets.token_bytes,
        ),
        in_file=frozenset(map(TeamId, loaded.settings.teams)),
    )
