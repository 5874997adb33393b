"""Waiting for tasks that run here, that run elsewhere, and that change hands meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

import gateway.tasks.waiting
from gateway.domain.errors import InternalError, StillRunning
from gateway.domain.ids import TaskId
from gateway.domain.images import PictureFormat
from gateway.domain.task import Task
from gateway.store.client import Store
from gateway.tasks.interface import ShelfNote
from gateway.tasks.live import LiveTask, MovedError
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.waiting import STRAIGHT_AFTER_MS, Waiting
from gateway.tasks.wake import Kind, Message
from tests.support.factories import a_live_task, a_picture_in_store, an_admission
from tests.support.journal import LaterClock, a_journal, admitted, failed, finished, submitted


class Desk:
    """A `Waiting` on the real journal, and the tasks that run here."""

    def __init__(self, store: Store) -> None:
        self.clock = LaterClock()
        self.tasks: RedisTaskStore = a_journal(store)
        self.running: dict[TaskId, LiveTask] = {}
        self.waiting = Waiting(self.tasks, self.running, self.clock, deadline_s=60.0)


@pytest.fixture
def desk(store: Store) -> Desk:
    """Wait on the real journal."""
    return Desk(store)


async def test_a_task_of_this_process_tells_by_itself(desk: Desk) -> None:
    """Its outcome is what its renders came to."""
    live = a_live_task()
    desk.running[live.task.id] = live
    asyncio.get_running_loop().call_later(0.05, live.resolve)
    live.renders[0].render = (await _ended(desk)).renders[0]
    outcome = await desk.waiting.outcome(live.task.team, live.task.id, timeout_s=5)

    assert live.current == outcome.task


async def _ended(desk: Desk) -> Task:
    task = (await admitted(desk.tasks, an_admission("done"))).task
    ended = await desk.tasks.conclude(task, await submitted(desk.tasks, task), failed())
    return task.with_render(ended.render)


async def test_a_wait_ends_when_its_time_is_up(desk: Desk) -> None:
    """Whoever runs the task, here or elsewhere."""
    task = (await admitted(desk.tasks, an_admission("task1"))).task
    live = a_live_task()
    desk.running[live.task.id] = live

    with pytest.raises(StillRunning):
        await desk.waiting.outcome(task.team, task.id, timeout_s=0.05)
    with pytest.raises(StillRunning):
        await desk.waiting.outcome(live.task.team, live.task.id, timeout_s=0.05)


async def test_a_task_that_broke_here_is_an_error(desk: Desk) -> None:
    """A defect is told at once, instead of at the end of the wait."""
    live = a_live_task()
    desk.running[live.task.id] = live
    live.break_off(InternalError())

    with pytest.raises(InternalError):
        await desk.waiting.outcome(live.task.team, live.task.id, timeout_s=5)


async def test_a_task_that_moves_is_waited_for_in_the_journal(desk: Desk) -> None:
    """Its waiters hear of its end although another process saw to it."""
    task = (await admitted(desk.tasks, an_admission("task1"))).task
    live = a_live_task(task)
    desk.running[task.id] = live

    async def elsewhere() -> None:
        await asyncio.sleep(0.05)
        del desk.running[task.id]
        live.break_off(MovedError())
        await desk.tasks.conclude(task, await submitted(desk.tasks, task), finished())
        await desk.tasks.shelve(task.team, {task.id: ShelfNote({"0": "png 3"})})
        desk.waiting.hear(Message(Kind.OVER, task.team, task.id))

    async with asyncio.TaskGroup() as group:
        group.create_task(elsewhere())
        outcome = await desk.waiting.outcome(task.team, task.id, timeout_s=5)

    [render] = outcome.delivered
    assert render.result is not None
    assert render.result.stored is not None
    assert (3, PictureFormat.PNG) == (render.result.stored.size_bytes, render.result.stored.format)


async def test_a_message_ends_the_pause_between_two_readings(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told reads now; without a word there is no other reading here."""
    monkeypatch.setattr(gateway.tasks.waiting, "READ_AGAIN_S", 3600.0)
    task = (await admitted(desk.tasks, an_admission("task1"))).task

    async def end() -> None:
        await asyncio.sleep(0.1)
        await desk.tasks.conclude(task, await submitted(desk.tasks, task), failed())
        desk.waiting.hear(Message(Kind.OVER, task.team, task.id))

    async with asyncio.TaskGroup() as group:
        group.create_task(end())
        outcome = await desk.waiting.outcome(task.team, task.id, timeout_s=60)

    assert () == tuple(outcome.delivered)


