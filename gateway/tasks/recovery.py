"""Takes over the tasks that nobody sees to.

Those of replicas that are gone, those that were handed over, and those of this replica that it
does not run (their admission ran, its answer was lost).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.tasks.engine import Engine
from gateway.tasks.interface import TaskStore
from gateway.tasks.records import UnreadableTaskError
from gateway.tasks.replica import Replica
from gateway.tasks.shelf import Shelf
from gateway.tasks.wake import Kind, Message

log = structlog.get_logger(__name__)

#: Seconds between two looks, however few teams there are; each team costs one round trip.
EVERY_S = 2.0
TEAMS_PER_S = 50
#: How often a replica looks for tasks of its own that it does not run, and how long one of them
#: must have been found so: an admission or the noting of its pictures may still be on its way.
AUDIT_EVERY_S = 15.0


class Recovery:
    """Looks after every team's tasks, again and again."""

    def __init__(
        self, store: TaskStore, engine: Engine, replica: Replica, shelf: Shelf, clock: Clock
    ) -> None:
        self._store = store
        self._engine = engine
        self._replica = replica
        self._shelf = shelf
        self._clock = clock
        self._now = asyncio.Event()
        self._audited_s = clock.monotonic_s()
        self._idle: set[TaskId] = set()
        self._stopped = False

    def hear(self, message: Message) -> None:
        """Look at once when another replica has handed its tasks over."""
        if message.kind is Kind.HANDED_OVER:
            self._now.set()

    def stop(self) -> None:
        """Take nothing over any more: this replica is about to end."""
        self._stopped = True

    async def run(self) -> None:
        """Look for ever."""
        while True:
            pause_s = EVERY_S
            # What is heard while it looks may be of a team that it has passed: it looks again.
            self._now.clear()
            with suppress(StoreUnavailable):
                teams = await self._look()
                pause_s = max(EVERY_S, teams / TEAMS_PER_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._now.wait()

    async def _look(self) -> int:
        """Take over what nobody sees to; return how many teams there are."""
        teams = await self._store.teams()
        is_audit = self._clock.monotonic_s() - self._audited_s >= AUDIT_EVERY_S
        found: set[TaskId] = set()
        for team in teams:
            # First whoever is alive says what this store may have forgotten.
            await self._engine.reconciler.catch_up(team)
            for owner in await self._store.owners(team):
                if self._stopped:
                    return len(teams)
                if owner == self._replica.id:
                    found |= await self._audit(team) if is_audit else set()
                elif not owner or self._replica.is_gone(owner):
                    for task in await self._store.owned(team, owner):
                        await self._take(team, task, owner)
        if is_audit:
            self._audited_s = self._clock.monotonic_s()
            self._idle = found
        return len(teams)

    async def _audit(self, team: TeamId) -> set[TaskId]:
        """Run tasks of ours that were found idle twice; return those that are idle now."""
        idle = set()
        for task in await self._store.owned(team, self._replica.id):
            if self._is_known(task) or self._shelf.holds(team, task):
                continue
            if task in self._idle:
                await self._take(team, task, self._replica.id)
            else:
                idle.add(task)
        return idle

    def _is_known(self, task: TaskId) -> bool:
        """Tell whether this process knows more of a task than its record can tell."""
        engine = self._engine
        return task in engine.running or engine.reconciler.remembered(task) is not None

    async def _take(self, team: TeamId, task: TaskId, owner: str) -> None:
        if self._stopped or not self._replica.may_submit() or self._is_known(task):
            return
        try:
            taken = await self._store.take(team, task, owner=owner)
        except UnreadableTaskError as error:
            reason = str(error)
            log.critical("task_unreadable", action="task_unreadable", task=task, reason=reason)
            return
        if taken is not None:
            self._engine.adopt(taken)
