"""Lets no more renders through to an upstream account than it takes, over all replicas.

`enter` before a render may be submitted, `leave` when it is over. Who waits is served first come
first served within a team and in turn between teams, so that a burst of one team keeps nobody
else waiting for more than their turn. See `gate.py` for one account, `permits.py` for the store.

Permits are a set of render ids and never a count, and every replica compares the set with the
records of tasks from time to time (design rule 22): a replica that was killed, at whichever
instruction, and an answer that was lost keep room occupied until the next such pass, not longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import structlog

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.tasks.gate import Capacity, Gate, Permit, Permits

log = structlog.get_logger(__name__)

#: How often permits are compared with the records of tasks.
RECONCILE_EVERY_S = 30.0

#: Which of these renders are not over yet, by the records of tasks, whoever owns them: queued,
#: submitting or submitted. A render that is over never becomes live again. May raise
#: StoreUnavailable.
IsLive = Callable[[Sequence[Permit]], Awaitable[Collection[str]]]


class Turnstile:
    """The ways in to all accounts. Every method raises KeyError for one that is not configured."""

    def __init__(
        self,
        accounts: Mapping[str, Capacity],
        *,
        permits: Permits,
        is_live: IsLive,
        clock: Clock,
        reconcile_every_s: float = RECONCILE_EVERY_S,
    ) -> None:
        self._permits = permits
        self._is_live = is_live
        self._reconcile_every_s = reconcile_every_s
        self._gates = {
            account: Gate(account, capacity, permits, clock)
            for account, capacity in accounts.items()
        }

    async def enter(
        self,
        account: str,
        team: TeamId,
        render_id: str,
        deadline_s: float,
        *,
        returning: bool = False,
    ) -> float:
        """Wait until the render may be submitted and return the seconds it took.

        Raises DeadlinePassedError after `deadline_s` seconds. A caller that is cancelled leaves the
        queue and holds nothing. At once for a render that this replica let through before.
        `returning`: before the team's others, for one that the upstream did not take.
        """
        permit = Permit(render_id, team)
        return await self._gates[account].enter(permit, deadline_s, returning=returning)

    def resize(self, accounts: Mapping[str, Capacity]) -> None:
        """Let as many through from now on as these say; what is in flight stays in flight."""
        for account, capacity in accounts.items():
            self._gates[account].resize(capacity)

    def leave(self, account: str, render_id: str) -> None:
        """Make room: the render is over, or will not be submitted for now."""
        self._gates[account].leave(render_id)

    def adopt(self, account: str, team: TeamId, render_id: str) -> None:
        """Answer for a render that another replica submitted, also above what the account takes."""
        self._gates[account].adopt(Permit(render_id, team))

    def forget(self, account: str, render_id: str) -> None:
        """Stop answering for a render that another replica has taken over; it keeps its permit."""
        self._gates[account].forget(render_id)

    def slow_down(self, account: str, render_id: str, retry_after_s: float | None) -> None:
        """Submit more slowly from now on, on every replica: this render's submit was answered 429.

        Of all renders let through at one pace only the first lowers it. What the upstream asks for
        holds for all of them, up to five minutes.
        """
        self._gates[account].slow_down(render_id, retry_after_s)

    def queue_length(self, account: str) -> int:
        """Return how many renders of this replica wait for this account."""
        return len(self._gates[account])

    async def run(self) -> None:
        """Serve every account, and compare its permits with the records, for ever."""
        async with asyncio.TaskGroup() as group:
            for account, gate in self._gates.items():
                group.create_task(gate.run(), name=f"gate {account}")
            group.create_task(self._reconcile_for_ever(), name="permits")

    async def flush(self) -> None:
        """Tell the store what it has not been told; for a stop, when `run` has ended.

        Raises StoreUnavailable.
        """
        for gate in self._gates.values():
            await gate.flush()

    async def reconcile(self, account: str) -> None:
        """Take the permits of renders that are over, whoever let them through.

        Raises StoreUnavailable.
        """
        gate = self._gates[account]
        held = gate.held
        stored = {permit.render_id: permit for permit in await self._permits.holders(account)}
        known = stored | {permit.render_id: permit for permit in held}
        if not known:
            return
        gone = known.keys() - await self._is_live(tuple(known.values()))
        gate.correct(stored.keys(), gone)
        if gone:
            log.info("permits_taken", action="permits_taken", account=account, renders=len(gone))

    async def _reconcile_for_ever(self) -> None:
        while True:
            for account in self._gates:
                try:
                    await self.reconcile(account)
                except StoreUnavailable:
                    continue
            await asyncio.sleep(self._reconcile_every_s)
