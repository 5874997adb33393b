"""Every limit of a call, in the one script that takes them: quotas, and budgets of all scopes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from gateway.background import SystemClock
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.errors import BudgetExceeded, DailyQuotaExceeded, RateLimited
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.limits import Budget, Period, Quotas
from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis
from gateway.domain.task import Event, SubmitOrder, Task
from gateway.ledger.redis_ledger import RedisLedger
from gateway.store.client import Store
from gateway.tasks.interface import AccountChangedError, Admission, Ending
from gateway.tasks.redis_tasks import RedisTaskStore

TEAM = Team(id=TeamId("design"), models=("*",), budgets=())
KEY = ApiKey("ci")


def month(limit: int) -> Budget:
    """Build a monthly budget."""
    return Budget(name="month", limit_microusd=limit, per=Period.MONTH)


def admission(
    number: int, *, team: Team = TEAM, key: ApiKey = KEY, user: str = "", version: str = ""
) -> Admission:
    """Ask for one picture of at most 60 micro-dollars."""
    return Admission(
        id=TaskId(f"task{number}"),
        caller=Caller(team, key, version),
        user=user,
        images=1,
        model="gpt-image-1.5",
        size="1024x1024",
        quality="low",
        hold_microusd=60,
        order=SubmitOrder("evolink", "evolink:1", {"prompt": "a red fox"}),
    )


@pytest.fixture
def tasks(store: Store) -> RedisTaskStore:
    """Keep tasks in the real server."""
    return RedisTaskStore(store, SystemClock(), owner="replica_1", keep_ms=60_000)


async def finished(tasks: RedisTaskStore, task: Task, cost: int) -> None:
    """Take a task to its end."""
    task = await tasks.begin_submit(task, "run_1")
    task = await tasks.record_submitted(task, "up-1")
    charge = Charge(cost, {"image_output": cost}, ChargeBasis.CREDITS) if cost else NO_CHARGE
    await tasks.conclude(task, Ending(Event.FINISH if cost else Event.FAIL, charge))


async def test_a_burst_fills_a_minute_and_waits_for_the_next_slot(tasks: RedisTaskStore) -> None:
    """Two requests per minute: two pass at once, the third is told how long to wait, truly."""
    team = replace(TEAM, quotas=Quotas(requests_per_minute=2))
    first = await tasks.admit(admission(1, team=team))
    second = await tasks.admit(admission(2, team=team))
    with pytest.raises(RateLimited) as refusal:
        await tasks.admit(admission(3, team=team))

    assert [("requests", 2, 1), ("requests", 2, 0)] == [
        (rate.resource, rate.limit, rate.remaining) for rate in (*first.rates, *second.rates)
    ]
    assert 0 < second.rates[0].reset_ms <= 60_000
    assert "requests" == refusal.value.resource
    assert 29_000 < refusal.value.retry_after_ms <= 30_000


async def test_what_a_refusal_promises_is_kept(tasks: RedisTaskStore) -> None:
    """After the time it was told, and not before, a call passes."""
    team = replace(TEAM, quotas=Quotas(images_per_minute=300))
    for number in range(300):
        await tasks.admit(admission(number, team=team))
    began_s = time.monotonic()
    refusals = 0
    while True:
        try:
            await tasks.admit(admission(1_000, team=team))
            break
        except RateLimited as refusal:
            refusals += 1
            await asyncio.sleep(refusal.retry_after_ms / 1000)

    assert refusals <= 2
    assert time.monotonic() - began_s < 1.0


async def test_a_refused_call_takes_nothing(tasks: RedisTaskStore, store: Store) -> None:
    """A call that one limit refuses is counted by none of the others."""
    team = replace(
        TEAM,
        budgets=(month(50),),
        quotas=Quotas(requests_per_minute=5, images_per_day=5, in_flight_images=5),
    )
    with pytest.raises(BudgetExceeded):
        await tasks.admit(admission(1, team=team))
    keys = await store.command("KEYS", "{t:design}:*")

    assert isinstance(keys, list)
    assert all(b":budget:" in key for key in keys)  # type: ignore[operator]


async def test_images_in_progress_are_freed_when_they_end(tasks: RedisTaskStore) -> None:
    """However it ends, a finished image makes room for the next."""
    team = replace(TEAM, quotas=Quotas(in_flight_images=2))
    one = await tasks.admit(admission(1, team=team))
    two = await tasks.admit(admission(2, team=team))
    with pytest.raises(RateLimited) as refusal:
        await tasks.admit(admission(3, team=team))
    await finished(tasks, one.task, 10)
    await tasks.admit(admission(3, team=team))
    await finished(tasks, two.task, 0)
    await tasks.admit(admission(4, team=team))

    assert "in-flight" == refusal.value.resource


async def test_a_given_up_admission_frees_its_place(tasks: RedisTaskStore) -> None:
    """What was never heard of does not count as in progress."""
    team = replace(TEAM, quotas=Quotas(in_flight_images=1))
    await tasks.admit(admission(1, team=team))
    await tasks.give_up(admission(1, team=team))

    await tasks.admit(admission(2, team=team))


async def test_the_days_images_are_counted(tasks: RedisTaskStore) -> None:
    """The call above the day's quota is told limit, use and the end of the day."""
    team = replace(TEAM, quotas=Quotas(images_per_day=2))
    for number in (1, 2):
        await tasks.admit(admission(number, team=team))
    with pytest.raises(DailyQuotaExceeded) as refusal:
        await tasks.admit(admission(3, team=team))

    assert "quota of 2 images per day: 2 are used" in refusal.value.message
    assert "T00:00:00Z" in refusal.value.message


