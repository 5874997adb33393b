"""A cap on the polls of one account per second, shared by all replicas.

A replica leases times for its next polls, many in one script, and hands them to its polls in
turn: no round trip for each. Of several replicas each gets its part by how many polls it has
waiting. When the store does not answer, a replica goes on at its even part of the cap: polling
costs no money, and what was submitted must be followed.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.keyspace import poll_rate_key
from gateway.store.scripts import load_script

#: Leases of one account are at least this far apart.
LEASE_EVERY_S = 0.2
#: No time is leased further ahead than this, and one that passed longer ago is not used.
HORIZON_S = 1.0
#: A replica that asks for nothing counts this long.
FRESH_S = 3.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Times for `polls` polls, the first in `first_in_s`; `replicas` share the account."""

    polls: int
    first_in_s: float
    replicas: int


@dataclass(slots=True, eq=False)
class _Lane:
    """One account here: who waits, the leased times, and how many came by lately.

    `after_s` is one interval after the last time that was leased.
    """

    rate: float
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    times_s: deque[float] = field(default_factory=deque)
    after_s: float = 0.0
    replicas: int = 1
    arrived: int = 0
    expected: float = 0.0

    def wanted(self) -> int:
        """Return how many times to lease: for who waits, and as many as lately came by."""
        return max(len(self.waiting) + math.ceil(self.expected) - len(self.times_s), 0)

    def foresee(self) -> None:
        """Expect as many arrivals before the next lease as there were before this one."""
        self.expected = 0.5 * (self.expected + self.arrived)
        if self.expected < 0.1:  # noqa: PLR2004 - nobody comes any more
            self.expected = 0.0
        self.arrived = 0


class PollRates:
    """Makes polls wait for their turn; accounts without a cap never wait."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        replica: str,
        polls_per_second: Mapping[str, float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._lease_polls = load_script("tasks/lua/lease_polls.lua")
        self._lanes = {
            provider: _Lane(rate) for provider, rate in polls_per_second.items() if rate > 0
        }
        self._wake = asyncio.Event()

    async def take(self, provider: str) -> None:
        """Return when one more poll of this provider's account may start."""
        lane = self._lanes.get(provider)
        if lane is None:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        lane.arrived += 1
        self._wake.set()
        await turn

    async def run(self) -> None:
        """Lease times and hand them out for ever; sleeps while nobody polls.

        When it is stopped, whoever waits goes ahead: a stop must not wait for turns.
        """
        try:
            await self._keep_leasing()
        finally:
            lanes, self._lanes = self._lanes, {}
            for turn in (turn for lane in lanes.values() for turn in lane.waiting):
                if not turn.done():
                    turn.set_result(None)

    async def _keep_leasing(self) -> None:
        while True:
            self._wake.clear()
            for provider, lane in self._lanes.items():
                await self._fill(provider, lane)
            leased_s = self._clock.monotonic_s()
            while (wait_s := self._hand_out(leased_s + LEASE_EVERY_S)) is not None:
                await self._woken(wait_s)
            if not any(lane.waiting or lane.expected for lane in self._lanes.values()):
                await self._wake.wait()

    async def _woken(self, wait_s: float) -> None:
        """Return when somebody comes, or after `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def lease(self, provider: str, *, wanted: int, rate: float) -> Lease:
        """Lease up to `wanted` times for polls. Raises StoreUnavailable."""
        arguments = (
            self._replica,
            wanted,
            f"{rate:.6f}",
            round(HORIZON_S * 1000),
            round(FRESH_S * 1000),
        )
        reply = await self._store.run(self._lease_polls, [poll_rate_key(provider)], arguments)
        match reply:
            case [int(polls), bytes(first_in_ms), int(replicas)]:
                return Lease(polls, float(first_in_ms) / 1000, replicas)
        raise TypeError("lease_polls answers two numbers and a text")

    async def _fill(self, provider: str, lane: _Lane) -> None:
        lane.foresee()
        wanted = lane.wanted()
        if not wanted:
            return
        interval_s = 1.0 / lane.rate
        try:
            lease = await self.lease(provider, wanted=wanted, rate=lane.rate)
            lane.replicas = lease.replicas
        except StoreUnavailable:
            interval_s *= lane.replicas
            lease = self._own_part(lane, wanted, interval_s)
        first_s = self._clock.monotonic_s() + lease.first_in_s
        lane.times_s.extend(first_s + interval_s * number for number in range(lease.polls))
        if lease.polls:
            lane.after_s = lane.times_s[-1] + interval_s

    def _own_part(self, lane: _Lane, wanted: int, interval_s: float) -> Lease:
        """Return what this replica gives itself, after the times it already has."""
        first_in_s = max(lane.after_s - self._clock.monotonic_s(), 0.0)
        fitting = math.floor((HORIZON_S - first_in_s) / interval_s) + 1
        return Lease(max(min(wanted, fitting), 0), first_in_s, lane.replicas)

    def _hand_out(self, until_s: float) -> float | None:
        """Start who may start now; return seconds until the next look, None from `until_s` on."""
        now_s = self._clock.monotonic_s()
        due_s = until_s
        for lane in self._lanes.values():
            while lane.times_s and lane.times_s[0] < now_s - HORIZON_S:
                lane.times_s.popleft()
            while lane.waiting and lane.times_s and lane.times_s[0] <= now_s:
                turn = lane.waiting.popleft()
                # Who went away meanwhile leaves its time to the next.
                if not turn.done():
                    lane.times_s.popleft()
                    turn.set_result(None)
            if lane.waiting and lane.times_s:
                due_s = min(due_s, lane.times_s[0])
        return due_s - now_s if now_s < until_s else None
