"""One heap of due times for all tasks of the process, and a cap of polls at once per provider."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Coroutine

from gateway.background import Background
from gateway.domain.clock import Clock

#: One poll of one task.
PollStep = Callable[[], Coroutine[object, object, None]]


class Poller:
    """Starts each scheduled poll when it is due; a poll schedules its own successor."""

    def __init__(self, clock: Clock, background: Background, *, max_concurrent: int) -> None:
        self._clock = clock
        self._background = background
        self._due: list[tuple[float, int, str, PollStep]] = []
        self._order = itertools.count()
        self._earlier = asyncio.Event()
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(max_concurrent)
        )

    def schedule(self, provider: str, delay_s: float, step: PollStep) -> None:
        """Run `step` in `delay_s` seconds, or when the provider has a free slot after that."""
        due_s = self._clock.monotonic_s() + delay_s
        heapq.heappush(self._due, (due_s, next(self._order), provider, step))
        if self._due[0][0] == due_s:
            self._earlier.set()

    async def run(self) -> None:
        """Start due polls for ever."""
        while True:
            self._earlier.clear()
            wait_s = self._start_due()
            try:
                async with asyncio.timeout(wait_s):
                    await self._earlier.wait()
            except TimeoutError:
                pass

    def _start_due(self) -> float | None:
        """Start what is due and return the seconds until the next is; None when there is none."""
        while self._due:
            due_s, _, provider, step = self._due[0]
            wait_s = due_s - self._clock.monotonic_s()
            if wait_s > 0:
                return wait_s
            heapq.heappop(self._due)
            self._background.step("poll", self._in_slot(provider, step))
        return None

    async def _in_slot(self, provider: str, step: PollStep) -> None:
        async with self._slots[provider]:
            await step()
