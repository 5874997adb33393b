"""Pictures that are to be gone before their time: one task's, or all of an end user."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.assets.interface import AssetStore, AssetUnavailableError
from gateway.domain.errors import InternalError, NotFound, TaskRunning
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.references import reference_key
from gateway.domain.task import Task, picture_key
from gateway.ledger.holds import user_hash
from gateway.tasks.forgetting import Forgetting
from gateway.tasks.records import UnreadableTaskError

#: A picture that has just been stored, perhaps elsewhere, is noted about a second later.
NOTED_WITHIN_S, LOOK_EVERY_S = 3.0, 0.2

#: Reads a task out of the journal.
ReadTask = Callable[[TeamId, TaskId], Awaitable[Task | None]]


@dataclass(frozen=True, slots=True)
class Purged:
    """How many tasks are gone, and which are not because they are not over."""

    deleted: int
    running: tuple[TaskId, ...]


async def _nothing() -> None:
    """Write nothing down."""


class Deletion:
    """Deletes tasks with their pictures, prompts and links; what they cost stays in the ledger.

    `flush` writes down what this process knows of stored pictures. Every method raises
    StoreUnavailable, and InternalError while pictures cannot be deleted.
    """

    def __init__(
        self,
        read: ReadTask,
        forgetting: Forgetting,
        assets: AssetStore,
        *,
        flush: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._read = read
        self._forgetting = forgetting
        self._assets = assets
        self._flush = flush

    async def delete(self, team: TeamId, task: str) -> None:
        """Delete a task of a team. Raises NotFound, and TaskRunning while it is not over."""
        await self._flush()
        found = await self._over(team, TaskId(task))
        if found is None:
            raise NotFound(f"There is no task '{task[:100]}'.", param="id", code="task_not_found")
        if not await self._delete(found):
            raise TaskRunning

    async def purge(self, team: TeamId, user: str) -> Purged:
        """Delete the tasks of an end user, as calls of the team named them."""
        deleted, running = 0, []
        for task in await self._forgetting.tasks_of(team, user_hash(team, user)):
            found = await self._over(team, task)
            if found is not None and not await self._delete(found):
                running.append(task)
            else:
                deleted += 1
        return Purged(deleted, tuple(running))

    async def _over(self, team: TeamId, task: TaskId) -> Task | None:
        """Read a task, once what there is to know of its pictures is written down."""
        read = None
        for _ in range(round(NOTED_WITHIN_S / LOOK_EVERY_S)):
            try:
                read = await self._read(team, task)
            except UnreadableTaskError:
                return None
            # Where one is not done yet there is more to wait for than a note.
            if read is None or read.over or any(one.result is None for one in read.renders):
                return read
            await asyncio.sleep(LOOK_EVERY_S)
        return read

    async def _delete(self, task: Task) -> bool:
        if not task.over:
            return False
        keys = [picture_key(task.team, task.id, render.index) for render in task.renders]
        keys += [reference_key(task.team, each) for each in task.brought.kept if each.place]
        try:
            # First: killed in between, the task still says what there is to delete.
            await self._assets.remove(keys)
        except AssetUnavailableError as error:
            raise InternalError from error
        return await self._forgetting.forget(task)
