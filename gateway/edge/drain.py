"""The end of a server's life: no new pictures, but those that are waited for are handed out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gateway.domain.errors import ShuttingDown

#: How long calls that are sent away may take to be answered so.
CUT_WITHIN_S = 3.0


class Drain:
    """Counts the calls that wait for a picture, and lets no more in once it has begun."""

    def __init__(self) -> None:
        self._calls = 0
        self._begun = False
        self._idle = asyncio.Event()
        self._idle.set()
        #: Set when calls that still wait are to be sent away.
        self.cut = asyncio.Event()

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
        """Begin draining and return how many calls were sent away when time was up."""
        self._begun = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        waiting = self._calls
        self.cut.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(CUT_WITHIN_S):
                await self._idle.wait()
        return waiting
