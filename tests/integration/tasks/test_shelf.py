"""What becomes of a task when its pictures are noted and its answer has left."""

from __future__ import annotations

from gateway.domain.ids import TaskId
from gateway.domain.images import PictureFormat, StoredPicture
from gateway.domain.task import Task
from gateway.store.client import Store
from gateway.tasks.interface import ShelfNote
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import TEAM_ID, an_admission
from tests.support.journal import (
    LaterClock,
    a_journal,
    admitted,
    failed,
    finished,
    record_in,
    seen_to_by,
    submitted,
)

PICTURE = StoredPicture("design/task1/0", 3, PictureFormat.PNG)


async def a_new(tasks: RedisTaskStore, *, images: int = 1) -> Task:
    """Return a task that was just admitted."""
    return (await admitted(tasks, an_admission(images=images))).task


async def test_shelving_is_the_end_of_a_task(tasks: RedisTaskStore, store: Store) -> None:
    """Once its last picture is stored or lost nobody needs to see to it; strangers do no harm."""
    task = await a_new(tasks, images=2)
    for index in (0, 1):
        await tasks.conclude(task, await submitted(tasks, task, index), finished())
    left = []
    for stored in ({"0": "png 3"}, {"0": "png 3"}, {"1": "lost"}):
        notes = {task.id: ShelfNote(stored), TaskId("unheard-of"): ShelfNote(stored)}
        await tasks.shelve(TEAM_ID, notes)
        left.append(await seen_to_by(store))

    assert [["task1"], ["task1"], []] == left
    read = await tasks.read(TEAM_ID, task.id)
    assert read is not None
    assert [(PICTURE, False), (None, True)] == [
        (render.result.stored, render.result.lost) for render in read.renders if render.result
    ]
    assert {} == await record_in(store, "unheard-of")


async def test_a_picture_is_stored_while_others_are_made(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A task with open renders is seen to, however many of its pictures are in the store."""
    task = await a_new(tasks, images=2)
    await tasks.conclude(task, await submitted(tasks, task), finished())
    await tasks.shelve(TEAM_ID, {task.id: ShelfNote({"0": "png 3"})})
    before = await seen_to_by(store)
    await tasks.conclude(task, await submitted(tasks, task, 1), failed())

    assert (["task1"], []) == (before, await seen_to_by(store))


async def test_delivery_is_noted_once(tasks: RedisTaskStore, store: Store) -> None:
    """The first time an answer has left is the time that counts."""
    task = await a_new(tasks)
    await tasks.shelve(TEAM_ID, {task.id: ShelfNote(delivered=True)})
    first = (await record_in(store))["delivered_ms"]
    later = a_journal(store, clock=LaterClock(60.0))
    await later.shelve(TEAM_ID, {task.id: ShelfNote(delivered=True)})

    assert first == (await record_in(store))["delivered_ms"]
