from __future__ import annotations

import pytest

from gateway.background import SystemClock
from gateway.domain.errors import InvalidRequest, NotFound
from gateway.domain.ids import TeamId
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.rollups import Grouping
from gateway.service.admin import NoSuchError
from gateway.service.operators import Operators
from gateway.service.tasks import TaskService
from gateway.store.client import Store
from tests.support.engine import House
from tests.support.factories import TEAM_ID


class Teams:
    """The team that orders, and one that does not."""

    async def names(self) -> frozenset[TeamId]:
        """Return both."""
        return frozenset({TEAM_ID, TeamId("search")})


@pytest.fixture
def operators(house: House, store: Store) -> Operators:
    """Read what the house has done."""
    tasks = TaskService(house.journal, house.engine)
    # Days are the store's.
    clock = SystemClock()
    return Operators(teams=Teams(), rollups=RedisBooks(store), tasks=tasks, clock=clock)


async def test_tasks_of_all_teams_or_of_one(house: House, operators: Operators) -> None:
    """Found whose ever it is, and not where another team is named."""
    live = await house.admit()
    task = live.task.id

    assert [task] == [each.id for each in await operators.newest("", limit=5)]
    assert [] == await operators.newest("search", limit=5)
    assert task == (await operators.show("", task)).id
    with pytest.raises(NotFound):
        await operators.show("search", task)
    with pytest.raises(NotFound):
        await operators.cancel("search", task)
    assert task == (await operators.cancel("", task)).id
    marked = await house.journal.read(TEAM_ID, live.task.id)
    assert marked is not None
    assert marked.cancelled


async def test_spending_of_all_teams_or_of_one(house: House, operators: Operators) -> None:
    """Told apart as asked."""
    await house.picture()
    spent, _ = await operators.spending("", "", "", Grouping.TEAM)
    nothing, _ = await operators.spending("search", "", "", Grouping.TEAM)

    assert {TEAM_ID: 1} == {name: group.images for name, group in spent.groups.items()}
    assert (1, 0) == (spent.total.images, nothing.total.images)


async def test_what_there_is_not(operators: Operators) -> None:
    """A team that is mistyped is said to be; days are checked as everywhere."""
    with pytest.raises(NoSuchError, match="There is no team 'desing'"):
        await operators.newest("desing", limit=5)
    with pytest.raises(NoSuchError):
        await operators.spending("desing", "", "", Grouping.TEAM)
    with pytest.raises(InvalidRequest):
        await operators.spending("", "yesterday", "", Grouping.TEAM)
