"""Low squares for a team with two budgets: 100 micro-dollars a month, 250 in all."""

from __future__ import annotations

from gateway.domain.accounts import Team
from gateway.domain.limits import Budget, Period
from gateway.domain.task import Task
from gateway.tasks.interface import Admission
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import a_team, an_admission
from tests.support.journal import admitted

TEAM = a_team(
    budgets=(
        Budget(name="month", limit_microusd=100, per=Period.MONTH),
        Budget(name="total", limit_microusd=250, per=Period.TOTAL),
    )
)


def admission(
    task: str = "task1", hold: int = 60, *, images: int = 1, team: Team = TEAM
) -> Admission:
    """Ask for low squares."""
    return an_admission(task, hold_microusd=hold, images=images, team=team)


async def a_new(tasks: RedisTaskStore, *, hold: int = 60, images: int = 1) -> Task:
    """Return a task that was just admitted."""
    return (await admitted(tasks, admission(hold=hold, images=images))).task
