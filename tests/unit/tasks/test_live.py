import asyncio
import gc
from dataclasses import replace

import pytest

from gateway.background import Background
from gateway.domain.errors import InternalError
from gateway.domain.task import FailureKind, Render, RenderState
from gateway.tasks.live import LiveTask, MovedError
from gateway.tasks.poller import Poller
from tests.support.clock import LoopClock, in_virtual_time
from tests.support.factories import (
    a_budget_state,
    a_live_task,
    a_picture_in_store,
    a_render,
    a_result,
    a_task,
    an_outcome,
)

MADE = a_render(
    0, state=RenderState.COMPLETED, result=a_result(stored=a_picture_in_store(), cost_microusd=10)
)
BLOCKED = a_render(
    1,
    state=RenderState.FAILED,
    result=a_result(failure=FailureKind.MODERATION, cost_microusd=0),
)
LOST = a_render(2, state=RenderState.COMPLETED, result=a_result(lost=True, cost_microusd=5))
RUNNING = a_render(3)


def test_an_outcome_delivers_what_is_in_the_store() -> None:
    """Failed, lost and unfinished renders have no picture to hand out."""
    assert (MADE,) == an_outcome(MADE, BLOCKED, LOST, RUNNING).delivered


def test_an_outcome_costs_what_all_renders_cost() -> None:
    """A picture that was lost is paid for; what did not end yet costs nothing so far."""
    assert 15 == an_outcome(MADE, BLOCKED, LOST, RUNNING).cost_microusd


async def test_every_render_begins_to_run() -> None:
    """Each render of the task is one of its own, that waits in the queue from now on."""
    live = a_live_task(a_task(a_render(0), a_render(1)), admitted_s=7.0)

    assert [(0, 7.0), (1, 7.0)] == [(one.index, one.queued_s) for one in live.renders]
    assert all(one.live is live for one in live.renders)


async def test_the_task_of_now_has_its_renders_of_now() -> None:
    """What a render has become is seen in the task, its outcome, and whether it is over."""
    live = a_live_task(a_task(MADE, a_render(1)))
    live.budgets, live.retry_after_s = (a_budget_state(),), 7.0
    before = (live.over, live.current.over)
    live.renders[1].render = BLOCKED

    assert (False, False) == before
    assert live.over
    assert (MADE, BLOCKED) == live.current.renders
    assert (live.current, (a_budget_state(),), 7.0) == (
        *(live.outcome.task, live.outcome.budgets),
        live.outcome.retry_after_s,
    )


async def test_what_is_held_for_a_render() -> None:
    """The hold of the task, and what was added for this one."""
    live = a_live_task(a_task(a_render(0), a_render(1), hold_microusd=100))
    live.renders[1].render = replace(live.renders[1].render, raised_microusd=25)

    assert [100, 125] == [one.held_microusd for one in live.renders]


async def test_everybody_who_waits_is_told() -> None:
    """All waiters see the same outcome, with the renders as they were then."""
    live = a_live_task(a_task(MADE))
    waiters = [asyncio.shield(live.done) for _ in range(2)]
    live.resolve()
    first, second = await asyncio.gather(*waiters)

    assert first is second
    assert (MADE,) == first.delivered


async def test_news_is_told_once() -> None:
    """Whoever waits is woken by every piece of news and by the end; the next waits for more."""
    live = a_live_task(a_task(MADE))
    told = []
    for tell in (live.tell, live.resolve, lambda: live.break_off(InternalError())):
        news = live.news
        tell()
        told.append((news.is_set(), live.news.is_set()))

    # The first word stays, so that there is no news of a second one.
    assert [(True, False), (True, False), (False, False)] == told


@pytest.mark.parametrize("error", [InternalError(), MovedError()])
async def test_the_first_word_stays(error: InternalError | MovedError) -> None:
    """What was told once is not taken back, be it an outcome or that there will be none here."""
    over, left = a_live_task(), a_live_task()
    over.resolve()
    over.break_off(error)
    left.break_off(error)
    left.resolve()

    assert over.outcome == over.done.result()
    assert error is left.done.exception()


def test_an_error_nobody_waits_for_is_no_warning() -> None:
    """The loop does not complain about an exception that was never retrieved."""

    async def scenario() -> list[object]:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: complaints.append(context)
        )
        a_live_task().break_off(InternalError())
        gc.collect()
        await asyncio.sleep(0)
        return complaints

    assert in_virtual_time(scenario()) == []


def test_stirring_a_render_lets_its_poll_be_due() -> None:
    """A render that waits to be polled is polled now; one that does not is marked."""

    async def scenario() -> tuple[list[float], bool]:
        polled = []
        async with Background(grace_s=0.0) as background:
            poller = Poller(LoopClock(), background, max_concurrent=1)
            background.loop("poller", poller.run)
            live = a_live_task(a_task(a_render(0), a_render(1)))
            waiting, idle = live.renders

            async def poll() -> None:
                polled.append(asyncio.get_running_loop().time())

            waiting.due = poller.schedule("evolink", 60.0, poll)
            await asyncio.sleep(5)
            waiting.stir()
            idle.stir()
            await asyncio.sleep(100)
        return polled, idle.stirred.is_set()

    assert in_virtual_time(scenario()) == ([5.0], True)


async def test_what_a_callback_named_is_kept_until_it_is_looked_at() -> None:
    """Another reason to look does not make a render forget the id that was claimed for it."""
    [one] = a_live_task().renders
    one.stir("task-unified-7")
    one.stir()

    assert "task-unified-7" == one.candidate


async def test_tasks_are_told_apart_by_identity() -> None:
    """Two running tasks or renders are never the same, however alike they look."""

    def alike() -> tuple[LiveTask, Render]:
        live = a_live_task()
        return live, live.renders[0].render

    (one, render), (other, same) = alike(), alike()

    assert render == same
    assert one != other
    assert one.renders[0] != other.renders[0]
