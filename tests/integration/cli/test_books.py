from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import typer

from gateway.cli.books import Books, in_books, refuse
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.store.client import Store
from gateway.store.keyspace import ledger_key, teams_index_key
from tests.support.ledger import WriteBooks
from tests.support.valkey import ValkeyProcess

DESIGN, SEARCH = TeamId("design"), TeamId("search")


async def _teams(books: Books) -> list[TeamId]:
    return await books.teams()


def test_teams_are_those_of_the_file_and_of_the_store(
    config: Path, write_books: WriteBooks, valkey_process: ValkeyProcess
) -> None:
    """In order and each once. One that is neither, any more, still has its books."""

    async def enter() -> None:
        async with Store(valkey_process.url, timeout_ms=15_000) as store:
            await store.command("SADD", teams_index_key(), "search", "design")
            await store.command("XADD", ledger_key(TeamId("gone")), "*", "an", "entry")

    async def only(books: Books) -> list[TeamId]:
        return await books.teams("gone")

    assert [DESIGN] == in_books(config, _teams)
    asyncio.run(enter())

    assert [DESIGN, SEARCH] == in_books(config, _teams)
    assert [TeamId("gone")] == in_books(config, only)


def test_a_team_that_never_was(
    config: Path, write_books: WriteBooks, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that was mistyped is not told to be in order."""
    with pytest.raises(typer.Exit) as ended:
        in_books(config, lambda books: books.teams("desing"))

    assert (1, "gateway: There is no team 'desing', and there are no books of it.\n") == (
        ended.value.exit_code,
        capsys.readouterr().err,
    )


def test_a_file_that_is_wrong(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every mistake is a line on standard error, and the exit code is 1."""
    config.write_text("[redis]\nprot = 1\n[server]\nport = 'x'\n")
    with pytest.raises(typer.Exit) as ended:
        in_books(config, _teams)
    lines = capsys.readouterr().err.splitlines()

    assert (1, 3) == (ended.value.exit_code, len(lines))
    assert lines[0].endswith("config.toml cannot be used:")


def test_a_store_that_does_not_answer(
    config: Path, write_books: WriteBooks, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says so."""

    async def fail(_books: Books) -> None:
        raise StoreUnavailable

    with pytest.raises(typer.Exit) as ended:
        in_books(config, fail)

    assert (
        1,
        "gateway: the store that redis.url names did not answer within redis.timeout.\n",
    ) == (
        ended.value.exit_code,
        capsys.readouterr().err,
    )


def test_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line names the program, on standard error."""
    with pytest.raises(typer.Exit) as ended:
        refuse("one", "two")

    assert (1, "gateway: one\ngateway: two\n") == (ended.value.exit_code, capsys.readouterr().err)
