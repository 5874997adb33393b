"""What the tests of the engine and its parts share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.store.client import Store
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.engine import House, open_house
from tests.support.journal import TroubledStore, a_journal
from tests.support.valkey import ValkeyProcess


@pytest.fixture
async def house(store: Store) -> AsyncIterator[House]:
    """Run an engine; by default the upstream accepts and is done at the first poll."""
    async with open_house(store) as opened:
        yield opened


@pytest.fixture
def tasks(store: Store) -> RedisTaskStore:
    """Keep tasks in the real server."""
    return a_journal(store)


@pytest.fixture
async def troubled(store: Store, valkey_process: ValkeyProcess) -> AsyncIterator[TroubledStore]:
    """Connect to the emptied store, for accidents to happen."""
    async with TroubledStore(valkey_process.url) as opened:
        yield opened
