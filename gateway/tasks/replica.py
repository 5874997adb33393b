"""This process among the other replicas: whether it may act, and who is gone.

Every replica renews its place in one sorted set; that costs the same however many tasks it has.
A store that stalls makes every place run out at once, so a replica is taken for gone only after
our own renewals have gone well for as long as a place lasts, and it was missing all the while
(design rule 7).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.keyspace import replicas_key
from gateway.store.replies import texts_of
from gateway.store.scripts import load_script

#: A place is renewed this often while it lasts.
RENEWALS = 5
#: Without a renewal for this share of it, nothing is submitted: somebody may be about to take over.
SUBMIT_SHARE = 0.7
#: After so many leases nothing is remembered of a replica that is not there.
FORGET_AFTER_LEASES = 10


@dataclass(frozen=True, slots=True)
class Attendance:
    """The replicas that may still be alive; all others are gone, if they came a lease ago."""

    present: frozenset[str]
    lease_ms: int


class Replica:
    """The place of process `id` in the store, which lasts `lease_s` from each renewal."""

    def __init__(self, store: Store, clock: Clock, *, id: str, lease_s: float) -> None:  # noqa: A002 - what it is
        self.id = id
        self.lease_s = lease_s
        self._store = store
        self._clock = clock
        self._renew = load_script("tasks/lua/renew.lua")
        self._alive: frozenset[str] = frozenset()
        self._renewed_s: float | None = None
        self._steady_since_s = 0.0
        self._seen_s: dict[str, float] = {}
        self._asked_s: dict[str, float] = {}

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            await self.renew()
            await asyncio.sleep(self.lease_s / RENEWALS)

    async def renew(self) -> None:
        """Renew once; a store that does not answer is noticed by the age of the last renewal."""
        try:
            reply = await self._call("1")
        except StoreUnavailable:
            return
        now_s = self._clock.monotonic_s()
        if self._renewed_s is None or now_s - self._renewed_s > self._submit_within_s:
            self._steady_since_s = now_s
        self._renewed_s = now_s
        self._alive = reply
        self._seen_s |= dict.fromkeys(reply, now_s)
        for replica, seen_s in list(self._seen_s.items()):
            if now_s - seen_s > FORGET_AFTER_LEASES * self.lease_s:
                del self._seen_s[replica]
        for replica, asked_s in list(self._asked_s.items()):
            if replica in reply or now_s - asked_s > FORGET_AFTER_LEASES * self.lease_s:
                del self._asked_s[replica]

    async def leave(self) -> None:
        """Give the place up: this process takes no task any more. Raises StoreUnavailable."""
        await self._call("0")

    async def _call(self, renew: str) -> frozenset[str]:
        reply = await self._store.run(
            self._renew, [replicas_key()], [self.id, round(self.lease_s * 1000), renew]
        )
        return frozenset(texts_of(reply))

    @property
    def others(self) -> frozenset[str]:
        """The other replicas that were alive at the last renewal."""
        return self._alive - {self.id}

    def unsettle(self) -> None:
        """Take nobody for gone by what was seen so far: the store is not the one it was."""
        self._steady_since_s = self._clock.monotonic_s()

    def may_submit(self) -> bool:
        """Tell whether our place is certainly still ours."""
        return self._age_s() <= self._submit_within_s

    def is_gone(self, replica: str) -> bool:
        """Tell whether a replica has been missing for so long that its tasks may be taken."""
        if replica in self._alive or self._renewed_s is None or not self.may_submit():
            return False
        now_s = self._clock.monotonic_s()
        # One that nobody has heard of may have come since we last looked.
        if self._asked_s.setdefault(replica, now_s) >= self._renewed_s:
            return False
        missing_since_s = max(self._steady_since_s, self._seen_s.get(replica, 0.0))
        return now_s - missing_since_s >= self.lease_s

    def attendance(self) -> Attendance | None:
        """Return who may still be alive, by the rules of `is_gone`; None while nobody can tell."""
        now_s = self._clock.monotonic_s()
        if not self.may_submit() or now_s - self._steady_since_s < self.lease_s:
            return None
        lately = {name for name, seen_s in self._seen_s.items() if now_s - seen_s < self.lease_s}
        return Attendance(self._alive | lately | {self.id}, round(self.lease_s * 1000))

    @property
    def _submit_within_s(self) -> float:
        return SUBMIT_SHARE * self.lease_s

    def _age_s(self) -> float:
        if self._renewed_s is None:
            return float("inf")
        return self._clock.monotonic_s() - self._renewed_s
