"""What the commands that read the books share: settings in, the books open, refusals as lines."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
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
from gateway.config.load import Loaded, load, process_environ
from gateway.config.problems import ConfigError
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.redis_top_ups import RedisTopUps
from gateway.service.budgets import Budgets
from gateway.store.client import Store
from gateway.store.data_dir import EmbeddedServerError

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
        """Return the teams there are, or the one that is asked for, known or not.

        A team that was taken out of the settings still has its books.
        """
        if only:
            return [TeamId(only)]
        return sorted(self.in_file | await self.accounts.teams())


def in_books(config: Path, work: Callable[[Books], Awaitable[T]]) -> T:
    """Run a command's work on the books of the store that the settings name.

    What cannot be done is told on standard error and ends the command with 1.
    """
    try:
        loaded = load(config, process_environ())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_work(loaded, work))
    except ConfigError as error:
        refuse(f"{config} cannot be used:", *(str(problem) for problem in error.problems))
    except EmbeddedServerError as error:
        refuse(str(error))
    except StoreUnavailable:
        refuse("the store did not answer in time.")


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


async def _work(loaded: Loaded, work: Callable[[Books], Awaitable[T]]) -> T:
    async with opened_store(loaded) as store:
        return await work(books_on(store, loaded))
