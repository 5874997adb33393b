"""`gateway migrate`: what is stored, by schema, and brought to the schemas of this release."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import orjson
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from gateway.access import records as accounts
from gateway.cli.books import books_on, refuse
from gateway.cli.opened_store import opened_store
from gateway.cli.options import SETTINGS, Config, Json
from gateway.config.load import Loaded, load, process_environ
from gateway.config.problems import ConfigError
from gateway.domain import task as tasks
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import ORGANIZATION, TaskId, TeamId
from gateway.ledger import checkpoint
from gateway.ledger.entries import UnreadableEntryError, parse_entry
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from gateway.store.data_dir import EmbeddedServerError
from gateway.store.keyspace import (
    account_key,
    active_teams_key,
    callback_key,
    callbacks_key,
    checkpoint_key,
    task_key,
    tasks_key,
)
from gateway.store.migration import Kind, Record, migrate, read_record
from gateway.store.replies import texts_of

#: How many names of records are read at once.
PAGE = 500


def _written(record: Record) -> tuple[int, ...]:
    return (int(record["schema"]),) if record else ()


def _of_account(record: Record) -> tuple[int, ...]:
    """Return the schemas of the team's settings and of each of its keys."""
    parts = [text for name, text in record.items() if name == "team" or name.startswith("key:")]
    return tuple(int(orjson.loads(text)["schema"]) for text in parts)


def _of_callback(record: Record) -> tuple[int, ...]:
    """Return 1 for all there are: they will say a schema once there is a second one."""
    return (int(record.get("schema", "1")),) if record else ()


TASKS = Kind("tasks", tasks.SCHEMA, _written)
ACCOUNTS = Kind("accounts", accounts.SCHEMA, _of_account)
CHECKPOINTS = Kind("ledger checkpoints", checkpoint.SCHEMA, _written)
CALLBACKS = Kind("callbacks", 1, _of_callback)
KINDS = (TASKS, ACCOUNTS, CHECKPOINTS, CALLBACKS)

#: Entries of ledgers are never rewritten; one whose verb is not known here is of a newer release.
ENTRIES, ENTRY_SCHEMA = "ledger entries", 1


@dataclass(frozen=True, slots=True)
class Found:
    """How many records of a kind have a schema; None is that of those that say none."""

    kind: str
    schema: int | None
    records: int
    current: int
    oldest: int

    @property
    def problem(self) -> str:
        """Why nothing may be changed, if it is so."""
        if self.schema is None:
            return f"{self.kind}: {self.records} say no schema; no release has written them so."
        if self.schema > self.current:
            return (
                f"{self.kind}: {self.records} are of schema {self.schema}, of a newer release;"
                f" this one writes {self.current}."
            )
        if self.schema < self.oldest:
            return (
                f"{self.kind}: {self.records} are of schema {self.schema}; this release brings on"
                f" those from {self.oldest} on: run the migration of a release between first."
            )
        return ""


@dataclass(frozen=True, slots=True)
class Result:
    """What was found, and how many records were brought to this release's schemas."""

    found: tuple[Found, ...]
    migrated: int

    @property
    def problems(self) -> list[str]:
        """Why nothing was changed, if it is so."""
        return [one.problem for one in self.found if one.problem]

    @property
    def older(self) -> int:
        """How many records were of a former schema."""
        return sum(
            one.records for one in self.found if one.schema is not None and one.schema < one.current
        )


