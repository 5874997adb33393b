"""The polls of all tasks of the process: each at its time, or when its turn has come.

A provider has so many polls at once, and where a process cannot manage all that are wanted, they
begin at the pace that it keeps up, in the order in which they were wanted (`domain/pace.py`). What
cannot wait (a callback has announced the end) comes first. What a provider's account allows is
another matter (`poll_rate.py`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from gateway.background import Background
from gateway.domain.clock import Clock
from gateway.domain.pace import Pace

#: One poll of one task.
PollStep = Callable[[], Coroutine[object, object, None]]

#: Waits until a provider's account may be polled once more.
Take = Callable[[str], Coroutine[object, object, None]]


#: Is told how many seconds after its turn a provider's poll starts, and how many it was put off.
Observe = Callable[[str, float, float], None]


async def _at_once(_provider: str) -> None:
    """Let every poll go ahead."""


def _unnoticed(_provider: str, _late_s: float, _put_off_s: float) -> None:
    """Let polls be late."""


@dataclass(slots=True, eq=False)
class Due:
    """One poll that is waiting for its time."""

    wanted_s: float
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


@dataclass(slots=True, eq=False)
class _Lane:
    """The polls of one provider: those that wait, by when they are wanted, and those under way."""

    provider: str
    pace: Pace = field(default_factory=Pace)
    waiting: list[tuple[float, int, Due]] = field(default_factory=list)
    urgent: deque[Due] = field(default_factory=deque)
    running: int = 0


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
        self._max_concurrent = max_concurrent
        self._lanes: dict[str, _Lane] = {}
        self._order = itertools.count()
        self._wakes_s = -math.inf
        self._earlier = asyncio.Event()

    def schedule(self, provider: str, delay_s: float, step: PollStep) -> Due:
        """Run `step` in `delay_s` seconds, or when the provider has a free slot after that."""
        lane = self._lane(provider)
        due = Due(self._clock.monotonic_s() + delay_s, step, lambda due: self._hasten(lane, due))
        heapq.heappush(lane.waiting, (due.wanted_s, next(self._order), due))
        self._wake_at(due.wanted_s)
        return due

    def per_s(self, provider: str) -> float:
        """Return the pace at which a provider's polls begin; infinite where none is put off."""
        return self._lane(provider).pace.per_s or math.inf

    def _lane(self, provider: str) -> _Lane:
        lane = self._lanes.get(provider)
        if lane is None:
            lane = self._lanes[provider] = _Lane(provider)
        return lane

    def _hasten(self, lane: _Lane, due: Due) -> None:
        # Whichever entry comes up first starts it, and the other is passed over.
        due.wanted_s = self._clock.monotonic_s()
        lane.urgent.append(due)
        self._wake_at(due.wanted_s)

    def _wake_at(self, at_s: float) -> None:
        if at_s < self._wakes_s:
            self._earlier.set()

    async def run(self) -> None:
        """Start due polls for ever."""
        while True:
            self._earlier.clear()
            self._wakes_s = min(map(self._start_due, self._lanes.values()), default=math.inf)
            wait_s = self._wakes_s - self._clock.monotonic_s()
            try:
                async with asyncio.timeout(None if math.isinf(wait_s) else wait_s):
                    await self._earlier.wait()
            except TimeoutError:
                pass

    def _start_due(self, lane: _Lane) -> float:
        """Start what has its turn; return when the next has, infinity when no time brings it."""
        while lane.running < self._max_concurrent:
            now_s = self._clock.monotonic_s()
            due = self._next_of(lane)
            if due is None:
                return math.inf
            turn_s = due.wanted_s if lane.urgent else lane.pace.turn_s(due.wanted_s)
            if turn_s > now_s:
                return turn_s
            if lane.urgent:
                lane.urgent.popleft()
            else:
                heapq.heappop(lane.waiting)
            due.waiting = False
            lane.pace.take(turn_s, due.wanted_s)
            lane.running += 1
            self._background.step("poll", self._poll(lane, due, turn_s))
        return math.inf

    @staticmethod
    def _next_of(lane: _Lane) -> Due | None:
        """Return the poll that is to come first; those that nobody waits for are passed over."""
        while lane.urgent:
            if lane.urgent[0].waiting:
                return lane.urgent[0]
            lane.urgent.popleft()
        while lane.waiting:
            if lane.waiting[0][2].waiting:
                return lane.waiting[0][2]
            heapq.heappop(lane.waiting)
        return None

    async def _poll(self, lane: _Lane, due: Due, turn_s: float) -> None:
        try:
            await self._take(lane.provider)
            now_s = self._clock.monotonic_s()
            late_s = max(now_s - turn_s, 0.0)
            lane.pace.begun(late_s, now_s)
            self._observe(lane.provider, late_s, turn_s - due.wanted_s)
            await due.step()
        finally:
            lane.running -= 1
            self._wake_at(self._start_due(lane))
