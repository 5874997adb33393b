"""The organization's first budget: what teams spent and hold before it is in its purse."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateway.background import Background, SystemClock
from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.ids import ORGANIZATION, TaskId, TeamId
from gateway.domain.limits import Budget, Period
from gateway.domain.task import Task
from gateway.ledger.audit import verify
from gateway.ledger.catch_up import CatchUp
from gateway.ledger.organization import (
    APPLY_WITHIN_MS,
    REMEMBER_MS,
    LateError,
    Organization,
    Untold,
)
from gateway.ledger.orphans import Orphans
from gateway.ledger.outbox import Outbox
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from gateway.store.keyspace import outbox_key
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.engine import eventually
from tests.support.factories import a_team, an_admission
from tests.support.journal import (
    LaterClock,
    TroubledStore,
    a_journal,
    admitted,
    finished,
    keys_in,
    submitted,
)
from tests.support.organization import purse
from tests.support.valkey import ValkeyProcess

CLOCK = SystemClock()
WEB = a_team(name="web")
EVER = Budget("ever", 1_000, Period.TOTAL)
DAY = Budget("day", 1_000, Period.DAY)


class Newcomer:
    """A gateway to which the organization's budgets have just come."""

    def __init__(self, store: Store, *budgets: Budget, shift_s: float = 0.0) -> None:
        clock = LaterClock(shift_s)
        self.journal = a_journal(store)
        self.journal.tell_organization()
        self.organization = Organization(store, CLOCK, budgets or (EVER,))
        self.outbox = Outbox(store, self.organization, clock)
        self.catch_up = CatchUp(store, self.organization, self.outbox, self.journal.teams)

    async def reserve(self, amount: int, task: str = "new") -> tuple[int, int]:
        """Hold money as a call does; return what is spent and held of the first budget then."""
        await self.catch_up.done()
        state, *_ = await self.organization.reserve(
            TaskId(task), TeamId("design"), amount, CLOCK.now_ms() + 10_000
        )
        return state.spent_microusd, state.held_microusd


@pytest.fixture
def journal(store: Store) -> RedisTaskStore:
    """Keep tasks for a gateway whose settings have no budget for the organization."""
    return a_journal(store)


async def _spent(journal: RedisTaskStore, task: str, cost: int, **admission: Any) -> Task:
    """Have a picture made."""
    answer = await admitted(journal, an_admission(task, **admission))
    render = await submitted(journal, answer.task)
    await journal.conclude(answer.task, render, finished(cost))
    return answer.task


async def _findings(store: Store) -> list[str]:
    teams = (ORGANIZATION, TeamId("design"), TeamId("web"))
    audits = [await verify(RedisBooks(store), team) for team in teams]
    return [str(finding) for audit in audits for finding in audit.findings]


async def test_what_all_teams_spent_counts(store: Store, journal: RedisTaskStore) -> None:
    """In every budget, and the one that is full refuses the first call."""
    await _spent(journal, "task1", 30)
    await _spent(journal, "task2", 500, team=WEB)
    newcomer = Newcomer(store, DAY, EVER)

    with pytest.raises(BudgetExceeded):
        await newcomer.reserve(471)
    assert (530, 470) == await newcomer.reserve(470, "fits")
    assert {(530, 470)} == set((await purse(store)).values())
    assert [] == await _findings(store)


async def test_nothing_counts_twice(store: Store, journal: RedisTaskStore) -> None:
    """However many gateways come to it, however often the budgets go and come back."""
    await _spent(journal, "task1", 30)
    one, two = Newcomer(store), Newcomer(store)
    await asyncio.gather(one.catch_up.done(), two.catch_up.done(), one.catch_up.done())
    one.organization.limit([])
    one.organization.limit([EVER])
    await _spent(one.journal, "task2", 5)

    assert (35, 100) == await one.reserve(100)
    assert [] == await _findings(store)


