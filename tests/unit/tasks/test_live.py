import asyncio
import gc

import pytest

from gateway.domain.errors import InternalError, StillRunning
from gateway.domain.pricing import NO_CHARGE
from gateway.domain.task import FailureKind
from gateway.tasks.live import Ended
from tests.support.clock import in_virtual_time
from tests.support.factories import a_delivery, a_live_task

DELIVERED = a_delivery()
ENDED = Ended(FailureKind.MODERATION, NO_CHARGE, budgets=(), submitted=True)


def test_waiting_for_the_outcome() -> None:
    """Everybody who waits gets the same outcome, also who comes late."""

    async def scenario() -> None:
        live = a_live_task()
        asyncio.get_running_loop().call_later(5, live.resolve, DELIVERED)
        early = await asyncio.gather(live.wait(10), live.wait(6))

        assert list(early) == [DELIVERED, DELIVERED]
        assert DELIVERED is await live.wait(0)

    in_virtual_time(scenario())


def test_waiting_too_long() -> None:
    """A wait ends when its time is over, and the task is not touched by that."""

    async def scenario() -> float:
        live = a_live_task()
        with pytest.raises(StillRunning):
            await live.wait(280)
        waited_s = asyncio.get_running_loop().time()
        live.resolve(DELIVERED)

        assert DELIVERED is await live.wait(280)
        return waited_s

    assert in_virtual_time(scenario()) == pytest.approx(280)


def test_a_waiter_that_goes_away_changes_nothing() -> None:
    """A client that hangs up does not cancel the outcome for others."""

    async def scenario() -> None:
        live = a_live_task()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(live.wait(280), 1)
        live.resolve(DELIVERED)

        assert DELIVERED is await live.wait(1)

    in_virtual_time(scenario())


def test_the_first_outcome_stays() -> None:
    """What was told once is not taken back, by another outcome or by a defect."""

    async def scenario() -> None:
        live = a_live_task()
        live.resolve(ENDED)
        live.resolve(DELIVERED)
        live.break_off()

        assert ENDED is await live.wait(1)

    in_virtual_time(scenario())


def test_a_defect_is_told_to_whoever_waits() -> None:
    """A task that broke leaves nobody waiting, and stays broken."""

    async def scenario() -> None:
        live = a_live_task()
        asyncio.get_running_loop().call_later(1, live.break_off)
        with pytest.raises(InternalError):
            await live.wait(280)
        live.resolve(DELIVERED)
        with pytest.raises(InternalError):
            await live.wait(280)

    in_virtual_time(scenario())


def test_a_defect_nobody_waits_for_is_no_warning() -> None:
    """The loop does not complain about an exception that was never retrieved."""

    async def scenario() -> list[object]:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: complaints.append(context)
        )
        a_live_task().break_off()
        gc.collect()
        await asyncio.sleep(0)
        return complaints

    assert in_virtual_time(scenario()) == []


def test_tasks_are_told_apart_by_identity() -> None:
    """Two running tasks are never the same, however alike they look."""

    async def scenario() -> bool:
        return a_live_task() == a_live_task()

    assert in_virtual_time(scenario()) is False
