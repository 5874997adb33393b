"""What the tests of the books share."""

from __future__ import annotations

import pytest

from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from tests.support.ledger import BookWriter


@pytest.fixture
def books(store: Store) -> RedisBooks:
    """Open the books in the emptied store."""
    return RedisBooks(store)


@pytest.fixture
def writer(store: Store) -> BookWriter:
    """Write to the same store."""
    return BookWriter(store)
