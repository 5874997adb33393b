"""Every limit of a call, in the one script that takes them: quotas, and budgets of all scopes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.background import SystemClock
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.errors import BudgetExceeded, DailyQuotaExceeded, RateLimited
from gateway.domain.limits import Budget, Period, Quotas
from gateway.domain.task import Task
from gateway.ledger.redis_ledger import RedisLedger
from gateway.store.client import Store
from gateway.tasks.interface import AccountChangedError, Admission, Admitted
from gateway.tasks.records import ended_by
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import a_team, an_admission
from tests.support.journal import admitted, failed, finished, keys_in, submitted

TEAM = a_team()
KEY = ApiKey("ci")


def month(limit: int) -> Budget:
    """Build a monthly budget."""
    return Budget(name="month", limit_microusd=limit, per=Period.MONTH)


def admission(
    number: int,
    *,
    team: Team = TEAM,
    key: ApiKey = KEY,
    user: str = "",
    version: str = "",
    images: int = 1,
) -> Admission:
    """Ask for pictures of at most 60 micro-dollars each."""
    return an_admission(
        f"task{number}", team=team, key=key, user=user, version=version, images=images
    )


async def admit(tasks: RedisTaskStore, number: int, **terms: object) -> Admitted:
    """Admit a call."""
    return await admitted(tasks, admission(number, **terms))  # type: ignore[arg-type]


async def end(tasks: RedisTaskStore, task: Task, cost: int, *, index: int = 0) -> None:
    """Take a render to its end."""
    render = await submitted(tasks, task, index)
    await tasks.conclude(task, render, finished(cost) if cost else failed())


async def test_a_burst_fills_a_minute_and_waits_for_the_next_slot(tasks: RedisTaskStore) -> None:
    """Two requests per minute: two pass at once, the third is told how long to wait, truly."""
    team = replace(TEAM, quotas=Quotas(requests_per_minute=2))
    first = await admit(tasks, 1, team=team)
    second = await admit(tasks, 2, team=team)
    with pytest.raises(RateLimited) as refusal:
        await admit(tasks, 3, team=team)

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
        await admit(tasks, number, team=team)
    promised_ms = []
    while True:
        try:
            await admit(tasks, 1_000, team=team)
            break
        except RateLimited as refusal:
            promised_ms.append(refusal.retry_after_ms)
            await asyncio.sleep(refusal.retry_after_ms / 1000)

    assert len(promised_ms) <= 2
    assert sum(promised_ms) < 1_000


async def test_a_refused_call_takes_nothing(tasks: RedisTaskStore, store: Store) -> None:
    """A call that one limit refuses is counted by none of the others."""
    team = replace(
        TEAM,
        budgets=(month(50),),
        quotas=Quotas(requests_per_minute=5, images_per_day=5, in_flight_images=5),
    )
    with pytest.raises(BudgetExceeded):
        await admit(tasks, 1, team=team)

    assert {"budget", "opened"} == {
        key.split(":")[2] for key in await keys_in(store, "{t:design}:*")
    }


async def test_images_in_progress_are_freed_when_they_end(tasks: RedisTaskStore) -> None:
    """However it ends, a finished image makes room for the next."""
    team = replace(TEAM, quotas=Quotas(in_flight_images=2))
    one = await admit(tasks, 1, team=team)
    two = await admit(tasks, 2, team=team)
    with pytest.raises(RateLimited) as refusal:
        await admit(tasks, 3, team=team)
    await end(tasks, one.task, 10)
    await admit(tasks, 3, team=team)
    await end(tasks, two.task, 0)
    await admit(tasks, 4, team=team)

    assert "in-flight" == refusal.value.resource


async def test_each_image_in_progress_counts(tasks: RedisTaskStore) -> None:
    """A call for three takes three places, and gives one back with each render that ends."""
    team = replace(TEAM, quotas=Quotas(in_flight_images=4))
    three = await admit(tasks, 1, team=team, images=3)
    with pytest.raises(RateLimited):
        await admit(tasks, 2, team=team, images=2)
    await end(tasks, three.task, 10, index=1)
    await admit(tasks, 2, team=team, images=2)
    with pytest.raises(RateLimited):
        await admit(tasks, 3, team=team)


async def test_a_task_that_is_written_anew_counts_what_is_still_made(
    tasks: RedisTaskStore, store: Store
) -> None:
    """After the store lost its memory, places are taken by the renders that have not ended."""
    team = replace(TEAM, quotas=Quotas(in_flight_images=4))
    three = await admit(tasks, 1, team=team, images=3)
    render = await submitted(tasks, three.task)
    ended = await tasks.conclude(three.task, render, finished())
    await store.command_everywhere("FLUSHALL")
    lost = three.task.with_render(ended.render)
    await tasks.restore(lost, None)
    await tasks.conclude(lost, *ended_by(ended.render))
    with pytest.raises(RateLimited):
        await admit(tasks, 2, team=team, images=3)

    await admit(tasks, 2, team=team, images=2)


async def test_each_image_of_a_day_counts(tasks: RedisTaskStore) -> None:
    """A call that does not fit whole is refused whole."""
    team = replace(TEAM, quotas=Quotas(images_per_day=4, images_per_minute=1_000))
    first = await admit(tasks, 1, team=team, images=3)
    with pytest.raises(DailyQuotaExceeded):
        await admit(tasks, 2, team=team, images=2)
    await admit(tasks, 2, team=team)

    assert [997] == [rate.remaining for rate in first.rates]


async def test_a_given_up_admission_frees_its_place(tasks: RedisTaskStore) -> None:
    """What was never heard of does not count as in progress."""
    team = replace(TEAM, quotas=Quotas(in_flight_images=1))
    await admit(tasks, 1, team=team)
    await tasks.give_up(admission(1, team=team))

    await admit(tasks, 2, team=team)


async def test_the_days_images_are_counted(tasks: RedisTaskStore) -> None:
    """The call above the day's quota is told limit, use and the end of the day."""
    team = replace(TEAM, quotas=Quotas(images_per_day=2))
    for number in (1, 2):
        await admit(tasks, number, team=team)
    with pytest.raises(DailyQuotaExceeded) as refusal:
        await admit(tasks, 3, team=team)

    assert "quota of 2 images per day: 2 are used" in refusal.value.message
    assert "T00:00:00Z" in refusal.value.message


