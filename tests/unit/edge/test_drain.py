from __future__ import annotations

import asyncio

import pytest

from gateway.domain.errors import ShuttingDown
from gateway.edge.drain import CUT_WITHIN_S, Drain
from tests.support.clock import in_virtual_time


async def test_calls_pass_until_draining_begins() -> None:
    """Before the end everything is let in, and the check is fine."""
    drain = Drain()
    await drain.check()
    with drain.call():
        pass

    assert 0 == await drain.finish(0.0)
    with pytest.raises(ShuttingDown):
        await drain.check()
    with pytest.raises(ShuttingDown), drain.call():
        raise AssertionError("let in")


async def test_draining_ends_when_the_last_call_does() -> None:
    """Nobody waits for the time-out when there is nothing left to wait for."""
    drain = Drain()
    release = asyncio.Event()

    async def call() -> None:
        with drain.call():
            await release.wait()

    calls = [asyncio.get_running_loop().create_task(call()) for _ in range(2)]
    await asyncio.sleep(0)
    finishing = asyncio.get_running_loop().create_task(drain.finish(60.0))
    await asyncio.sleep(0)
    assert not finishing.done()
    release.set()
    await asyncio.gather(*calls)

    assert 0 == await finishing


async def test_draining_tells_how_many_calls_were_left() -> None:
    """What is not over in time is counted; a call that fails is over."""
    drain = Drain()
    with pytest.raises(ValueError, match="broke"), drain.call():
        raise ValueError("broke")
    with drain.call():
        left = await drain.finish(0.01)

    assert 1 == left


async def test_calls_are_sent_away_when_time_is_up() -> None:
    """Those that still wait are told, and get a moment to be answered; they count all the same."""
    drain = Drain()
    answered = []

    async def call() -> None:
        with drain.call():
            await drain.cut.wait()
            answered.append("sent away")

    async with asyncio.TaskGroup() as group:
        group.create_task(call())
        await asyncio.sleep(0)
        left = await drain.finish(0.01)
        answered_in_time = list(answered)

    assert (1, ["sent away"]) == (left, answered_in_time)


def test_a_call_that_does_not_go_is_not_waited_for_long() -> None:
    """A server ends although a call does not notice that it was sent away."""

    async def scenario() -> float:
        drain = Drain()
        with drain.call():
            await drain.finish(5.0)
        return asyncio.get_running_loop().time()

    assert 5.0 + CUT_WITHIN_S == in_virtual_time(scenario())


async def test_nobody_is_sent_away_before_time_is_up() -> None:
    """While calls may still wait, nothing tells them to go."""
    drain = Drain()
    async with asyncio.TaskGroup() as group:
        with drain.call():
            group.create_task(drain.finish(60.0))
            await asyncio.sleep(0)
            was_cut = drain.cut.is_set()

    assert not was_cut
