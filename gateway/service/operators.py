"""What operators read of all teams, or of one: spending, and tasks."""

from __future__ import annotations

from typing import Protocol

from gateway.domain.clock import Clock
from gateway.domain.errors import NotFound
from gateway.domain.ids import TeamId
from gateway.domain.keys import without_keys
from gateway.domain.task import Task
from gateway.ledger.rollups import Grouping, Rollups
from gateway.service.admin import NoSuchError
from gateway.service.tasks import TaskService
from gateway.service.usage import Days, Spending, days_of, spending


class TeamNames(Protocol):
    """Knows every team."""

    async def names(self) -> frozenset[TeamId]:
        """Return every team that may have books. Raises StoreUnavailable."""
        ...


class Operators:
    """Reads what all teams spent and ordered; an empty `team` is all of them.

    Every method raises StoreUnavailable, and NoSuchError for a team there is not.
    """

    def __init__(
        self, *, teams: TeamNames, rollups: Rollups, tasks: TaskService, clock: Clock
    ) -> None:
        self._teams = teams
        self._rollups = rollups
        self._tasks = tasks
        self._clock = clock

    async def spending(
        self, team: str, since: str, until: str, by: Grouping
    ) -> tuple[Spending, Days]:
        """Return what was spent in some UTC days. Raises InvalidRequest as `days_of` does."""
        days = days_of(since, until, now_ms=self._clock.now_ms())
        return await spending(self._rollups, await self._chosen(team), days, by), days

    async def newest(self, team: str, *, limit: int) -> list[Task]:
        """Return the newest tasks, the newest first."""
        found: list[Task] = []
        for name in await self._chosen(team):
            found += await self._tasks.newest_of(name, after="", limit=limit)
        return sorted(found, key=lambda task: task.created_ms, reverse=True)[:limit]

    async def show(self, team: str, task: str) -> Task:
        """Return a task, whose ever it is. Raises NotFound."""
        for name in await self._chosen(team):
            try:
                return await self._tasks.of_team(name, task)
            except NotFound:
                continue
        raise NotFound(f"There is no task '{task[:100]}'.", param="id", code="task_not_found")

    async def cancel(self, team: str, task: str) -> Task:
        """Cancel what was not submitted yet of a task, and return it. Raises NotFound."""
        found = await self.show(team, task)
        return await self._tasks.cancel_of(found.team, found.id)

    async def _chosen(self, team: str) -> list[TeamId]:
        known = await self._teams.names()
        if team and team not in known:
            raise NoSuchError(f"There is no team '{without_keys(team[:100])}'.")
        return [TeamId(team)] if team else sorted(known)
