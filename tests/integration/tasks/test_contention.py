"""The money test: many callers at once, one budget, and never a micro-dollar too much."""

from __future__ import annotations

import asyncio
import random

from gateway.domain.errors import BudgetExceeded
from gateway.domain.limits import Budget, Period
from gateway.domain.task import Task
from gateway.store.client import Store
from gateway.tasks.interface import Admission
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import a_team, an_admission
from tests.support.journal import a_journal, admitted, budgets_in, failed, finished, submitted

TEAM = a_team(budgets=(Budget(name="month", limit_microusd=1_000, per=Period.MONTH),))


def admission(number: int, hold: int, *, images: int = 1) -> Admission:
    """Ask for low squares."""
    return an_admission(f"task{number}", hold_microusd=hold, images=images, team=TEAM)


def replicas(store: Store) -> list[RedisTaskStore]:
    """Return three gateways on one store."""
    return [a_journal(store, owner=f"replica_{number}") for number in range(3)]


async def test_hundred_contenders_for_a_budget_of_ten(store: Store) -> None:
    """Of a hundred calls at once over three replicas exactly ten are admitted."""
    stores = replicas(store)
    outcomes = await asyncio.gather(
        *(stores[number % 3].admit(admission(number, 100)) for number in range(100)),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded)]
    assert (10, 90) == (100 - len(refused), len(refused))


async def test_several_images_are_admitted_together_or_not_at_all(store: Store) -> None:
    """Of fifty calls for three at once as many are admitted as fit whole; the rest hold nothing."""
    stores = replicas(store)
    outcomes = await asyncio.gather(
        *(stores[number % 3].admit(admission(number, 70, images=3)) for number in range(50)),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded)]
    assert (4, 46) == (50 - len(refused), len(refused))
    assert {"month": (0, 840)} == await budgets_in(store)


async def test_spent_and_held_never_pass_the_limit_in_a_storm(store: Store) -> None:
    """Random calls that settle, fail and repeat leave the books equal to what was charged."""
    stores = replicas(store)
    chance = random.Random(11)
    charged = 0

    async def one_render(tasks: RedisTaskStore, task: Task, index: int) -> int:
        """End a render at a cost, perhaps more than once."""
        cost = chance.randint(0, task.hold.amount_microusd)
        render = await submitted(tasks, task, index)
        ending = finished(cost) if cost else failed()
        for _ in range(chance.randint(1, 3)):
            await tasks.conclude(task, render, ending)
        return cost

    async def one_call(number: int) -> None:
        nonlocal charged
        tasks = stores[number % 3]
        images = chance.randint(1, 3)
        wanted = admission(number, chance.randint(1, 60), images=images)
        try:
            answer = await admitted(tasks, wanted)
        except BudgetExceeded:
            return
        [budget] = answer.budgets
        assert budget.remaining_microusd >= 0
        costs = await asyncio.gather(
            *(one_render(tasks, answer.task, index) for index in range(images))
        )
        charged += sum(costs)

    await asyncio.gather(*(one_call(number) for number in range(200)))

    assert {"month": (charged, 0)} == await budgets_in(store)
    assert charged > 0


async def test_of_many_replicas_one_takes_a_task(store: Store) -> None:
    """However many see that its owner is gone, its decisions are those of one."""
    stores = [a_journal(store, owner=f"replica_{number}") for number in range(20)]
    task = (await admitted(stores[0], admission(1, 100))).task
    render = await submitted(stores[0], task)
    taken = await asyncio.gather(
        *(tasks.take(TEAM.id, task.id, owner="replica_0") for tasks in stores[1:])
    )
    [(winner, mine)] = [
        (tasks, found) for tasks, found in zip(stores[1:], taken, strict=True) if found is not None
    ]
    await winner.conclude(mine, render, finished(30))

    assert {"month": (30, 0)} == await budgets_in(store)
    assert {winner.owner} == await winner.owners(TEAM.id)