async def test_after_the_deadline_what_is_there_is_delivered(desk: Desk) -> None:
    """Of three pictures one is stored: before the deadline that is nothing, after it is that."""
    task = (await admitted(desk.tasks, an_admission("task1", images=3))).task
    await desk.tasks.conclude(task, await submitted(desk.tasks, task), finished())
    await desk.tasks.shelve(task.team, {task.id: ShelfNote({"0": "png 3"})})

    with pytest.raises(StillRunning):
        await desk.waiting.outcome(task.team, task.id, timeout_s=0.1)
    desk.clock.advance(61)
    outcome = await desk.waiting.outcome(task.team, task.id, timeout_s=0.1)

    assert [0] == [render.index for render in outcome.delivered]


@pytest.mark.parametrize("here", [True, False])
async def test_a_picture_more_is_enough_for_who_asks_for_one(desk: Desk, here: bool) -> None:
    """Whoever runs the task; one that was there is told at once, and nothing new is waited for."""
    task = (await admitted(desk.tasks, an_admission("task1", images=3))).task
    live = a_live_task(task)
    if here:
        desk.running[task.id] = live

    async def finish() -> None:
        await asyncio.sleep(0.05)
        ended = await desk.tasks.conclude(task, await submitted(desk.tasks, task), finished())
        await desk.tasks.shelve(task.team, {task.id: ShelfNote({"0": "png 3"})})
        assert ended.render.result is not None
        stored = replace(ended.render.result, stored=a_picture_in_store(0))
        live.renders[0].render = replace(ended.render, result=stored)
        live.tell()
        desk.waiting.hear(Message(Kind.OVER, task.team, task.id))

    async def beyond(pictures: int, *, timeout_s: float) -> list[int]:
        outcome = await desk.waiting.outcome(
            task.team, task.id, timeout_s=timeout_s, beyond=pictures
        )
        return [render.index for render in outcome.delivered]

    async with asyncio.TaskGroup() as group:
        group.create_task(finish())
        first = await beyond(0, timeout_s=5)
    again = await beyond(0, timeout_s=5)
    with pytest.raises(StillRunning):
        await beyond(1, timeout_s=0.1)
    desk.clock.advance(61)

    assert [0] == first == again == await beyond(1, timeout_s=5)


async def test_a_picture_that_another_replica_cannot_store_is_had_from_its_link(
    store: Store,
) -> None:
    """Once it was waited for as long as storing takes: as if it were stored, wherever it is."""
    desk = Desk(store)
    picture = a_picture_in_store()

    async def with_straight(task: Task) -> Task:
        [render] = task.renders
        assert render.result is not None
        return task.with_render(replace(render, result=replace(render.result, stored=picture)))

    waiting = Waiting(
        desk.tasks, desk.running, desk.clock, deadline_s=60.0, with_straight=with_straight
    )
    task = (await admitted(desk.tasks, an_admission("task1"))).task
    await desk.tasks.conclude(task, await submitted(desk.tasks, task), finished())

    with pytest.raises(StillRunning):
        await waiting.outcome(task.team, task.id, timeout_s=0.2)
    desk.clock.advance(STRAIGHT_AFTER_MS / 1000 + 1)
    outcome = await waiting.outcome(task.team, task.id, timeout_s=5)

    assert [picture] == [render.result.stored for render in outcome.delivered if render.result]
