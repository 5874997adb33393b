"""Brings back what the store has forgotten of a task that this process knows (design rule 18).

A store that fails over may come back without writes it had acknowledged. A record that is missing,
or that stands where it stood before, is therefore no sign that somebody else decides by now: only
a later epoch is, or another owner of the same one. Whoever owns the task brings the record up to
what it remembers, over budget if need be: an order that may have been taken cannot be taken back.
"""

from __future__ import annotations

from functools import partial

import structlog

from gateway.domain.task import Task
from gateway.ledger.organization import Organization
from gateway.ledger.outbox import Outbox
from gateway.tasks import records
from gateway.tasks.interface import RecordMissingError, TaskStore
from gateway.tasks.live import LiveTask
from gateway.tasks.patience import until_stored
from gateway.tasks.shelf import Shelf

log = structlog.get_logger(__name__)


class Restoring:
    """Restores the records, the money and the notes of tasks."""

    def __init__(
        self, store: TaskStore, organization: Organization, outbox: Outbox, shelf: Shelf
    ) -> None:
        self._store = store
        self._organization = organization
        self._outbox = outbox
        self._shelf = shelf

    async def restore(self, live: LiveTask) -> bool:
        """Bring the store up to what is remembered of a task; tell whether anything was missing.

        However long the store takes. Counts nothing: what it settles was counted when it was
        settled first. Raises OwnershipLostError.
        """
        task, behind = live.current, False
        while True:
            restored = await until_stored(partial(self._store.restore, task, live.call))
            behind = behind or restored.behind
            try:
                for index in restored.unsettled:
                    before, ending = records.ended_by(task.renders[index])
                    await until_stored(partial(self._store.conclude, task, before, ending))
            except RecordMissingError:
                continue  # forgotten once more
            break
        if self._organization.has_budgets:
            await until_stored(partial(self._restore_shared, task))
        if behind:
            log.critical("record_restored", action="record_restored", task=task.id, team=task.team)
            await self.note_again(live)
        return behind

    @property
    def is_shared(self) -> bool:
        """Whether money is also held elsewhere than in the team's slot."""
        return self._organization.has_budgets

    async def _restore_shared(self, task: Task) -> None:
        parts = {str(render.index): task.hold.amount_microusd for render in task.renders}
        await self._organization.restore(task.id, task.team, parts, task.created_ms)
        self._outbox.note(task.team)

    async def note_again(self, live: LiveTask) -> None:
        """Repeat what was noted of a task beside its money; notes change nothing twice."""
        task, call = live.task, live.call
        if call is not None and live.left:
            leave = partial(
                self._store.leave, task.team, task.id, place=task.call, waiter=call.waiter
            )
            await until_stored(leave)
        for render in live.current.renders:
            if render.result is not None and (render.result.stored or render.result.lost):
                self._shelf.stored(task.team, task.id, render.index, render.result.stored)
        if live.delivered:
            self._shelf.delivered(task.team, task.id)
