"""Who sees to a task: two replicas never both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.ids import TaskId
from gateway.store.client import Store
from gateway.store.keyspace import claim_key
from gateway.tasks.redis_ownership import CLAIM_S
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.budgeted import TEAM, a_new, admission
from tests.support.factories import a_call
from tests.support.journal import (
    LaterClock,
    a_journal,
    admitted,
    failed,
    finished,
    seen_to_by,
    submitted,
)

YEAR_S = 400 * 86_400.0


async def test_a_task_that_its_caller_has_left(tasks: RedisTaskStore) -> None:
    """Only the request that waits for it can leave it; another's leaving changes nothing."""
    await a_new(tasks)
    call = a_call("req_task1", fingerprint="call_task1")
    left = []
    for waiter in ("req_other", call.waiter):
        await tasks.leave(TEAM.id, TaskId("task1"), place=call.fingerprint, waiter=waiter)
        left.append(await tasks.is_left(TEAM.id, TaskId("task1")))

    assert [False, True] == left
    assert not await tasks.is_left(TEAM.id, TaskId("unheard-of"))


async def test_an_upstream_id_belongs_to_one_render(tasks: RedisTaskStore, store: Store) -> None:
    """Whoever claims it first has it for ever; another account's ids are others."""
    claims = [
        await tasks.claim("evolink:1", "up-1", "task1:0"),
        await tasks.claim("evolink:1", "up-1", "task2:0"),
        await tasks.claim("evolink:1", "up-1", "task1:0"),
        await tasks.claim("evolink:2", "up-1", "task2:0"),
    ]

    assert [True, False, True, True] == claims
    expires_in_s = await store.command("TTL", claim_key("evolink:1", "up-1"))
    assert isinstance(expires_in_s, int)
    assert CLAIM_S - 60 < expires_in_s <= CLAIM_S


async def test_only_one_replica_takes_a_task(tasks: RedisTaskStore, store: Store) -> None:
    """Of two that try, one gets it with all that is known; its epoch is the next."""
    task = await a_new(tasks, hold=30, images=2)
    render = await submitted(tasks, task, 1)
    second, third = (a_journal(store, owner=f"replica_{number}") for number in (2, 3))
    taken = await second.take(TEAM.id, task.id, owner="replica_1")
    late = await third.take(TEAM.id, task.id, owner="replica_1")

    assert (
        replace(task.with_render(render), owner="replica_2", epoch=2, watchers=("replica_1",))
        == taken
    )
    assert late is None
    assert ([], ["task1"]) == (await seen_to_by(store), await seen_to_by(store, "replica_2"))
    assert {"replica_2"} == await tasks.owners(TEAM.id)
    assert ["task1"] == await tasks.owned(TEAM.id, "replica_2")


async def test_taking_a_task_that_is_mine(tasks: RedisTaskStore) -> None:
    """It is read, and its decisions go on to count: the answer of a taking may have been lost."""
    task = await a_new(tasks)

    assert task == await tasks.take(TEAM.id, task.id, owner="replica_1")


async def test_a_task_that_is_gone_is_taken_by_nobody(tasks: RedisTaskStore, store: Store) -> None:
    """What is left of it is swept, and its owner need not be looked after any more."""
    task = await a_new(tasks)
    await store.command("DEL", "{t:design}:task:task1")
    taken = await a_journal(store, owner="replica_2").take(TEAM.id, task.id, owner="replica_1")

    assert (None, [], frozenset()) == (
        *(taken, await seen_to_by(store)),
        await tasks.owners(TEAM.id),
    )


async def test_a_task_that_is_handed_over_is_anybodys(tasks: RedisTaskStore, store: Store) -> None:
    """It is nobody's until somebody takes it, and the one who gave it is told of its end."""
    task = await a_new(tasks)
    render = await submitted(tasks, task)
    handed = (await tasks.hand_over(task), await tasks.hand_over(task))
    nobodys = (await tasks.owners(TEAM.id), await seen_to_by(store, ""))
    second = a_journal(store, owner="replica_2")
    taken = await second.take(TEAM.id, task.id, owner="")
    assert taken is not None
    concluded = await second.conclude(taken, render, finished())

    assert (True, True) == handed
    assert ({""}, ["task1"]) == nobodys
    assert ("replica_2", 3) == (taken.owner, taken.epoch)
    assert ("replica_1",) == concluded.watchers


@pytest.mark.parametrize("index", [0, 1])
async def test_a_task_is_not_handed_over_while_it_is_posted(
    tasks: RedisTaskStore, store: Store, index: int
) -> None:
    """Only who posts a render learns what became of it."""
    task = await a_new(tasks, hold=30, images=2)
    begun = await tasks.begin_submit(task, task.renders[index], "run_1")
    while_posted = await tasks.hand_over(task)
    await tasks.record_submitted(task, begun, "up-1")

    assert (False, True) == (while_posted, await tasks.hand_over(task))


async def test_cancelling_is_noted_for_whoever_sees_to_the_task(tasks: RedisTaskStore) -> None:
    """Its owner is told; a task that is over is not cancelled any more."""
    task = await a_new(tasks)
    owners = [await tasks.cancel(TEAM.id, task.id), await tasks.cancel(TEAM.id, TaskId("no"))]
    during = await tasks.read(TEAM.id, task.id)
    await tasks.conclude(task, await submitted(tasks, task), failed())
    other = (await admitted(tasks, admission("task2"))).task
    await tasks.conclude(other, await submitted(tasks, other), failed())
    await tasks.cancel(TEAM.id, other.id)
    after = await tasks.read(TEAM.id, other.id)

    assert ["replica_1", None] == owners
    assert during is not None
    assert after is not None
    assert (True, False) == (during.cancelled, after.cancelled)


async def test_tasks_are_listed_from_the_newest_on(store: Store) -> None:
    """A page begins after the last of the one before; records that are gone leave no gap in it."""
    clock = LaterClock()
    tasks = a_journal(store, clock=clock)
    for number in range(4):
        await tasks.admit(admission(f"task{number}", hold=10))
        clock.shift_s += 1.0
    await store.command("DEL", "{t:design}:task:task2")
    pages = [
        [task.id for task in await tasks.listed(TEAM.id, after=after, limit=3)]
        for after in ("", "task1", "unheard-of")
    ]

    assert [["task3", "task1", "task0"], ["task0"], []] == pages
