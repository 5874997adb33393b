"""The end of a server's life: no new pictures, but those that are waited for are handed out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.errors import ShuttingDown


class Drain:
    """Counts the calls that wait for a picture, and lets no more in once it has begun."""

    def __init__(self) -> None:
        self._calls = 0
        self._begun = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def check(self) -> None:
        """Raise ShuttingDown once draining has begun: readiness turns red with it."""
        if self._begun:
            raise ShuttingDown

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count one call while it waits. Raises ShuttingDown once draining has begun."""
        if self._begun:
            raise ShuttingDown
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def finish(self, timeout_s: float) -> int:
        """Begin draining and return how many calls still wait when time is up, or none do."""
        self._begun = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        return self._calls