async def test_a_budget_that_comes_later_starts_from_it_too(
    store: Store, journal: RedisTaskStore
) -> None:
    """The sums know it by quarters of an hour, as if it had been told when it was spent."""
    await _spent(journal, "task1", 30)
    first = Newcomer(store)
    await first.catch_up.done()
    later = Newcomer(store, DAY)

    assert (30, 1) == await later.reserve(1)
    assert [] == await _findings(store)


async def test_what_is_in_flight_is_held_and_booked_once(
    store: Store, journal: RedisTaskStore
) -> None:
    """Also by a gateway that still has the old settings; a raise is held, too."""
    answer = await admitted(journal, an_admission("task1", hold_microusd=60))
    render = await submitted(journal, answer.task)
    await journal.raise_hold(answer.task, render, 15)
    newcomer = Newcomer(store)
    held = await newcomer.reserve(1)
    await journal.conclude(answer.task, render, finished(70))
    await newcomer.outbox.gather(answer.task.team)
    await newcomer.outbox.flush(answer.task.team)

    assert (0, 60 + 15 + 1) == held
    assert {"ever:0": (70, 1)} == await purse(store)
    assert [] == await _findings(store)


async def test_of_a_task_only_what_is_open_is_held(store: Store, journal: RedisTaskStore) -> None:
    """Its first picture was made before the budget, and is spent."""
    answer = await admitted(journal, an_admission("task1", images=2, hold_microusd=60))
    renders = [await submitted(journal, answer.task, index) for index in range(2)]
    await journal.conclude(answer.task, renders[0], finished(30))
    newcomer = Newcomer(store)
    held = await newcomer.reserve(1)
    await newcomer.journal.conclude(answer.task, renders[1], finished(40))
    await newcomer.outbox.flush(answer.task.team)

    assert (30, 60 + 1) == held
    assert {"ever:0": (70, 1)} == await purse(store)
    assert [] == await _findings(store)


async def test_a_second_budget_holds_what_is_in_flight_under_the_first(store: Store) -> None:
    """One with another limit is no new one."""
    newcomer = Newcomer(store)
    await newcomer.reserve(100, "task1")
    await admitted(newcomer.journal, an_admission("task1", hold_microusd=100))
    newcomer.organization.limit([replace(EVER, limit_microusd=900)])
    is_behind = newcomer.organization.is_behind
    newcomer.organization.limit([EVER, replace(DAY, limit_microusd=110)])

    with pytest.raises(BudgetExceeded, match="day"):
        await newcomer.reserve(11)
    assert not is_behind
    assert {100} == {held for _, held in (await purse(store)).values()}


async def test_a_budget_that_comes_back_after_a_restart_has_missed_nothing(store: Store) -> None:
    """Its window was there while another gateway told of what was spent under other budgets."""
    await Newcomer(store, EVER).reserve(1)
    other = Newcomer(store, DAY)
    await other.catch_up.done()
    await _spent(other.journal, "task1", 30)
    await other.outbox.flush(TeamId("design"))

    assert (30, 2) == await Newcomer(store, EVER).reserve(1, "task2")
    assert [] == await _findings(store)


async def test_an_end_that_was_gathered_is_not_told_again(
    store: Store, journal: RedisTaskStore
) -> None:
    """When its owner brings the record back to what it remembers, as after a failover."""
    answer = await admitted(journal, an_admission("task1", images=2))
    renders = [await submitted(journal, answer.task, index) for index in range(2)]
    first = await journal.conclude(answer.task, renders[0], finished(30))
    newcomer = Newcomer(store)
    await newcomer.catch_up.done()
    second = await newcomer.journal.conclude(answer.task, renders[1], finished(40))
    ended = replace(answer.task, renders=(first.render, second.render))
    await newcomer.outbox.flush(ended.team)
    await newcomer.journal.restore(ended, None)
    told_again: Any = await store.command("HKEYS", outbox_key(ended.team))
    await newcomer.outbox.flush(ended.team)

    assert [b"task1:1"] == told_again
    assert {"ever:0": (70, 0)} == await purse(store)


