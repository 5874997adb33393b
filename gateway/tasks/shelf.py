"""Notes, a little later and many at once, that pictures are stored and answers have left.

A picture that is stored but not yet noted costs recovery one more copy of it, never money; so
these notes are gathered for a moment instead of adding a round trip to every picture.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import StoredPicture
from gateway.tasks.interface import CALLBACK, ShelfNote, TaskStore
from gateway.tasks.records import LOST, stored_note

#: How long notes are gathered, and how many go into one script at most.
FLUSH_EVERY_S = 1.0
MAX_PER_CALL = 256


class Shelf:
    """Gathers what is to be noted of tasks, and writes it down once a second."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._pending: defaultdict[TeamId, dict[TaskId, ShelfNote]] = defaultdict(dict)
        self._leaving: set[TaskId] = set()
        self._one_at_a_time = asyncio.Lock()

    def stored(
        self, team: TeamId, task: TaskId, render: int, picture: StoredPicture | None
    ) -> None:
        """Remember that a render's picture is in the asset store; None: that it never will be."""
        text = LOST if picture is None else stored_note(picture)
        self._note(team, task).stored[str(render)] = text

    def called_back(self, team: TeamId, task: TaskId) -> None:
        """Remember that the callback of a task was written down, to be delivered."""
        self._note(team, task).stored[CALLBACK] = "queued"

    def delivered(self, team: TeamId, task: TaskId) -> None:
        """Remember that the answer with this task's pictures has left."""
        self._note(team, task).delivered = True

    def fetched(self, team: TeamId, task: TaskId, renders: Iterable[int]) -> None:
        """Remember that somebody has got these pictures, whoever waits for the task's answer."""
        self._note(team, task).fetched.update(renders)

    def holds(self, team: TeamId, task: TaskId) -> bool:
        """Tell whether something of this task has not been written down yet."""
        return task in self._pending.get(team, ()) or task in self._leaving

    def holds_any(self, team: TeamId) -> bool:
        """Tell whether something of any task of a team has perhaps not been written."""
        return bool(self._pending.get(team)) or bool(self._leaving)

    def _note(self, team: TeamId, task: TaskId) -> ShelfNote:
        return self._pending[team].setdefault(task, ShelfNote())

    async def flush(self) -> None:
        """Write down what was remembered; what the store does not take stays for the next time.

        What another flush has in hand is written when this one returns.
        """
        async with self._one_at_a_time:
            await self._flush()

    async def _flush(self) -> None:
        for team in list(self._pending):
            while waiting := self._pending[team]:
                batch = dict(list(waiting.items())[:MAX_PER_CALL])
                # Taken out first: what is remembered meanwhile must not be lost with it.
                for task in batch:
                    del waiting[task]
                self._leaving.update(batch)
                try:
                    await self._store.shelve(team, batch)
                except StoreUnavailable:
                    self._put_back(team, batch)
                    raise
                finally:
                    self._leaving.difference_update(batch)
            del self._pending[team]

    def _put_back(self, team: TeamId, batch: dict[TaskId, ShelfNote]) -> None:
        for task, note in batch.items():
            newer = self._note(team, task)
            newer.stored = note.stored | newer.stored
            newer.delivered = note.delivered or newer.delivered
            newer.fetched |= note.fetched

    async def run(self) -> None:
        """Flush once a second for ever."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            try:
                await self.flush()
            except StoreUnavailable:
                continue
