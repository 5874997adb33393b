from __future__ import annotations

from typing import cast

import pytest

from gateway.domain.accounts import ApiKey, Caller
from gateway.domain.errors import InvalidRequest, NotFound
from gateway.domain.ids import TaskId, TeamId, make_task_id
from gateway.domain.limits import Budget, Period
from gateway.domain.task import Task
from gateway.domain.unified_ids import unified_id
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.service.evolink import LOOKED_AT, EvolinkService, Wanted
from gateway.service.tasks import TaskService
from gateway.service.usage import UsageService
from gateway.store.client import Store
from gateway.tasks.engine import Engine
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.clock import FixedClock
from tests.support.factories import a_caller, a_team, an_admission, an_offer
from tests.support.journal import a_journal, admitted, failed, finished, submitted

CALLER = a_caller()


class IdleEngine:
    """Runs nothing: all tasks are read from the store."""

    running: dict[TaskId, object] = {}  # noqa: RUF012 - never written

    async def write_down(self, _team: TeamId) -> None:
        """Have nothing to write."""


def service(store: Store, journal: RedisTaskStore) -> EvolinkService:
    """Read tasks and money of the emptied store."""
    clock = FixedClock()
    return EvolinkService(
        tasks=TaskService(journal, cast("Engine", IdleEngine())),
        usage=UsageService(
            ledger=RedisLedger(store, clock), rollups=RedisBooks(store), clock=clock
        ),
        clock=clock,
        find_offer=lambda _: an_offer(),
    )


async def a_task(journal: RedisTaskStore, number: int) -> Task:
    """Write a task down; it is queued."""
    task_id = make_task_id(number.to_bytes(16, "big"))
    return (await admitted(journal, an_admission(task_id))).task


def unified(task: Task) -> str:
    """Return its id in EvoLink's form."""
    return unified_id(task.id, task.created_ms)


async def test_a_task_is_found_by_its_other_id(store: Store) -> None:
    """Of the caller's team, and only by the very text that it was told."""
    journal = a_journal(store)
    evolink = service(store, journal)
    task = await a_task(journal, 1)
    stranger = a_caller(a_team(name="search"))

    assert task.id == (await evolink.show(CALLER, unified(task))).id
    for caller, text in (
        (stranger, unified(task)),
        (CALLER, unified_id(task.id, task.created_ms + 1000)),
        (CALLER, unified_id(make_task_id(b"\x09" * 16), task.created_ms)),
        (CALLER, "task-unified-1757156493-imcg5zqt"),
    ):
        with pytest.raises(NotFound) as missing:
            await evolink.show(caller, text)
        assert missing.value.code == "task_not_found"


@pytest.mark.parametrize("text", ["", "imgtask_0", "task-1"])
async def test_other_texts_are_no_ids(store: Store, text: str) -> None:
    """EvoLink tells them from tasks that it does not know (protocols/evolink.md §4.7)."""
    with pytest.raises(InvalidRequest) as refusal:
        await service(store, a_journal(store)).show(CALLER, text)

    assert ("invalid_task_id", "task_id") == (refusal.value.code, refusal.value.param)


async def test_a_batch_has_what_there_is(store: Store) -> None:
    """In the order that was asked for; the rest is just absent (§5)."""
    journal = a_journal(store)
    tasks = [await a_task(journal, number) for number in (1, 2)]
    asked = [unified(tasks[1]), "nothing", "task-unified-1-x", unified(tasks[0])]
    found = await service(store, journal).batch(CALLER, asked)

    assert [tasks[1].id, tasks[0].id] == [task.id for task in found]


async def test_the_list_is_narrowed_by_status_and_model(store: Store) -> None:
    """What is queued is processing there; what failed is no result; videos are never made."""
    journal = a_journal(store)
    evolink = service(store, journal)
    queued, running, wrong = [await a_task(journal, number) for number in (1, 2, 3)]
    await submitted(journal, running)
    await journal.conclude(wrong, await submitted(journal, wrong), failed())

    async def listed(**wanted: str) -> set[str]:
        page = await evolink.listed(CALLER, Wanted(**wanted))
        assert len(page.tasks) == page.total
        return {task.id for task in page.tasks}

    assert {queued.id, running.id, wrong.id} == await listed()
    assert {queued.id, running.id} == await listed(status="processing")
    assert {queued.id} == await listed(status="pending")
    assert {wrong.id} == await listed(status="failed", type="image", model="gpt-image-1.5")
    assert set() == await listed(status="cancelled")
    assert set() == await listed(status="completed")
    assert set() == await listed(type="video")
    assert set() == await listed(model="gpt-image-2")


async def test_pages_go_from_the_newest_on_and_end(store: Store) -> None:
    """Only so many tasks are looked at, and `total` counts those."""
    journal = a_journal(store)
    evolink = service(store, journal)
    made = [(await a_task(journal, number)).id for number in range(LOOKED_AT + 5)]
    first = await evolink.listed(CALLER, Wanted(page_size=50))
    last = await evolink.listed(CALLER, Wanted(page=4, page_size=50))
    beyond = await evolink.listed(CALLER, Wanted(page=5, page_size=50))
    newest = made[: -LOOKED_AT - 1 : -1]

    assert (LOOKED_AT, 50, 50) == (first.total, len(first.tasks), len(last.tasks))
    assert beyond.tasks == ()
    assert newest[:50] == [task.id for task in first.tasks]
    assert newest[-50:] == [task.id for task in last.tasks]


async def test_credits_are_the_tightest_budgets(store: Store) -> None:
    """Of the team's the one with the least left, and of the key's; what is held is not left."""
    budgets = (Budget("a", 2_000_000, Period.TOTAL), Budget("b", 1_000_000, Period.TOTAL))
    key = ApiKey("ci", budgets=(Budget("total", 500_000, Period.TOTAL),))
    caller = Caller(team=a_team(budgets=budgets), key=key)
    journal = a_journal(store)
    admission = an_admission(
        make_task_id(bytes(16)), team=caller.team, key=key, hold_microusd=250_000
    )
    task = (await admitted(journal, admission)).task
    held = await service(store, journal).credits(caller)
    await journal.conclude(task, await submitted(journal, task), finished(100_000))
    spent = await service(store, journal).credits(caller)

    assert (17, 0, False) == (held.key.remaining, held.key.used, held.key.unlimited)
    assert (51, 0, False) == (held.team.remaining, held.team.used, held.team.unlimited)
    assert ("27.2", "6.8") == (
        str(spent.key.remaining.normalize()),
        str(spent.key.used.normalize()),
    )


async def test_a_task_is_seen_now_and_as_long_as_its_kind_takes(store: Store) -> None:
    """The clock and the offer say how far it is."""
    journal = a_journal(store)
    seen = service(store, journal).seen(await a_task(journal, 1))

    assert FixedClock().now_ms() == seen.now_ms
    assert 100 == seen.expected_s
