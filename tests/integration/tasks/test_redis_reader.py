"""Tasks as they are read back, one and many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.ids import TaskId, TeamId
from gateway.store.client import Store
from gateway.tasks.gate import Permit
from gateway.tasks.interface import ShelfNote
from gateway.tasks.records import UnreadableTaskError
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import an_admission
from tests.support.journal import admitted, failed, finished, submitted

DESIGN, OTHERS = TeamId("design"), TeamId("others")


async def test_a_task_is_read_as_it_was_written(tasks: RedisTaskStore) -> None:
    """Every field, its renders with their results, and the windows its hold was taken from."""
    task = (await admitted(tasks, an_admission("task1", images=2))).task
    ended = await tasks.conclude(task, await submitted(tasks, task), finished())
    await tasks.shelve(task.team, {task.id: ShelfNote({"0": "png 3"})})
    read = await tasks.read(DESIGN, task.id)

    assert read is not None
    first, second = read.renders
    assert first.result is not None
    assert first.result.stored is not None
    assert replace(ended.render, submitted_ms=first.submitted_ms) == replace(
        first, result=replace(first.result, stored=None)
    )
    assert (3, task.renders[1]) == (first.result.stored.size_bytes, second)
    assert task == replace(read, renders=task.renders)
    assert None is await tasks.read(DESIGN, TaskId("never"))


async def test_a_record_of_a_later_schema_is_refused(tasks: RedisTaskStore, store: Store) -> None:
    """Fields nobody here knows are passed over, another schema is not."""
    task = (await admitted(tasks, an_admission("task1"))).task
    await store.command("HSET", "{t:design}:task:task1", "new", "x", "0:new", "y")

    assert None is not await tasks.read(DESIGN, task.id)

    await store.command("HSET", "{t:design}:task:task1", "schema", "3")

    with pytest.raises(UnreadableTaskError, match="newer"):
        await tasks.read(DESIGN, task.id)


async def test_pages_go_from_the_newest_back(tasks: RedisTaskStore, store: Store) -> None:
    """A page goes on after the last of the one before; records that are gone are left out."""
    for number in range(4):
        await admitted(tasks, an_admission(f"task{number}"))
    for number in range(4):
        await store.command("ZADD", "{t:design}:tasks", number, f"task{number}")
    await store.command("DEL", "{t:design}:task:task2")

    async def page(after: str, limit: int) -> list[str]:
        return [task.id for task in await tasks.listed(DESIGN, after=after, limit=limit)]

    assert ["task3", "task1"] == await page("", 2)
    assert ["task1"] == await page("task2", 1)
    assert [[], []] == [await page("task0", 5), await page("never", 5)]


async def test_who_sees_to_a_task(tasks: RedisTaskStore) -> None:
    """Its owner while it runs, nobody once it is over or was never there."""
    task = (await admitted(tasks, an_admission("task1"))).task

    assert "replica_1" == await tasks.owner_of(DESIGN, task.id)
    assert ({"replica_1"}, ["task1"]) == (
        await tasks.owners(DESIGN),
        await tasks.owned(DESIGN, "replica_1"),
    )
    assert ({DESIGN}, frozenset()) == (await tasks.teams(), await tasks.owners(OTHERS))

    await tasks.conclude(task, await submitted(tasks, task), failed())

    assert None is await tasks.owner_of(DESIGN, task.id)
    assert None is await tasks.owner_of(DESIGN, TaskId("never"))


async def test_a_task_is_left_when_its_last_request_has_gone(tasks: RedisTaskStore) -> None:
    """And not before."""
    task = (await admitted(tasks, an_admission("task1"))).task
    waited_for = await tasks.is_left(DESIGN, task.id)
    waiter = an_admission("task1").call.waiter
    await tasks.leave(DESIGN, task.id, place=task.call, waiter=waiter)

    assert (False, True) == (waited_for, await tasks.is_left(DESIGN, task.id))


async def test_which_renders_have_not_ended(tasks: RedisTaskStore) -> None:
    """By task and render, of any team, whoever sees to them."""
    task = (await admitted(tasks, an_admission("task1", images=2))).task
    await tasks.conclude(task, await submitted(tasks, task), failed())
    asked = [
        Permit("task1:0", DESIGN),
        Permit("task1:1", DESIGN),
        Permit("never:0", DESIGN),
        Permit("task1:1", OTHERS),
    ]

    assert {"task1:1"} == await tasks.which_live(asked)
    assert set() == await tasks.which_live(asked[3:])
