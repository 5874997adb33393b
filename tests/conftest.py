"""What the whole suite shares: the product's event loop, and a real Valkey server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop

from gateway.store.client import Store
from tests.support.valkey import ValkeyProcess, run_valkey


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test on the loop the product runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def valkey_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    """Start one real server for the session."""
    with run_valkey(tmp_path_factory.mktemp("valkey")) as process:
        yield process


@pytest.fixture
async def store(valkey_process: ValkeyProcess) -> AsyncIterator[Store]:
    """Connect to the session's server, emptied."""
    async with Store(valkey_process.url, timeout_ms=2_000) as opened:
        await opened.command("FLUSHALL")
        yield opened