def migrate_command(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what there is; change nothing.")
    ] = False,
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Bring what is stored to this release's schemas, while gateways go on.

    Tells what there is, by kind and schema. What a newer release has written is refused with exit
    code 1, and nothing is changed then.
    """
    try:
        loaded = load(config, process_environ())
        with (
            Console(stderr=True).status("reading what is stored"),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            result = runner.run(_run(loaded, dry_run=dry_run))
    except ConfigError as error:
        refuse(f"{config} cannot be used:", *(str(problem) for problem in error.problems))
    except EmbeddedServerError as error:
        refuse(str(error))
    except StoreUnavailable:
        refuse("the store did not answer in time; run it again, what was done stays done.")
    if json_output:
        told = {"found": [asdict(one) for one in result.found], "migrated": result.migrated}
        typer.echo(json.dumps(told, indent=2))
    else:
        _print(result, dry_run=dry_run)
    if result.problems:
        refuse(*result.problems, "nothing was changed.")


async def _run(loaded: Loaded, *, dry_run: bool) -> Result:
    async with opened_store(loaded) as store:
        teams = await _teams(store, loaded)
        found = await survey(store, teams)
        result = Result(found, 0)
        if dry_run or result.problems or not result.older:
            return result
        return Result(found, await bring(store, teams, KINDS))


async def _teams(store: Store, loaded: Loaded) -> list[TeamId]:
    active = await store.command("SMEMBERS", active_teams_key())
    names = {TeamId(name) for name in texts_of(active)}
    return sorted(names | {*await books_on(store, loaded).teams(), ORGANIZATION})


async def survey(store: Store, teams: Sequence[TeamId]) -> tuple[Found, ...]:
    """Return what these teams and the organization have, by kind and schema."""
    found = []
    for kind in KINDS:
        counts: Counter[int | None] = Counter()
        for team in teams:
            async for key in _keys(store, kind, team):
                counts.update(_schemas(kind, await read_record(store, key)))
        found += _found(kind.name, counts, kind.schema, kind.oldest)
    books, entries = RedisBooks(store), Counter[int | None]()
    for team in teams:
        async for entry in books.entries(team):
            try:
                parse_entry(entry)
            except UnreadableEntryError:
                entries[ENTRY_SCHEMA + 1] += 1
            else:
                entries[ENTRY_SCHEMA] += 1
    return (*found, *_found(ENTRIES, entries, ENTRY_SCHEMA, ENTRY_SCHEMA))


async def bring(store: Store, teams: Sequence[TeamId], kinds: Sequence[Kind]) -> int:
    """Bring all records of these kinds to their schemas; return how many were changed."""
    changed = 0
    for kind in kinds:
        for team in teams:
            async for key in _keys(store, kind, team):
                changed += await migrate(store, kind, key)
    return changed


def _schemas(kind: Kind, record: Record) -> Collection[int | None]:
    try:
        return kind.schemas_of(record)
    except (KeyError, ValueError):
        return (None,)


def _found(kind: str, counts: Mapping[int | None, int], current: int, oldest: int) -> list[Found]:
    rows = [Found(kind, schema, counts[schema], current, oldest) for schema in counts]
    none = Found(kind, current, 0, current, oldest)
    return sorted(rows, key=lambda row: row.schema or 0) or [none]


async def _keys(store: Store, kind: Kind, team: TeamId) -> AsyncIterator[str]:
    match kind.name:
        case TASKS.name:
            async for name in _members(store, tasks_key(team)):
                yield task_key(team, TaskId(name))
        case CALLBACKS.name:
            async for name in _members(store, callbacks_key(team)):
                yield callback_key(team, name)
        case ACCOUNTS.name:
            yield account_key(team)
        case _:
            yield checkpoint_key(team)


async def _members(store: Store, key: str) -> AsyncIterator[str]:
    """Yield every member of a sorted set that is there all the while, some of them twice."""
    cursor = 0
    while True:
        reply: Any = await store.command("ZSCAN", key, cursor, "COUNT", PAGE)
        cursor, page = int(reply[0]), reply[1]
        for name, _ in page:
            yield name.decode()
        if cursor == 0:
            return


def _print(result: Result, *, dry_run: bool) -> None:
    table = Table(box=None)
    table.add_column("kind", no_wrap=True)
    for name in ("schema", "records"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in result.found:
        table.add_row(one.kind, "none" if one.schema is None else str(one.schema), str(one.records))
    Console().print(table)
    if result.problems:
        return
    if not result.older:
        typer.echo("Everything is of this release's schemas: there is nothing to do.")
    elif dry_run:
        typer.echo(
            f"{result.older} are of a former schema: gateway migrate brings them to this one."
        )
    else:
        typer.echo(f"{result.migrated} records were brought to this release's schemas.")