@pytest.mark.parametrize(
    "lost",
    [
        "enter_purse",
        "organization_reserve",
        "outbox_gather",
        "organization_catch_up",
        "outbox_acknowledge",
        "organization_recount",
    ],
)
async def test_a_step_whose_answer_is_lost_is_done_again_by_the_next_call(
    valkey_process: ValkeyProcess, store: Store, journal: RedisTaskStore, lost: str
) -> None:
    """As after a crash behind any of them: no call is held before all is known, and all is once."""
    await _spent(journal, "task1", 900)
    await admitted(journal, an_admission("task2", hold_microusd=90))
    async with TroubledStore(valkey_process.url) as troubled:
        newcomer = Newcomer(troubled)
        troubled.losing.append(lost)
        with pytest.raises(StoreUnavailable):
            await newcomer.reserve(11)
        with pytest.raises(BudgetExceeded):
            await newcomer.reserve(11)

        assert [] == troubled.losing
        assert (900, 100) == await newcomer.reserve(10, "fits")
    assert [] == await _findings(store)


async def test_what_others_spend_without_telling_is_gathered_later(
    store: Store, journal: RedisTaskStore
) -> None:
    """By the loop that looks through all outboxes: replicas take a file one after the other."""
    newcomer = Newcomer(store)
    await newcomer.reserve(1)
    await _spent(journal, "task1", 30)

    async def booked() -> bool:
        return await purse(store) == {"ever:0": (30, 1)}

    async with Background(grace_s=1.0) as background:
        background.loop("outbox", partial(newcomer.outbox.run, newcomer.journal.teams))
        assert await eventually(booked)


async def test_what_was_spent_long_ago_is_in_the_total_alone(
    store: Store, journal: RedisTaskStore
) -> None:
    """Two months on, no window but that of a total asks for it."""
    await _spent(journal, "task1", 30)
    newcomer = Newcomer(store, DAY, EVER)
    for budget in (DAY, EVER):
        await Organization(store, CLOCK, [budget]).reserve(
            TaskId(budget.name), TeamId("design"), 1, CLOCK.now_ms() + 10_000
        )
    later = Newcomer(store, shift_s=70 * 86_400)
    await later.outbox.gather(TeamId("design"))
    await newcomer.outbox.flush(TeamId("design"))
    windows = {name.partition(":")[0]: spent for name, (spent, _) in (await purse(store)).items()}

    assert {"day": 0, "ever": 30} == windows
    assert b"30" == await store.command("HGET", "{org}:spent:total", "organization|")
    assert [] == await _findings(store)


async def test_what_is_booked_is_forgotten_like_a_hold_that_is_over(
    store: Store, journal: RedisTaskStore
) -> None:
    """An hour after nobody can repeat it any more."""
    await _spent(journal, "task1", 30)
    newcomer = Newcomer(store)
    await newcomer.catch_up.done()
    [mark] = await keys_in(store, "{org}:hold:untold_design_*")
    kept_ms = await store.command("PTTL", mark)
    orphans = Orphans(store, newcomer.organization, newcomer.outbox, CLOCK)
    await orphans.sweep(settled_for_ms=-1_000)
    lives_ms: Any = await store.command("PTTL", mark)

    assert -1 == kept_ms
    assert 0 < lives_ms <= REMEMBER_MS


async def test_what_was_read_too_long_ago_has_to_be_read_again(store: Store) -> None:
    """It may have been booked, and forgotten."""
    organization = Organization(store, CLOCK, [EVER])
    read_ms = CLOCK.now_ms() - APPLY_WITHIN_MS - 1_000
    untold = Untold(TeamId("design"), TaskId("untold_design_1"), {}, 30, read_ms)
    with pytest.raises(LateError):
        await organization.book_untold(untold)

    assert [] == await store.command("KEYS", "{org}*")
