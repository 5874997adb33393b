from __future__ import annotations

import pytest

from gateway.domain.errors import NotFound
from gateway.domain.task import FailureKind, Render, RenderState, Result
from gateway.service.tasks import Status, TaskService, render_status, status_of
from gateway.store.client import Store
from tests.support.engine import House, over
from tests.support.factories import a_caller, a_picture_in_store, a_result, a_task, a_team
from tests.support.journal import record_in

CALLER = a_caller()


async def test_a_running_task_is_shown_as_it_is_now(house: House, store: Store) -> None:
    """Newer than what the journal may say, and the same when it is over."""
    service = TaskService(house.journal, house.engine)
    live = await house.admit()
    shown = await service.show(CALLER, live.task.id)
    await house.poller.poll()
    await over(live)
    done = await service.show(CALLER, live.task.id)

    assert Status.COMPLETED != status_of(shown)
    assert Status.COMPLETED == status_of(done)
    assert "0:stored" in await record_in(store)


async def test_a_list_has_what_was_answered_just_now(house: House) -> None:
    """Whoever has a picture and lists its task finds it done, not a second later."""
    service = TaskService(house.journal, house.engine)
    await house.picture()
    listed = await service.newest(CALLER, after="", limit=5)

    assert [Status.COMPLETED] == [status_of(task) for task in listed]


async def test_what_is_not_the_teams_is_not_there(house: House) -> None:
    """Neither a running task of another team, nor one that never was."""
    service = TaskService(house.journal, house.engine)
    live = await house.admit()
    stranger = a_caller(a_team(name="others"))

    for caller, task in ((stranger, live.task.id), (CALLER, "imgtask_0")):
        with pytest.raises(NotFound):
            await service.show(caller, task)
        with pytest.raises(NotFound):
            await service.cancel(caller, task)
    assert [] == await service.newest(stranger, after="", limit=5)


async def test_a_record_of_a_later_release_is_not_shown(house: House, store: Store) -> None:
    """What cannot be read is not there, rather than a defect."""
    service = TaskService(house.journal, house.engine)
    await house.picture()
    await store.command("HSET", "{t:design}:task:task1", "schema", "3")

    with pytest.raises(NotFound):
        await service.show(CALLER, "task1")


DONE = a_result(stored=a_picture_in_store())
FAILED = a_result(failure=FailureKind.GENERATION_FAILED)
WITHDRAWN = a_result(failure=FailureKind.WITHDRAWN)
UNKNOWN = a_result(failure=FailureKind.SUBMIT_UNKNOWN)


@pytest.mark.parametrize(
    ("render", "status"),
    [
        (Render(0, RenderState.QUEUED), Status.QUEUED),
        (Render(0, RenderState.SUBMITTING), Status.IN_PROGRESS),
        (Render(0, RenderState.SUBMITTED), Status.IN_PROGRESS),
        (Render(0, RenderState.COMPLETED, result=a_result()), Status.IN_PROGRESS),
        (Render(0, RenderState.COMPLETED, result=DONE), Status.COMPLETED),
        (Render(0, RenderState.COMPLETED, result=a_result(lost=True)), Status.FAILED),
        (Render(0, RenderState.FAILED, result=FAILED), Status.FAILED),
        (Render(0, RenderState.FAILED, result=WITHDRAWN), Status.CANCELLED),
        (Render(0, RenderState.UNKNOWN, result=UNKNOWN), Status.UNKNOWN),
    ],
)
def test_how_a_render_stands(render: Render, status: Status) -> None:
    """Completed is a picture in the store, and nothing less."""
    assert status == render_status(render)
    assert status == status_of(a_task(render))


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ((DONE, None), Status.IN_PROGRESS),
        ((DONE, FAILED), Status.COMPLETED),
        ((FAILED, UNKNOWN), Status.UNKNOWN),
        ((FAILED, WITHDRAWN), Status.FAILED),
        ((WITHDRAWN, WITHDRAWN), Status.CANCELLED),
    ],
)
def test_how_a_task_of_several_stands(results: tuple[Result | None, ...], status: Status) -> None:
    """Unfinished as long as one of them is; then as good as its best."""
    renders = [
        Render(index, RenderState.QUEUED if result is None else RenderState.FAILED, result=result)
        for index, result in enumerate(results)
    ]

    assert status == status_of(a_task(*renders))
