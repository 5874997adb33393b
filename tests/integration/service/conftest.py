"""What the tests of services share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.store.client import Store
from tests.support.engine import House, open_house


@pytest.fixture
async def house(store: Store) -> AsyncIterator[House]:
    """Run an engine; by default the upstream accepts and is done at the first poll."""
    async with open_house(store) as opened:
        yield opened
