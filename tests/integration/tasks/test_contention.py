"""The money test: many callers at once, one budget, and never a micro-dollar too much."""

from __future__ import annotations

import asyncio
import random

from gateway.background import SystemClock
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.errors import BudgetExceeded
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.limits import Budget, Period
from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis
from gateway.domain.task import Event, SubmitOrder
from gateway.store.client import Store
from gateway.tasks.interface import Admission, Ending
from gateway.tasks.redis_tasks import RedisTaskStore

TEAM = Team(
    id=TeamId("design"),
    models=("*",),
    budgets=(Budget(name="month", limit_microusd=1_000, per=Period.MONTH),),
)
ORDER = SubmitOrder(provider="evolink", account="evolink:1", body={})


def admission(number: int, hold: int) -> Admission:
    """Ask for one low square."""
    return Admission(
        id=TaskId(f"task{number}"),
        caller=Caller(team=TEAM, key=ApiKey("ci")),
        user="",
        images=1,
        model="gpt-image-1.5",
        size="1024x1024",
        quality="low",
        hold_microusd=hold,
        order=ORDER,
    )


def replicas(store: Store) -> list[RedisTaskStore]:
    """Return three gateways on one store."""
    return [
        RedisTaskStore(store, SystemClock(), owner=f"replica_{number}", keep_ms=60_000)
        for number in range(3)
    ]


async def test_hundred_contenders_for_a_budget_of_ten(store: Store) -> None:
    """Of a hundred calls at once over three replicas exactly ten are admitted."""
    stores = replicas(store)
    outcomes = await asyncio.gather(
        *(stores[number % 3].admit(admission(number, 100)) for number in range(100)),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded)]
    assert (10, 90) == (100 - len(refused), len(refused))


async def test_spent_and_held_never_pass_the_limit_in_a_storm(store: Store) -> None:
    """Random calls that settle, fail and repeat leave the books equal to what was charged."""
    stores = replicas(store)
    chance = random.Random(11)
    charged = 0

    async def one_call(number: int) -> None:
        nonlocal charged
        tasks = stores[number % 3]
        hold = chance.randint(1, 120)
        cost = chance.randint(0, hold)
        try:
            admitted = await tasks.admit(admission(number, hold))
        except BudgetExceeded:
            return
        [budget] = admitted.budgets
        assert budget.remaining_microusd >= 0
        task = await tasks.begin_submit(admitted.task, f"run_{number}")
        task = await tasks.record_submitted(task, f"up-{number}")
        charge = Charge(cost, {"image_output": cost}, ChargeBasis.CREDITS) if cost else NO_CHARGE
        event = Event.FINISH if cost else Event.FAIL
        for _ in range(chance.randint(1, 3)):
            await tasks.conclude(task, Ending(event, charge))
        charged += cost

    await asyncio.gather(*(one_call(number) for number in range(200)))
    keys = await store.command("KEYS", "{t:design}:budget:*")
    assert isinstance(keys, list)
    reply = await store.command("HMGET", keys[0], "spent", "held")  # type: ignore[arg-type]

    assert [str(charged).encode(), b"0"] == reply
