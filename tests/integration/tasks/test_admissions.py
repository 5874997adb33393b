"""Admissions as the store takes them; each limit by itself is in test_limits.py."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.limits import Budget, Period
from gateway.store.client import Store
from gateway.store.scripts import Script, load_script
from gateway.tasks.admissions import ADMIT_WITHIN_MS
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.budgeted import TEAM, admission
from tests.support.factories import a_team
from tests.support.journal import (
    LaterClock,
    a_journal,
    admitted,
    budgets_in,
    finished,
    ledger_in,
    record_in,
    seen_to_by,
    submitted,
)


async def test_admission_holds_the_price_and_writes_the_task(
    tasks: RedisTaskStore, store: Store
) -> None:
    """After one admission every budget holds the price and the record can be found."""
    answer = await admitted(tasks, admission())

    assert {"month": (0, 60), "total": (0, 60)} == await budgets_in(store)
    assert [("month", 40), ("total", 190)] == [
        (state.name, state.remaining_microusd) for state in answer.budgets
    ]
    written = await record_in(store)
    assert ("queued", "60", "1", "replica_1", "1") == tuple(
        written[name] for name in ("0:state", "0:hold", "schema", "owner", "epoch")
    )
    assert '{"prompt":"a red fox"}' == written["order"]
    assert ["task1"] == await seen_to_by(store)
    assert {TEAM.id} == await tasks.teams()


async def test_each_image_is_held(tasks: RedisTaskStore, store: Store) -> None:
    """A call for three holds three times, with a line of the ledger for each render."""
    task = (await admitted(tasks, admission(hold=30, images=3))).task

    assert {"month": (0, 90), "total": (0, 90)} == await budgets_in(store)
    assert 3 == len(task.renders)
    assert [("hold", "30", "0"), ("hold", "30", "1"), ("hold", "30", "2")] == [
        (line["verb"], line["amount"], line["render"]) for line in await ledger_in(store)
    ]


async def test_repeated_admission_holds_once(tasks: RedisTaskStore, store: Store) -> None:
    """The same admission again changes nothing and answers the same."""
    first = await admitted(tasks, admission(hold=30, images=3))
    second = await admitted(tasks, admission(hold=30, images=3))

    assert first.task.hold == second.task.hold
    assert first.budgets == second.budgets
    assert {"month": (0, 90), "total": (0, 90)} == await budgets_in(store)


@pytest.mark.parametrize(("hold", "images", "told"), [(41, 1, "$0.000041"), (21, 2, "$0.000042")])
async def test_refusal_names_the_budget_and_holds_nothing_anywhere(
    tasks: RedisTaskStore, store: Store, hold: int, images: int, told: str
) -> None:
    """A price that does not fit into one budget is held in none, not even for some images."""
    await admitted(tasks, admission())
    with pytest.raises(BudgetExceeded) as refusal:
        await tasks.admit(admission("task2", hold, images=images))

    budget = refusal.value.budget
    assert ("month", 100, 0, 60) == (
        *(budget.name, budget.limit_microusd),
        *(budget.spent_microusd, budget.held_microusd),
    )
    assert told in refusal.value.message
    assert {"month": (0, 60), "total": (0, 60)} == await budgets_in(store)
    assert ["task1"] == await seen_to_by(store)


async def test_price_that_fits_exactly_is_admitted(tasks: RedisTaskStore, store: Store) -> None:
    """The limit itself may be reached, not passed."""
    await admitted(tasks, admission("task1", hold=60))
    await admitted(tasks, admission("task2", hold=20, images=2))

    assert (0, 100) == (await budgets_in(store))["month"]


async def test_team_without_budgets_is_not_limited(tasks: RedisTaskStore, store: Store) -> None:
    """No budget means no limit, and the task can still be settled."""
    task = (await admitted(tasks, admission(team=a_team()))).task
    concluded = await tasks.conclude(task, await submitted(tasks, task), finished())

    assert () == concluded.budgets
    assert "30" == (await record_in(store))["0:cost"]


async def test_sums_beyond_a_double_digit_notation_stay_exact(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Amounts near 2**53 are not written in exponent notation by Lua."""
    limit = Budget(name="month", limit_microusd=2**53 - 1, per=Period.MONTH)
    huge = 9_000_000_000_000_001
    rich = admission(hold=huge, team=replace(TEAM, budgets=(limit,)))
    task = (await admitted(tasks, rich)).task
    [state] = (
        await tasks.conclude(task, await submitted(tasks, task), finished(cost_microusd=huge))
    ).budgets

    assert (huge, 0) == (state.spent_microusd, state.held_microusd)
    assert {"month": (huge, 0)} == await budgets_in(store)


@pytest.mark.parametrize(
    ("now_ms", "chosen"), [(999, None), (1_000, "a"), (1_999, "a"), (2_000, "b"), (10**13, "b")]
)
async def test_a_window_is_chosen_by_the_stores_clock(
    store: Store, now_ms: int, chosen: str | None
) -> None:
    """Of those around the gateway's own; of none when the clocks are a whole window apart."""
    windows = [{"key": "a", "start_ms": 1_000, "end_ms": 2_000}, {"key": "b", "start_ms": 2_000}]
    choose = """
        local window = window_at(cjson.decode(ARGV[1]), tonumber(ARGV[2]))
        return window and window.key
    """
    script = Script("choose", load_script("ledger/lua/budgets.lua").body + choose)
    reply = await store.run(script, [], [orjson.dumps(windows[::-1]), now_ms])

    assert reply == (chosen.encode() if chosen else None)


async def test_late_admission_is_refused(store: Store) -> None:
    """An admission that reaches the store after its time takes no money."""
    slow = LaterClock(shift_s=-(ADMIT_WITHIN_MS / 1000 + 1))
    with pytest.raises(StoreUnavailable):
        await a_journal(store, clock=slow).admit(admission())

    assert {} == await budgets_in(store)


@pytest.mark.parametrize("order", ["admit first", "give up first", "give up twice"])
async def test_given_up_admission_never_holds_money(
    tasks: RedisTaskStore, store: Store, order: str
) -> None:
    """Whether the lost admission ran before or runs after, nothing stays held."""
    wanted = admission(hold=30, images=3)
    if order == "admit first":
        await tasks.admit(wanted)
    await tasks.give_up(wanted)
    if order == "give up twice":
        await tasks.give_up(wanted)
    if order != "admit first":
        with pytest.raises(StoreUnavailable):
            await tasks.admit(wanted)

    assert all(held == 0 for _, held in (await budgets_in(store)).values())
    assert ({}, []) == (await record_in(store), await seen_to_by(store))
    assert [] == await store.command("ZRANGE", "{t:design}:in_flight", 0, -1)


@pytest.mark.parametrize("index", [0, 1])
async def test_giving_up_leaves_a_task_alone_that_has_begun(
    tasks: RedisTaskStore, store: Store, index: int
) -> None:
    """A hold whose render may be on its way is not taken back, nor any other of its task."""
    task = (await admitted(tasks, admission(hold=30, images=2))).task
    await tasks.begin_submit(task, task.renders[index], "run_1")
    await tasks.give_up(admission(hold=30, images=2))

    assert (0, 60) == (await budgets_in(store))["month"]
