from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import migrate as migration
from gateway.cli.main import app
from gateway.store.client import Store
from gateway.store.migration import Kind, Record
from tests.support.factories import an_admission
from tests.support.journal import a_journal, admitted
from tests.support.valkey import ValkeyProcess

Write = Callable[[Callable[[Store], Awaitable[object]]], None]
TASK = "{t:design}:task:task1"


@pytest.fixture
def write(valkey_process: ValkeyProcess) -> Write:
    """Empty the store and write a task of team design; return what changes the store further."""

    async def run(work: Callable[[Store], Awaitable[object]], *, first: bool = False) -> None:
        async with Store(valkey_process.url, timeout_ms=15_000) as store:
            if first:
                await store.command("FLUSHALL")
                await admitted(a_journal(store), an_admission("task1"))
            await work(store)

    async def account(store: Store) -> None:
        key = '{"schema":1,"digest":"00"}'
        await store.command("HSET", "{t:design}:account", "version", "v", "key:web", key)

    asyncio.run(run(account, first=True))
    return lambda work: asyncio.run(run(work))


def migrate(config: Path, *options: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["migrate", "--config", str(config), *options])


def counts(result: Result) -> dict[tuple[str, int | None], int]:
    """Return what was found, without what there is none of."""
    told = json.loads(result.stdout)["found"]
    return {(row["kind"], row["schema"]): row["records"] for row in told if row["records"]}


EVERYTHING = {("tasks", 1): 1, ("accounts", 1): 1, ("ledger entries", 1): 1}


def test_where_all_is_of_this_release_there_is_nothing_to_do(write: Write, config: Path) -> None:
    """Every kind is told, by schema; as a dry run and without."""
    for options in ([], ["--dry-run"]):
        told, shown = migrate(config, "--json", *options), migrate(config, *options)
        assert (0, EVERYTHING) == (told.exit_code, counts(told))
        assert (0, 0) == (json.loads(told.stdout)["migrated"], shown.exit_code)
        assert "there is nothing to do." in shown.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("HSET", TASK, "schema", "2"), "tasks: 1 are of schema 2, of a newer release"),
        (
            ("HSET", "{t:design}:account", "key:app", '{"schema":3}'),
            "accounts: 1 are of schema 3, of a newer release",
        ),
        (
            ("XADD", "{t:design}:ledger", "*", "verb", "barter", "op", "o", "windows", "[]"),
            "ledger entries: 1 are of schema 2, of a newer release",
        ),
        (
            ("HSET", "{org}:ledger:checkpoint", "schema", "2", "last", "1-0"),
            "ledger checkpoints: 1 are of schema 2, of a newer release",
        ),
        (("HDEL", TASK, "schema"), "tasks: 1 say no schema"),
        (("HSET", TASK, "schema", "0"), "run the migration of a release between first"),
    ],
)
def test_what_this_release_does_not_write_is_refused(
    write: Write, config: Path, words: tuple[str, ...], expected: str
) -> None:
    """By name, with exit code 1; nothing is changed."""
    write(lambda store: store.command(*words))
    refused = migrate(config)

    assert 1 == refused.exit_code
    assert expected in refused.stderr
    assert "nothing was changed." in refused.stderr


def test_former_records_are_brought_on(
    write: Write, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a later release has a step: told by a dry run, done once, with a store that goes on."""

    def step(record: Record) -> Record:
        return {**record, "schema": "2", "colour": "red"}

    later = Kind("tasks", 2, migration.TASKS.schemas_of, {1: step})
    monkeypatch.setattr(migration, "KINDS", (later, *migration.KINDS[1:]))
    before, done, again = migrate(config, "--dry-run"), migrate(config), migrate(config, "--json")

    assert "1 are of a former schema" in before.stdout
    assert "1 records were brought to this release's schemas." in done.stdout
    assert {("tasks", 2): 1, **dict(list(EVERYTHING.items())[1:])} == counts(again)
    assert 0 == json.loads(again.stdout)["migrated"]
