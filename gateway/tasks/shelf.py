"""Notes, a little later and many at once, that pictures are in the asset store.

A picture that is stored but not yet noted costs recovery one look into the asset store, never
money; so these notes are gathered for a moment instead of adding a round trip to every picture.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.tasks.interface import TaskStore

#: How long notes are gathered, and how many go into one script at most.
FLUSH_EVERY_S = 1.0
MAX_PER_CALL = 256


class Shelf:
    """Gathers ids of tasks whose picture is stored and writes them down once a second."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._pending: defaultdict[TeamId, set[TaskId]] = defaultdict(set)

    def note(self, team: TeamId, task: TaskId) -> None:
        """Remember to write down that this task needs nobody any more."""
        self._pending[team].add(task)

    async def flush(self) -> None:
        """Write down what was noted; what the store does not take stays for the next time."""
        for team in list(self._pending):
            while waiting := self._pending[team]:
                batch = list(waiting)[:MAX_PER_CALL]
                await self._store.shelve(team, batch)
                waiting.difference_update(batch)
            del self._pending[team]

    async def run(self) -> None:
        """Flush once a second for ever."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            try:
                await self.flush()
            except StoreUnavailable:
                continue
