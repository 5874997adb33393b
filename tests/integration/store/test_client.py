from __future__ import annotations

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from redis.exceptions import ResponseError

from gateway.background import Background
from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.scripts import Script
from tests.support.valkey import ValkeyProcess

COUNT = Script("count", "return redis.call('INCR', KEYS[1])")
WRITE = Script("write", "#!lua\nreturn redis.call('SET', KEYS[1], 'x')")
ECHO = Script("echo", "return ARGV[1]")


async def test_script_unknown_to_the_server_runs_once(store: Store) -> None:
    """A server that lost its script cache is taught again, and the script runs once."""
    await store.command_everywhere("SCRIPT", "FLUSH")

    assert 1 == await store.run(COUNT, ["{t:x}:n"], [])
    assert 2 == await store.run(COUNT, ["{t:x}:n"], [])


@asynccontextmanager
async def far_away(url: str, *, delay_s: float) -> AsyncIterator[str]:
    """Stand before a server and pass each of its answers on so much later; yield where."""
    address = httpx.URL(url)

    async def pass_on(reader: StreamReader, writer: StreamWriter, pause_s: float) -> None:
        with suppress(ConnectionError):
            while content := await reader.read(65_536):
                await asyncio.sleep(pause_s)
                writer.write(content)
        writer.close()

    async with Background(grace_s=0.0) as background:

        async def relay(reader: StreamReader, writer: StreamWriter) -> None:
            there, to = await asyncio.open_unix_connection(address.path)
            background.step("to", pass_on(reader, to, 0.0))
            background.step("fro", pass_on(there, writer, delay_s))

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        try:
            yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()


async def test_the_time_limit_is_for_all_of_a_call(valkey_process: ValkeyProcess) -> None:
    """Every answer of a first call, those to the greeting among them, comes in time; not all do."""
    async with far_away(valkey_process.url, delay_s=0.7) as url:
        async with Store(url, timeout_ms=1_000) as hasty:
            with pytest.raises(StoreUnavailable):
                await hasty.command("ECHO", "x")
        async with Store(url, timeout_ms=10_000) as patient:
            assert await patient.command("ECHO", "x") == b"x"


async def test_stalled_server_is_unavailable_within_the_bound(
    valkey_process: ValkeyProcess, store: Store
) -> None:
    """A server that does not answer costs one time limit, and its command runs at most once."""
    async with Store(valkey_process.url, timeout_ms=300) as hasty:
        await hasty.command("EXISTS", "{t:x}:n")
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

    assert took_s < 10.0
    assert [b"0", b"1", b"2", b"3", b"4"] == answers
    assert b"1" == await store.command("GET", "{t:x}:n")


async def test_cancelled_call_does_not_leave_its_answer_to_the_next(store: Store) -> None:
    """A caller that goes away mid-call cannot mix up answers."""
    for _ in range(20):
        task = asyncio.get_running_loop().create_task(store.run(ECHO, [], ["stale"]))
        await asyncio.sleep(0)
        task.cancel()
        assert b"fresh" == await store.run(ECHO, [], ["fresh"])


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancelled_call_ends_its_caller(store: Store, steps: int) -> None:
    """At whichever step it is cancelled, also as the bytes leave: a loop ends when it is told."""

    async def ask_for_ever() -> None:
        while True:
            with suppress(StoreUnavailable):
                await store.run(ECHO, [], ["again"])

    await store.ping()
    task = asyncio.get_running_loop().create_task(ask_for_ever())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await asyncio.wait((task,), timeout=0.5)
        assert task.cancelled()
    finally:
        task.cancel()


async def test_nothing_listening_is_unavailable() -> None:
    """A missing server is the same to callers as a silent one."""
    async with Store("unix:///nonexistent/valkey.sock", timeout_ms=300) as nowhere:
        with pytest.raises(StoreUnavailable):
            await nowhere.ping()


async def test_script_errors_are_defects_and_not_outages(store: Store) -> None:
    """A wrong script is not reported as a store that is down."""
    with pytest.raises(ResponseError):
        await store.run(Script("wrong", "return redis.call('HGET')"), [], [])


@pytest.mark.parametrize(
    ("setting", "refuses", "serves"),
    [("maxmemory", 1, 0), ("min-replicas-to-write", 3, 0)],
)
async def test_server_that_takes_no_writes_is_unavailable(
    store: Store, setting: str, refuses: int, serves: int
) -> None:
    """A server without memory, or without replicas it must have, refuses; that passes."""
    await store.command_everywhere("CONFIG", "SET", setting, refuses)
    try:
        with pytest.raises(StoreUnavailable):
            await store.run(WRITE, ["k"], [])
    finally:
        await store.command_everywhere("CONFIG", "SET", setting, serves)

    assert b"OK" == await store.run(WRITE, ["k"], [])


async def test_server_that_is_busy_with_a_script_is_unavailable(
    valkey_process: ValkeyProcess, store: Store
) -> None:
    """A script that does not end holds up everybody, for as long as a call may take."""
    key = "{KILL}"  # of a cluster's nodes, SCRIPT KILL is sent to the one that has it
    await store.command_everywhere("CONFIG", "SET", "busy-reply-threshold", 20)
    async with Store(valkey_process.url, timeout_ms=200) as hasty:
        for _ in range(2):  # the first is not answered, the second is told BUSY
            with pytest.raises(StoreUnavailable):
                await hasty.run(Script("endless", "while true do end"), [key], [])
    free = False
    while not free:
        with suppress(StoreUnavailable):
            with suppress(ResponseError):
                await store.command("SCRIPT", "KILL")
            free = await store.run(ECHO, [key], ["free"]) == b"free"
    await store.command_everywhere("CONFIG", "SET", "busy-reply-threshold", 5_000)


async def test_commands_without_keys_run_on_every_kind_of_store(store: Store) -> None:
    """What has no key runs somewhere, and everywhere when it is asked for."""
    await store.ping()

    assert isinstance(await store.command("TIME"), tuple)
    assert all(await store.command_everywhere("PING"))