@pytest.mark.parametrize("scope", ["key", "user"])
async def test_keys_and_users_have_budgets_of_their_own(tasks: RedisTaskStore, scope: str) -> None:
    """One key's or user's limit stops that one only."""
    key = replace(KEY, budgets=(month(100),) if scope == "key" else ())
    team = replace(TEAM, budgets=(month(1_000),), user_budgets=(month(100),))
    team = team if scope == "user" else replace(team, user_budgets=())
    user = "aaaa" if scope == "user" else ""
    await tasks.admit(admission(1, team=team, key=key, user=user))
    with pytest.raises(BudgetExceeded) as refusal:
        await tasks.admit(admission(2, team=team, key=key, user=user))
    other_key = ApiKey("other") if scope == "key" else key
    await tasks.admit(admission(3, team=team, key=other_key, user="bbbb" if user else ""))

    assert (scope, "ci" if scope == "key" else "aaaa") == (
        refusal.value.budget.scope,
        refusal.value.budget.owner,
    )
    assert f"This call would exceed the {scope}'s 'month' budget" in refusal.value.message


async def test_a_budget_added_later_starts_from_what_was_spent(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A new budget knows what its month has cost so far, for its own scope only."""
    for number, key in ((1, "ci"), (2, "other")):
        admitted = await tasks.admit(admission(number, key=ApiKey(key)))
        await finished(tasks, admitted.task, 40)
    team = replace(
        TEAM, budgets=(month(1_000), Budget("total", limit_microusd=1_000, per=Period.TOTAL))
    )
    key = replace(KEY, budgets=(month(1_000),))
    admitted = await tasks.admit(admission(3, team=team, key=key))

    assert [("team", "month", 80), ("team", "total", 80), ("key", "month", 40)] == [
        (state.scope, state.name, state.spent_microusd) for state in admitted.budgets
    ]
    opened = [
        entry
        for _, entry in await store.command("XRANGE", "{t:design}:ledger", "-", "+")  # type: ignore[misc, union-attr]
        if entry[b"verb"] == b"open"
    ]
    assert [b"80", b"80", b"40"] == [entry[b"spent"] for entry in opened]


async def test_a_budget_added_later_may_be_exhausted_already(tasks: RedisTaskStore) -> None:
    """What was spent before the limit existed counts against it."""
    admitted = await tasks.admit(admission(1))
    await finished(tasks, admitted.task, 40)
    with pytest.raises(BudgetExceeded) as refusal:
        await tasks.admit(admission(2, team=replace(TEAM, budgets=(month(99),))))

    assert (40, 0) == (refusal.value.budget.spent_microusd, refusal.value.budget.held_microusd)


async def test_minute_budgets_start_empty(tasks: RedisTaskStore) -> None:
    """A budget shorter than the sums' grain does not take the quarter of an hour for its own."""
    admitted = await tasks.admit(admission(1))
    await finished(tasks, admitted.task, 40)
    minute = Budget(name="minute", limit_microusd=99, per=Period.MINUTE)
    admitted = await tasks.admit(admission(2, team=replace(TEAM, budgets=(minute,))))

    assert 0 == admitted.budgets[0].spent_microusd


async def test_a_topped_up_total_has_a_higher_limit(tasks: RedisTaskStore, store: Store) -> None:
    """A prepaid total that was topped up lets more in."""
    total = Budget("total", limit_microusd=100, per=Period.TOTAL)
    team = replace(TEAM, budgets=(total,))
    await tasks.admit(admission(1, team=team))
    await store.command("HINCRBY", "{t:design}:budget:team::total:0", "topped_up", 50)
    admitted = await tasks.admit(admission(2, team=team))

    assert (150, 30) == (
        admitted.budgets[0].limit_microusd,
        admitted.budgets[0].remaining_microusd,
    )
    [state] = await RedisLedger(store, SystemClock()).balances(Caller(team, KEY))
    assert 150 == state.limit_microusd


async def test_a_changed_account_is_noticed_by_admission(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A caller read before the change is refused, one read after it is admitted."""
    await store.command("HSET", "{t:design}:account", "version", "7")
    with pytest.raises(AccountChangedError):
        await tasks.admit(admission(1, version="6"))
    with pytest.raises(AccountChangedError):
        await tasks.admit(admission(1))

    await tasks.admit(admission(1, version="7"))
