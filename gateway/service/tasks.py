"""A team's tasks: what runs, how it ended, and the pictures that nobody fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from gateway.domain.accounts import Caller
from gateway.domain.errors import NotFound
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import FailureKind, Render, RenderState, Task, picture_of
from gateway.tasks.engine import Engine
from gateway.tasks.interface import TaskStore
from gateway.tasks.records import UnreadableTaskError

#: Tasks on one page, by default and at the most.
PAGE, MAX_PAGE = 20, 100


class Status(StrEnum):
    """How a task or a render stands, as callers are told."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: It was perhaps ordered, and nobody knows: it counts as a possible charge.
    UNKNOWN = "unknown"


class TaskService:
    """Shows, lists and cancels a team's tasks. Every method raises StoreUnavailable."""

    def __init__(self, store: TaskStore, engine: Engine, *, keeps_prompts: bool = False) -> None:
        self._store = store
        self._engine = engine
        self._keeps_prompts = keeps_prompts

    async def show(self, caller: Caller, task: str) -> Task:
        """Return a task of the caller's team. Raises NotFound for every other one."""
        return await self.of_team(caller.team.id, task)

    async def of_team(self, team: TeamId, task: str) -> Task:
        """Return a task of a team. Raises NotFound for every other one."""
        live = self._engine.running.get(TaskId(task))
        if live is not None and live.task.team == team:
            return live.current
        try:
            await self._engine.write_down(team)
            read = await self._store.read(team, TaskId(task))
        except UnreadableTaskError:
            read = None
        if read is None:
            raise NotFound(f"There is no task '{task[:100]}'.", param="id", code="task_not_found")
        return read

    async def prompt(self, task: Task) -> str | None:
        """Return the prompt of a task that is over, where prompts are kept for that."""
        return await self._store.prompt(task.team, task.id) if self._keeps_prompts else None

    def fetched(self, pictures: Iterable[str]) -> None:
        """Note that pictures, by their keys, have left for somebody who asked for them."""
        for key in pictures:
            team, task, render = picture_of(key)
            self._engine.fetched(team, task, [render])

    async def newest(self, caller: Caller, *, after: str, limit: int) -> Sequence[Task]:
        """Return the team's tasks, the newest first, from the one after `after` on."""
        return await self.newest_of(caller.team.id, after=after, limit=limit)

    async def newest_of(self, team: TeamId, *, after: str, limit: int) -> Sequence[Task]:
        """Return a team's tasks, the newest first, from the one after `after` on."""
        await self._engine.write_down(team)
        return await self._store.listed(team, after=after, limit=limit)

    async def cancel(self, caller: Caller, task: str) -> Task:
        """Cancel what was not submitted yet, and return the task. Raises NotFound."""
        return await self.cancel_of(caller.team.id, task)

    async def cancel_of(self, team: TeamId, task: str) -> Task:
        """Cancel what was not submitted yet of a team's task, and return it. Raises NotFound."""
        found = await self.of_team(team, task)
        if not found.over:
            await self._engine.cancel(found.team, found.id)
        return await self.of_team(team, task)


def status_of(task: Task) -> Status:
    """Return how a task stands as a whole: done when any picture is there, and none is to come."""
    told = [render_status(render) for render in task.renders]
    for status in (Status.IN_PROGRESS, Status.QUEUED, Status.COMPLETED, Status.UNKNOWN):
        if status in told:
            begun = status is Status.QUEUED and set(told) != {Status.QUEUED}
            return Status.IN_PROGRESS if begun else status
    return Status.CANCELLED if set(told) == {Status.CANCELLED} else Status.FAILED


def render_status(render: Render) -> Status:
    """Return how one picture of a task stands."""
    result = render.result
    if result is None:
        queued = render.state is RenderState.QUEUED
        return Status.QUEUED if queued else Status.IN_PROGRESS
    if result.failure is None and not result.lost:
        return Status.COMPLETED if result.stored is not None else Status.IN_PROGRESS
    if result.failure is FailureKind.SUBMIT_UNKNOWN:
        return Status.UNKNOWN
    return Status.CANCELLED if result.failure is FailureKind.WITHDRAWN else Status.FAILED
