"""Compares what this process knows of its tasks with what the store says of them.

Again and again, and before anything else once a server of the store has failed: the one that
answers now may have been promoted without the last writes of the one before. Tasks that are over
are remembered until a comparison that began long enough after their end has found them as they are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.tasks.interface import OwnershipLostError, TaskStore
from gateway.tasks.live import LiveTask, MovedError
from gateway.tasks.replica import Replica
from gateway.tasks.restoring import Restoring

log = structlog.get_logger(__name__)

#: Seconds between two comparisons while all is well; tasks that are compared in one script.
EVERY_S = 15.0
AT_ONCE = 256
#: How often it is looked whether the store is in doubt: as often as a number is read.
LOOK_EVERY_S = 0.2
#: How long a task that is over is remembered at least: longer than replicas may lag behind.
REMEMBER_S = 20.0
#: For so long after another server has come, a retry whose task is not found is not taken for a
#: call of its own: whoever knows the task may be about to write it again.
SETTLING_S = 3.0


class Leave(Protocol):
    """Stops running a task whose end will not be seen here."""

    def __call__(self, live: LiveTask, error: MovedError) -> None:
        """Stop running it; `error` is what its waiters are told."""
        ...


@dataclass(slots=True)
class _Team:
    """What is known of the server of a team: its run, and the doubts there were by then."""

    doubts: int = -1
    server: str = ""
    moved_s: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Reconciler:
    """Keeps the store as this process knows its tasks; `running` are those it runs."""

    def __init__(
        self,
        store: TaskStore,
        restoring: Restoring,
        replica: Replica,
        clock: Clock,
        *,
        running: Mapping[TaskId, LiveTask],
        leave: Leave,
    ) -> None:
        self._store = store
        self._restoring = restoring
        self._replica = replica
        self._clock = clock
        self._running = running
        self._leave = leave
        self._over: dict[TaskId, tuple[LiveTask, float]] = {}
        self._teams: defaultdict[TeamId, _Team] = defaultdict(_Team)

    def remember(self, live: LiveTask) -> None:
        """Take in a task that is over. What it was ordered with is not needed any more."""
        live.task = replace(live.task, order=replace(live.task.order, body={}))
        self._over[live.task.id] = (live, self._clock.monotonic_s())

    def remembered(self, task: TaskId) -> LiveTask | None:
        """Return a task that is over and not forgotten yet."""
        found = self._over.get(task)
        return None if found is None else found[0]

    def is_behind(self, team: TeamId) -> bool:
        """Tell whether the store has been in doubt since this team's tasks were compared."""
        return self._teams[team].doubts != self._store.doubts

    def is_owing(self, team: TeamId) -> bool:
        """Tell whether the store may lack something of this team that is known here."""
        return self._teams[team].doubts >= 0 and self.is_behind(team)

    def is_settling(self, team: TeamId) -> bool:
        """Tell whether other replicas may still be about to write their tasks again."""
        return self._clock.monotonic_s() - self._teams[team].moved_s < SETTLING_S

    async def catch_up(self, team: TeamId) -> None:
        """Compare this team's tasks if the store has been in doubt. Raises StoreUnavailable."""
        if self.is_behind(team):
            async with self._teams[team].lock:
                if self.is_behind(team):
                    await self._compare(team)

    async def compare(self, team: TeamId) -> None:
        """Compare this team's tasks. Raises StoreUnavailable."""
        async with self._teams[team].lock:
            await self._compare(team)

    async def run(self) -> None:
        """Compare for ever."""
        compared_s = self._clock.monotonic_s()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            is_due = self._clock.monotonic_s() - compared_s >= EVERY_S
            if is_due:
                compared_s = self._clock.monotonic_s()
            for team in self._known_teams():
                try:
                    await (self.compare(team) if is_due else self.catch_up(team))
                except StoreUnavailable:
                    continue  # of a shard that is away; other teams have others

    def _known_teams(self) -> Sequence[TeamId]:
        """Return teams with tasks here, and those whose server was known."""
        mine = {live.task.team for live in self._running.values()}
        return sorted({*mine, *(live.task.team for live, _ in self._over.values()), *self._teams})

    async def _compare(self, team: TeamId) -> None:
        known = self._teams[team]
        doubts, began_s = self._store.doubts, self._clock.monotonic_s()
        tasks = [live for live in self._running.values() if live.task.team == team]
        over = [live for live, _ in self._over.values() if live.task.team == team]
        tasks += over
        for first in range(0, max(len(tasks), 1), AT_ONCE):
            batch = tasks[first : first + AT_ONCE]
            standings = await self._store.standings(team, [live.task.id for live in batch])
            is_doubted = known.doubts != doubts
            moved = self._has_moved(team, known, standings.server, is_doubted=is_doubted)
            for live, standing in zip(batch, standings.tasks, strict=True):
                if standing is None or standing.is_behind(live.current):
                    await self._restore(live, is_gone=standing is None)
                elif standing.is_of_another(live.task):
                    self._let_go(live)
                elif moved:
                    await self._refresh(live)
        # Whatever came up meanwhile is looked at next time.
        known.doubts = doubts
        for live in over:
            if began_s - self._over[live.task.id][1] >= REMEMBER_S:
                del self._over[live.task.id]

    def _has_moved(self, team: TeamId, known: _Team, server: str, *, is_doubted: bool) -> bool:
        """Tell whether another server answers than before; one that does not tell might be."""
        is_other = server != known.server if server else is_doubted
        is_first = known.doubts < 0 and not known.server
        known.server = server
        if not is_other or is_first:
            return False
        log.warning("store_changed", action="store_changed", team=team)
        known.moved_s = self._clock.monotonic_s()
        # Who is gone by what this server says may only have been forgotten by it.
        self._replica.unsettle()
        return True

    async def _refresh(self, live: LiveTask) -> None:
        """Repeat what another server than the record's may have lost, and what is only noted."""
        await self._restoring.note_again(live)
        if self._restoring.is_shared:
            await self._restore(live, is_gone=False)

    async def _restore(self, live: LiveTask, *, is_gone: bool) -> None:
        if is_gone and self._may_have_expired(live):
            return
        try:
            await self._restoring.restore(live)
        except OwnershipLostError:
            self._let_go(live)

    def _may_have_expired(self, live: LiveTask) -> bool:
        """Tell whether a record was perhaps kept for as long as it should be."""
        ended = self._over.get(live.task.id)
        if ended is None:
            return False
        # Half of it, for its end was written down before it was noted here.
        keep_s = (live.task.keep_ms or self._store.keep_ms) / 2000
        return self._clock.monotonic_s() - ended[1] >= keep_s

    def _let_go(self, live: LiveTask) -> None:
        if self._running.get(live.task.id) is live:
            self._leave(live, MovedError())
