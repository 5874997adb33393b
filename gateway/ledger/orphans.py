"""Holds of the organization whose task never came to be, and holds that may be forgotten.

Only the team's slot knows whether there is a task. A hold is freed when there is none *and* a
tombstone makes sure that there will be none (design rule 15); both are one script there. Holds
that are over are forgotten when the team's outbox has nothing of their task any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.ledger.organization import PAGE, Kept, Organization
from gateway.ledger.outbox import Outbox
from gateway.store.client import Store
from gateway.store.keyspace import outbox_key, task_key, tombstone_key
from gateway.store.scripts import load_script

log = structlog.get_logger(__name__)

#: How long after its admission would be refused a hold is looked at for the first time.
GRACE_MS = 30_000
#: And when again, as long as its task is there.
LOOK_AGAIN_MS = 300_000
#: How long a hold that is over is left to the gateway that settled it.
SETTLED_MS = 30_000
#: A given-up id stays given up for longer than any admission of it can be on its way.
TOMBSTONE_MS = 3_600_000
SWEEP_EVERY_S = 15.0


class Orphans:
    """Frees orphaned holds of the organization and forgets old ones."""

    def __init__(
        self,
        store: Store,
        organization: Organization,
        outbox: Outbox,
        clock: Clock,
        *,
        every_s: float = SWEEP_EVERY_S,
    ) -> None:
        self._store = store
        self._organization = organization
        self._outbox = outbox
        self._clock = clock
        self._every_s = every_s
        self._bury = load_script("ledger/lua/organization_bury.lua")
        self._owed = load_script("ledger/lua/outbox_owed.lua")

    async def sweep(self, *, grace_ms: int = GRACE_MS, settled_for_ms: int = SETTLED_MS) -> None:
        """Look after every hold that is due. Raises StoreUnavailable."""
        while holds := await self._organization.orphans(grace_ms):
            for hold in holds:
                await self._look_after(hold)
            if len(holds) < PAGE:
                break
        while holds := await self._organization.settled(settled_for_ms):
            forgotten = await self._forget(holds)
            if len(holds) < PAGE or not forgotten:
                break

    async def run(self) -> None:
        """Sweep now and then, for ever."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.sweep()
            except StoreUnavailable:
                continue

    async def _look_after(self, hold: Kept) -> None:
        verdict = await self._store.run(
            self._bury,
            [
                task_key(hold.team, hold.task),
                tombstone_key(hold.team, hold.task),
                outbox_key(hold.team),
            ],
            [hold.task, TOMBSTONE_MS],
        )
        if verdict == b"free":
            await self._organization.release(hold.task)
            log.info("orphan_freed", action="orphan_freed", team=hold.team, task=hold.task)
            return
        # First, so that one whose entry cannot be told does not keep the sweep busy.
        await self._organization.postpone(hold, self._clock.now_ms() + LOOK_AGAIN_MS)
        if verdict == b"owed":
            await self._outbox.flush(hold.team)

    async def _forget(self, holds: Sequence[Kept]) -> int:
        """Forget those that no outbox has anything of; return how many."""
        owed = {team: await self._owed_by(team, holds) for team in {hold.team for hold in holds}}
        done = [hold for hold in holds if hold.task not in owed[hold.team]]
        if done:
            await self._organization.forget(done)
        return len(done)

    async def _owed_by(self, team: TeamId, holds: Sequence[Kept]) -> frozenset[str]:
        tasks = [hold.task for hold in holds if hold.team == team]
        reply: Any = await self._store.run(self._owed, [outbox_key(team)], tasks)
        return frozenset(task.decode() for task in reply)
