from __future__ import annotations

import asyncio

import pytest

from gateway.domain.errors import ShuttingDown
from gateway.edge.drain import Drain


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
