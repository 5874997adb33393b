from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.tasks.interface import Standing
from tests.support.factories import a_team, an_admission
from tests.support.journal import LaterClock, a_journal, admitted, finished, submitted

TEAM = a_team()


async def test_standings_tell_how_far_tasks_have_come(store: Store) -> None:
    """By the record, with who owns it and whether its hold was raised; None where there is none."""
    journal = a_journal(store)
    task = (await admitted(journal, an_admission("task1", team=TEAM, images=3))).task
    render = await submitted(journal, task, 0)
    await journal.raise_hold(task, render, 5)
    ended = await journal.conclude(task, await submitted(journal, task, 1), finished())
    told = await journal.standings(TEAM.id, [task.id, an_admission("task2").id])

    known = task.with_render(render).with_render(ended.render)
    progress = [render.progress for render in known.renders]
    assert (
        Standing(1, "replica_1", tuple(zip(progress, (True, False, False), strict=True)))
        == (told.tasks[0])
    )
    assert [12, 19, 3] == progress
    assert None is told.tasks[1]
    assert 40 == len(told.server)


async def test_a_server_tells_itself_apart_by_its_run(store: Store) -> None:
    """The same until it is restarted."""
    journal = a_journal(store)

    assert (await journal.standings(TEAM.id, [])) == (await journal.standings(TEAM.id, []))


async def test_a_clock_that_is_behind_the_store_is_told(store: Store) -> None:
    """Nothing is admitted then, and the log says why; a clock that is ahead does no harm."""
    with capture_logs() as lines, pytest.raises(StoreUnavailable):
        await a_journal(store, clock=LaterClock(-60)).admit(an_admission("task1", team=TEAM))
    await a_journal(store, clock=LaterClock(60)).admit(an_admission("task2", team=TEAM))

    assert ["clock_behind_store"] == [line["action"] for line in lines]
    assert [b"{t:design}:task:task2"] == await store.command("KEYS", "*:task:*")
