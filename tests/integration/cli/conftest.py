"""What the commands that read the books are tested on: a settings file, and books in a store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.store.client import Store
from tests.support.ledger import BookWriter, WriteBooks
from tests.support.valkey import ValkeyProcess


@pytest.fixture
def write_books(valkey_process: ValkeyProcess) -> WriteBooks:
    """Empty the store; return what writes entries of team design, from outside of any loop."""

    async def run(entries: tuple[Mapping[str, str], ...], *, empty: bool = False) -> list[str]:
        async with Store(valkey_process.url, timeout_ms=15_000) as store:
            if empty:
                await store.command("FLUSHALL")
            writer = BookWriter(store)
            return [await writer.write(fields) for fields in entries]

    asyncio.run(run((), empty=True))
    return lambda *entries: asyncio.run(run(entries))


@pytest.fixture
def emptied(valkey_process: ValkeyProcess) -> None:
    """Empty the store, from outside of any loop."""

    async def flush() -> None:
        async with Store(valkey_process.url, timeout_ms=15_000) as store:
            await store.command("FLUSHALL")

    asyncio.run(flush())


@pytest.fixture
def config(valkey_process: ValkeyProcess, tmp_path: Path) -> Path:
    """Write a settings file with that store and one team."""
    path = tmp_path / "config.toml"
    path.write_text(f'[redis]\nurl = "{valkey_process.url}"\n[teams.design]\n', encoding="utf-8")
    return path
