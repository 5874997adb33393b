from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.app import Server, listen
from gateway.background import SystemClock
from gateway.edge import connections
from gateway.edge.connections import (
    Connection,
    CrowdMiddleware,
    room_for_clients,
    take_descriptors,
)
from gateway.edge.middleware import RecordMiddleware
from gateway.telemetry.metrics import Metrics

KEEP_ALIVE_S = 1


@pytest.fixture
def limit() -> Iterator[int]:
    """Give the process's limit of open files back as it was."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@asynccontextmanager
async def served(pause_s: float = 0.0) -> AsyncIterator[tuple[str, int]]:
    """Serve one word on every path, after a pause; yield where."""

    async def word(_: Request) -> Response:
        await asyncio.sleep(pause_s)
        return PlainTextResponse("word")

    app = Starlette(
        routes=[Route("/{path:path}", word)],
        middleware=[
            Middleware(
                RecordMiddleware,
                clock=SystemClock(),
                metrics=Metrics(CollectorRegistry(), version="1"),
                random_bytes=bytes,
            ),
            Middleware(CrowdMiddleware),
        ],
    )
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = Server(config)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            await asyncio.wait({running})


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave room for two connections, and for two more to be told so."""
    monkeypatch.setattr(connections, "room_for_clients", lambda: (2, 4))


async def get(path: str, address: tuple[str, int]) -> httpx.Response:
    """Ask over a connection of its own."""
    async with httpx.AsyncClient() as client:
        return await client.get("http://{}:{}{}".format(*address, path))


async def test_whoever_comes_beyond_the_room_is_told_to_come_back(room: None) -> None:
    """In our envelope, on a connection that ends; probes are answered, and those within served."""
    async with served() as address, httpx.AsyncClient() as kept:
        base = "http://{}:{}".format(*address)
        await kept.get(f"{base}/v1/usage")
        _, other = await asyncio.open_connection(*address)
        beyond, probe = await get("/v1/usage", address), await get("/readyz", address)
        within = await kept.get(f"{base}/v1/usage")
        other.close()
        async with asyncio.timeout(30):
            # The server sees a moment later that it has gone.
            while (later := await get("/v1/usage", address)).text != "word":  # noqa: ASYNC110 - as it says
                await asyncio.sleep(0.02)

    assert (503, "too_many_connections") == (beyond.status_code, beyond.json()["error"]["code"])
    assert ("close", "2") == (beyond.headers["connection"], beyond.headers["retry-after"])
    assert beyond.headers["x-request-id"].startswith("req_")
    assert ["word"] * 3 == [probe.text, within.text, later.text]


async def test_far_beyond_it_is_hung_up_on(room: None) -> None:
    """Before anything is read; those there are go on."""
    async with served() as address:
        others = [await asyncio.open_connection(*address) for _ in range(4)]
        with pytest.raises(httpx.TransportError):
            await get("/v1/usage", address)
        reader, writer = others[0]
        writer.write(b"GET /v1/usage HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"HTTP/1.1 200 OK\r\n" == await reader.readline()
        for _, one in others:
            one.close()


async def test_beyond_the_room_nobody_may_be_silent_for_long(
    room: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that say nothing give their places up, though their clients hold on to them."""
    monkeypatch.setattr(connections, "CROWDED_HEAD_S", 0.1)
    async with served() as address:
        others = [await asyncio.open_connection(*address) for _ in range(4)]
        async with asyncio.timeout(60):
            assert [b"", b""] == [await reader.read() for reader, _ in others[2:]]
        assert not others[0][0].at_eof()
        for _, one in others:
            one.close()


@pytest.mark.parametrize("said", [b"", b"GET /v1/usage HTTP/1.1\r\nhost:"])
async def test_a_client_that_does_not_say_what_it_wants_is_hung_up_on(said: bytes) -> None:
    """Whether it says nothing at all or half of it, at first or after an answer."""
    async with served() as address:
        for earlier in (b"", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(earlier + said)
            async with asyncio.timeout(60):
                answered = await reader.read()
            assert earlier.startswith(b"GET") is answered.endswith(b"word")
            writer.close()


async def test_a_body_may_take_its_time() -> None:
    """What comes after the head is bounded by others."""
    async with served() as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
        with suppress(TimeoutError):
            async with asyncio.timeout(KEEP_ALIVE_S + 0.5):
                await reader.readuntil(b"word")
        writer.write(b"xx" + b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(60):
            assert (await reader.read()).endswith(b"word")
        writer.close()


async def test_an_answer_that_is_on_its_way_is_not_cut_off() -> None:
    """Whoever begins another request early, and does not end it, gets the answer to the first."""
    async with served(KEEP_ALIVE_S + 0.5) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT")
        async with asyncio.timeout(60):
            assert (await reader.read()).endswith(b"word")
        writer.close()


@pytest.mark.parametrize(
    ("most", "expected"), [(256, (128, 160)), (4096, (3072, 3328)), (512, (256, 320))]
)
def test_a_part_of_the_descriptors_is_not_for_clients(
    limit: int, most: int, expected: tuple[int, int]
) -> None:
    """Half of them, and never more than is of use."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limit))

    assert expected == room_for_clients()


def test_all_descriptors_that_may_be_had_are_taken(limit: int) -> None:
    """The soft limit goes up to the hard one, as far as is of use; it never goes down."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit))
    take_descriptors()
    taken, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    enough = connections.ENOUGH_DESCRIPTORS
    most = enough if limit == resource.RLIM_INFINITY else min(limit, enough)
    assert (most, limit) == (taken, hard)