@pytest.mark.parametrize("scope", ["key", "user"])
async def test_keys_and_users_have_budgets_of_their_own(tasks: RedisTaskStore, scope: str) -> None:
    """One key's or user's limit stops that one only."""
    key = replace(KEY, budgets=(month(100),) if scope == "key" else ())
    team = replace(TEAM, budgets=(month(1_000),), user_budgets=(month(100),))
    team = team if scope == "user" else replace(team, user_budgets=())
    user = "aaaa" if scope == "user" else ""
    await admit(tasks, 1, team=team, key=key, user=user)
    with pytest.raises(BudgetExceeded) as refusal:
        await admit(tasks, 2, team=team, key=key, user=user)
    other_key = ApiKey("other") if scope == "key" else key
    await admit(tasks, 3, team=team, key=other_key, user="bbbb" if user else "")

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
        answer = await admit(tasks, number, key=ApiKey(key))
        await end(tasks, answer.task, 40)
    team = replace(
        TEAM, budgets=(month(1_000), Budget("total", limit_microusd=1_000, per=Period.TOTAL))
    )
    key = replace(KEY, budgets=(month(1_000),))
    answer = await admit(tasks, 3, team=team, key=key)

    assert [("team", "month", 80), ("team", "total", 80), ("key", "month", 40)] == [
        (state.scope, state.name, state.spent_microusd) for state in answer.budgets
    ]
    opened = [
        entry
        for _, entry in await store.command("XRANGE", "{t:design}:ledger", "-", "+")  # type: ignore[misc, union-attr]
        if entry[b"verb"] == b"open"
    ]
    assert [b"80", b"80", b"40"] == [entry[b"spent"] for entry in opened]


async def test_a_budget_added_later_may_be_exhausted_already(tasks: RedisTaskStore) -> None:
    """What was spent before the limit existed counts against it."""
    answer = await admit(tasks, 1)
    await end(tasks, answer.task, 40)
    with pytest.raises(BudgetExceeded) as refusal:
        await admit(tasks, 2, team=replace(TEAM, budgets=(month(99),)))

    assert (40, 0) == (refusal.value.budget.spent_microusd, refusal.value.budget.held_microusd)


async def test_minute_budgets_start_empty(tasks: RedisTaskStore) -> None:
    """A budget shorter than the sums' grain does not take the quarter of an hour for its own."""
    answer = await admit(tasks, 1)
    await end(tasks, answer.task, 40)
    minute = Budget(name="minute", limit_microusd=99, per=Period.MINUTE)
    answer = await admit(tasks, 2, team=replace(TEAM, budgets=(minute,)))

    assert 0 == answer.budgets[0].spent_microusd


async def test_a_topped_up_total_has_a_higher_limit(tasks: RedisTaskStore, store: Store) -> None:
    """A prepaid total that was topped up lets more in."""
    total = Budget("total", limit_microusd=100, per=Period.TOTAL)
    team = replace(TEAM, budgets=(total,))
    await admit(tasks, 1, team=team)
    await store.command("HINCRBY", "{t:design}:budget:team::total:0", "topped_up", 50)
    answer = await admit(tasks, 2, team=team)

    assert b"150" == await store.command("HGET", "{t:design}:budget:team::total:0", "limit")
    assert (150, 30) == (
        answer.budgets[0].limit_microusd,
        answer.budgets[0].remaining_microusd,
    )
    [state] = await RedisLedger(store, SystemClock()).balances(Caller(team, KEY))
    assert 150 == state.limit_microusd


async def test_a_changed_account_is_noticed_by_admission(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A caller read before the change is refused, one read after it is admitted."""
    await store.command("HSET", "{t:design}:account", "version", "7")
    with pytest.raises(AccountChangedError):
        await admit(tasks, 1, version="6")
    with pytest.raises(AccountChangedError):
        await admit(tasks, 1)

    await admit(tasks, 1, version="7")
