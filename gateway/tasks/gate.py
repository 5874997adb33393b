"""One upstream account as this replica sees it: who waits for room there, and who has it.

Nothing here knows Redis. `Permits` is what all replicas share; a gate asks it for many renders at
once and tells it of many that left at once, one call at a time, so that what it tells arrives in
order. A render holds a permit from before its submit until it is over.

    enter ── waits ── asked for ── granted: held ── leave ── told to the store within 50 ms
               │          │
               └──────────┴ cancelled or too late: gives back what it may have got
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.fairness import FairQueue
from gateway.domain.ids import TeamId
from gateway.domain.schedule import MAX_RETRY_AFTER_S, backoff_s

#: How long permits that are given back are gathered, so that many go in one call.
TELL_WITHIN_S = 0.05
#: How many renders are asked for, or given back, in one call at most.
MAX_PER_CALL = 256
#: How many are asked for when the last answer was that there is no room: enough for what little
#: may have become free, without sending hundreds of names in vain several times a second.
MIN_PER_CALL = 16


class DeadlinePassedError(Exception):
    """A render's turn did not come in time; it holds nothing and was not submitted."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an account may be given, over all replicas; 0 submits per second is no fixed pace."""

    max_in_flight: int
    max_submits_per_second: int


@dataclass(frozen=True, slots=True)
class Permit:
    """The right of one render to be in flight at an account."""

    render_id: str
    team: TeamId


@dataclass(frozen=True, slots=True)
class Granted:
    """Which of those asked for hold a permit, and when to ask again for the others.

    `full` tells that they wait for room and not for the pace. `pace_version` is told to
    `slow_down` by whoever is refused by the upstream at this pace.
    """

    render_ids: frozenset[str]
    wait_s: float
    full: bool
    pace_version: int


class Permits(Protocol):
    """The permits of all replicas. Every verb may be repeated; all raise StoreUnavailable."""

    async def acquire(self, account: str, capacity: Capacity, wanted: Sequence[Permit]) -> Granted:
        """Grant permits in this order as far as there is room; a held one is granted again."""
        ...

    async def register(self, account: str, permits: Sequence[Permit]) -> None:
        """Write down renders that are in flight already, whether there is room or not."""
        ...

    async def release(self, account: str, render_ids: Sequence[str]) -> None:
        """Give permits back; those that are not held do not matter."""
        ...

    async def slow_down(
        self, account: str, capacity: Capacity, *, pace_version: int, pause_s: float
    ) -> None:
        """Lower the pace unless it was lowered since, and submit nothing for `pause_s`."""
        ...

    async def holders(self, account: str) -> Sequence[Permit]:
        """Return every permit of the account."""
        ...


@dataclass(slots=True, eq=False)
class _Waiter:
    """A render in the queue. `asked`: the store may have granted it a permit."""

    permit: Permit
    turn: asyncio.Future[None]
    asked: bool = False


@dataclass(frozen=True, slots=True)
class _Held:
    """A render that is in flight, and the version of the pace it was let through at."""

    permit: Permit
    pace_version: int


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An upstream's 429: at which pace, and until when (monotonic) it wants to be left alone."""

    pace_version: int
    resume_s: float


