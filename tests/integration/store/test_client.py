from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from redis.exceptions import ResponseError

from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.scripts import Script
from tests.support.valkey import ValkeyProcess

COUNT = Script("count", "return redis.call('INCR', KEYS[1])")
ECHO = Script("echo", "return ARGV[1]")


async def test_script_unknown_to_the_server_runs_once(store: Store) -> None:
    """A server that lost its script cache is taught again, and the script runs once."""
    await store.command("SCRIPT", "FLUSH")

    assert 1 == await store.run(COUNT, ["{t:x}:n"], [])
    assert 2 == await store.run(COUNT, ["{t:x}:n"], [])


async def test_stalled_server_is_unavailable_within_the_bound(
    valkey_process: ValkeyProcess, store: Store
) -> None:
    """A server that does not answer costs one time limit, and its command runs at most once."""
    async with Store(valkey_process.url, timeout_ms=300) as hasty:
        await hasty.ping()
        valkey_process.stop()
        started_s = time.monotonic()
        try:
            with pytest.raises(StoreUnavailable):
                await hasty.run(COUNT, ["{t:x}:n"], [])
            took_s = time.monotonic() - started_s
        finally:
            valkey_process.cont()
        await asyncio.sleep(0.2)

        # Nothing is left on the connection that a later caller could take for its answer.
        answers = [await hasty.run(ECHO, [], [str(number)]) for number in range(5)]

    assert took_s < 2.0
    assert [b"0", b"1", b"2", b"3", b"4"] == answers
    assert b"1" == await store.command("GET", "{t:x}:n")


async def test_cancelled_call_does_not_leave_its_answer_to_the_next(store: Store) -> None:
    """A caller that goes away mid-call cannot mix up answers."""
    for _ in range(20):
        task = asyncio.get_running_loop().create_task(store.run(ECHO, [], ["stale"]))
        await asyncio.sleep(0)
        task.cancel()
        assert b"fresh" == await store.run(ECHO, [], ["fresh"])


async def test_a_cancelled_caller_is_cancelled(store: Store) -> None:
    """At whatever moment of a call it is told to stop: redis-py forgets some of them."""
    loop = asyncio.get_running_loop()

    async def call_for_ever() -> None:
        while True:
            with suppress(StoreUnavailable):
                await store.run(ECHO, [], ["again"])

    for turn in range(600):
        task = loop.create_task(call_for_ever())
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        await asyncio.sleep(turn % 20 * 0.00003)
        task.cancel()
        _, forgotten = await asyncio.wait([task], timeout=1)
        for left in forgotten:
            left.cancel()

        assert set() == forgotten


async def test_nothing_listening_is_unavailable() -> None:
    """A missing server is the same to callers as a silent one."""
    async with Store("unix:///nonexistent/valkey.sock", timeout_ms=300) as nowhere:
        with pytest.raises(StoreUnavailable):
            await nowhere.ping()


async def test_script_errors_are_defects_and_not_outages(store: Store) -> None:
    """A wrong script is not reported as a store that is down."""
    with pytest.raises(ResponseError):
        await store.run(Script("wrong", "return redis.call('HGET')"), [], [])


async def test_full_server_is_unavailable(store: Store) -> None:
    """A server without memory refuses, and that passes."""
    await store.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await store.run(
                Script("write", "#!lua\nreturn redis.call('SET', KEYS[1], 'x')"), ["k"], []
            )
    finally:
        await store.command("CONFIG", "SET", "maxmemory", "0")
