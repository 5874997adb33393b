"""Waiting for the store: scripts are idempotent, so a call is repeated until it is answered."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.domain.errors import StoreUnavailable
from gateway.domain.schedule import backoff_s

T = TypeVar("T")


async def until_stored(call: Callable[[], Awaitable[T]]) -> T:
    """Call the store until it answers; return the answer."""
    for failures in itertools.count(1):
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(backoff_s(failures, first_s=0.05, cap_s=1.0))
    raise AssertionError("the loop only ends by returning")
