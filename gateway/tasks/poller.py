"""One heap of due times for all tasks of the process, and caps of polls for each provider."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from gateway.background import Background
from gateway.domain.clock import Clock

#: One poll of one task.
PollStep = Callable[[], Coroutine[object, object, None]]

#: Waits until a provider's account may be polled once more.
Take = Callable[[str], Coroutine[object, object, None]]


#: Is told how many seconds after its time a provider's poll starts.
Observe = Callable[[str, float], None]


async def _at_once(_provider: str) -> None:
    """Let every poll go ahead."""


def _unnoticed(_provider: str, _late_s: float) -> None:
    """Let polls be late."""


@dataclass(slots=True, eq=False)
class Due:
    """One poll that is waiting for its time."""

    provider: str
    step: PollStep
    hasten: Callable[[Due], None]
    waiting: bool = True

    def hurry(self) -> None:
        """Let it be due now; nothing happens when it has been started."""
        if self.waiting:
            self.hasten(self)

    def drop(self) -> None:
        """Let it never be started."""
        self.waiting = False


class Poller:
    """Starts each scheduled poll when it is due; a poll schedules its own successor."""

    def __init__(
        self,
        clock: Clock,
        background: Background,
        *,
        max_concurrent: int,
        take: Take = _at_once,
        observe: Observe = _unnoticed,
    ) -> None:
        self._clock = clock
        self._take = take
        self._observe = observe
        self._background = background
        self._due: list[tuple[float, int, Due]] = []
        self._order = itertools.count()
        self._earlier = asyncio.Event()
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(max_concurrent)
        )

    def schedule(self, provider: str, delay_s: float, step: PollStep) -> Due:
        """Run `step` in `delay_s` seconds, or when the provider has a free slot after that."""
        due = Due(provider, step, self._hasten)
        self._push(self._clock.monotonic_s() + delay_s, due)
        return due

    def _hasten(self, due: Due) -> None:
        # Whichever entry comes up first starts it, and the other is passed over.
        self._push(self._clock.monotonic_s(), due)

    def _push(self, due_s: float, due: Due) -> None:
        heapq.heappush(self._due, (due_s, next(self._order), due))
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
            due_s, _, due = self._due[0]
            wait_s = due_s - self._clock.monotonic_s()
            if due.waiting and wait_s > 0:
                return wait_s
            heapq.heappop(self._due)
            if due.waiting:
                due.waiting = False
                self._background.step("poll", self._in_slot(due, due_s))
        return None

    async def _in_slot(self, due: Due, due_s: float) -> None:
        async with self._slots[due.provider]:
            await self._take(due.provider)
            self._observe(due.provider, max(self._clock.monotonic_s() - due_s, 0.0))
            await due.step()