class Gate:
    """Lets the renders of this replica through to one account, in fair order."""

    def __init__(self, account: str, capacity: Capacity, permits: Permits, clock: Clock) -> None:
        self._account = account
        self._capacity = capacity
        self._permits = permits
        self._clock = clock
        self._queue: FairQueue[_Waiter] = FairQueue()
        #: Those that wait here and hold a permit there: asked for before others, or they would
        #: keep their places empty until the rotation comes to them.
        self._ask_first: dict[_Waiter, None] = {}
        self._held: dict[str, _Held] = {}
        self._leaving: set[str] = set()
        self._adopted: dict[str, Permit] = {}
        self._refusal: _Refusal | None = None
        self._pace_version = 0
        self._per_call = MAX_PER_CALL
        self._full = False
        self._ask_at_s = -math.inf
        self._tell_at_s = math.inf
        self._failures = 0
        self._paused_until_s = -math.inf
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many renders wait."""
        return len(self._queue)

    @property
    def held(self) -> tuple[Permit, ...]:
        """What this replica has in flight here."""
        return tuple(held.permit for held in self._held.values())

    async def enter(self, permit: Permit, deadline_s: float, *, returning: bool = False) -> float:
        """Wait for a permit and return the seconds it took; at once when it is held already.

        `returning` puts a render before its team's others: it had its turn, and the upstream did
        not take it. Raises DeadlinePassedError after `deadline_s` seconds.
        """
        if permit.render_id in self._held:
            return 0.0
        entered_s = self._clock.monotonic_s()
        waiter = _Waiter(permit, asyncio.get_running_loop().create_future())
        self._queue.push(permit.team, waiter, first=returning)
        self._changed.set()
        try:
            async with asyncio.timeout(deadline_s):
                await waiter.turn
        except TimeoutError:
            self._withdraw(waiter)
            raise DeadlinePassedError from None
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        return self._clock.monotonic_s() - entered_s

    def _withdraw(self, waiter: _Waiter) -> None:
        """Take back a wish, and whatever may have been granted to it meanwhile."""
        if waiter.turn.done() and not waiter.turn.cancelled():
            self.leave(waiter.permit.render_id)
            return
        self._queue.remove(waiter.permit.team, waiter)
        if waiter.asked:
            self._give_back([waiter.permit.render_id])

    def resize(self, capacity: Capacity) -> None:
        """Ask for permits within another capacity from now on."""
        if capacity != self._capacity:
            self._capacity = capacity
            self._ask_at_s = -math.inf
            self._changed.set()

    def leave(self, render_id: str) -> None:
        """Give up a render's permit; also of one that another replica let through."""
        self._held.pop(render_id, None)
        self._adopted.pop(render_id, None)
        self._give_back([render_id])

    def forget(self, render_id: str) -> None:
        """Stop answering for a render that is another replica's now; its permit stays."""
        self._held.pop(render_id, None)
        self._adopted.pop(render_id, None)

    def adopt(self, permit: Permit) -> None:
        """Answer for a render that is in flight already, whether there is room for it or not."""
        self._hold(permit)
        self._leaving.discard(permit.render_id)
        self._adopted[permit.render_id] = permit
        self._tell_in(TELL_WITHIN_S)

    def slow_down(self, render_id: str, retry_after_s: float | None) -> None:
        """Lower the pace that this render was let through at: the upstream answered it 429."""
        held = self._held.get(render_id)
        version = self._pace_version if held is None else held.pace_version
        pause_s = min(max(retry_after_s or 0.0, 0.0), MAX_RETRY_AFTER_S)
        refusal = _Refusal(version, self._clock.monotonic_s() + pause_s)
        if self._refusal is not None:
            # Only the newest pace can still be lowered; the longest pause holds.
            refusal = _Refusal(
                max(version, self._refusal.pace_version),
                max(refusal.resume_s, self._refusal.resume_s),
            )
        self._refusal = refusal
        self._tell_in(0.0)

    def correct(self, stored: Collection[str], gone: Iterable[str]) -> None:
        """Take over how the store and the records compare.

        `stored` are the renders that hold a permit there, `gone` those that are over: they lose
        theirs, here too. What is in flight here and has none in the store, which may have lost it,
        is written down again.
        """
        gone = list(gone)
        for render_id in gone:
            self.forget(render_id)
        self._give_back(gone)
        lost = [held.permit for held in self._held.values()]
        self._adopted |= {one.render_id: one for one in lost if one.render_id not in stored}
        if self._adopted:
            self._tell_in(TELL_WITHIN_S)
        waiting = [waiter for waiter in self._queue if waiter.permit.render_id in stored]
        self._ask_first |= dict.fromkeys(waiting)
        if waiting:
            self._ask_at_s = self._clock.monotonic_s()
            self._changed.set()

    async def run(self) -> None:
        """Serve this account for ever."""
        while True:
            self._changed.clear()
            wait_s = self._due_s() - self._clock.monotonic_s()
            if wait_s <= 0:
                await self._serve()
                continue
            try:
                async with asyncio.timeout(None if wait_s == math.inf else wait_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def flush(self) -> None:
        """Tell the store now what it has not been told. Raises StoreUnavailable."""
        await self._tell()

    def _due_s(self) -> float:
        ask_at_s = self._ask_at_s if self._queue else math.inf
        return max(min(self._tell_at_s, ask_at_s), self._paused_until_s)

    async def _serve(self) -> None:
        try:
            if self._tell_at_s <= self._clock.monotonic_s():
                await self._tell()
            if self._queue and self._ask_at_s <= self._clock.monotonic_s():
                await self._ask()
        except StoreUnavailable:
            self._failures += 1
            pause_s = backoff_s(self._failures, first_s=0.1, cap_s=1.0)
            self._paused_until_s = self._clock.monotonic_s() + pause_s
        else:
            self._failures = 0

    def _tell_in(self, delay_s: float) -> None:
        self._tell_at_s = min(self._tell_at_s, self._clock.monotonic_s() + delay_s)
        self._changed.set()

    def _give_back(self, render_ids: Collection[str]) -> None:
        if render_ids:
            self._leaving.update(render_ids)
            self._tell_in(TELL_WITHIN_S)

    def _hold(self, permit: Permit) -> None:
        self._held[permit.render_id] = _Held(permit, self._pace_version)

    async def _tell(self) -> None:
        """Send what was gathered; what the store does not take stays for the next time."""
        self._tell_at_s = math.inf
        try:
            await self._tell_refusal()
            await self._tell_adopted()
            await self._tell_leaving()
        except BaseException:  # also when cancelled: what was not told is told soon again
            self._tell_in(0.0)
            raise

    async def _tell_refusal(self) -> None:
        refusal = self._refusal
        if refusal is None:
            return
        await self._permits.slow_down(
            self._account,
            self._capacity,
            pace_version=refusal.pace_version,
            pause_s=max(0.0, refusal.resume_s - self._clock.monotonic_s()),
        )
        if self._refusal is refusal:
            self._refusal = None

    async def _tell_adopted(self) -> None:
        while batch := list(self._adopted.values())[:MAX_PER_CALL]:
            await self._permits.register(self._account, batch)
            for permit in batch:
                self._adopted.pop(permit.render_id, None)

    async def _tell_leaving(self) -> None:
        while batch := list(self._leaving)[:MAX_PER_CALL]:
            await self._permits.release(self._account, batch)
            self._leaving.difference_update(batch)
            if self._full:
                self._ask_at_s = self._clock.monotonic_s()

    async def _ask(self) -> None:
        """Ask for those whose turn is next, and let through whoever was granted."""
        batch = self._next_batch()
        if any(waiter.permit.render_id in self._leaving for waiter in batch):
            # It comes back before the store heard that it left; its old permit must not count.
            await self._tell_leaving()
        for waiter in batch:
            waiter.asked = True
        granted = await self._permits.acquire(
            self._account, self._capacity, [waiter.permit for waiter in batch]
        )
        for waiter in batch:
            self._ask_first.pop(waiter, None)
        self._pace_version = granted.pace_version
        for waiter in batch:
            if waiter.permit.render_id in granted.render_ids and not waiter.turn.done():
                self._queue.serve(waiter.permit.team, waiter)
                self._hold(waiter.permit)
                waiter.turn.set_result(None)
        self._plan(granted, asked=len(batch))

    def _next_batch(self) -> list[_Waiter]:
        first = [waiter for waiter in self._ask_first if not waiter.turn.done()]
        self._ask_first = dict.fromkeys(first)
        upcoming = self._queue.upcoming(self._per_call)
        others = [waiter for waiter in upcoming if waiter not in self._ask_first]
        return [*first, *others][:MAX_PER_CALL]

    def _plan(self, granted: Granted, *, asked: int) -> None:
        """Decide when to ask next, and for how many."""
        self._full = granted.full
        if len(granted.render_ids) == asked:
            self._per_call = MAX_PER_CALL
            self._ask_at_s = -math.inf
        else:
            self._per_call = min(MAX_PER_CALL, max(MIN_PER_CALL, 2 * len(granted.render_ids)))
            self._ask_at_s = self._clock.monotonic_s() + granted.wait_s
        if self._ask_first:
            # Found to hold a permit while this answer was on its way.
            self._ask_at_s = -math.inf
