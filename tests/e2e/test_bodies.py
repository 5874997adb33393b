"""How a body may arrive: announced, in chunks, after a question, too slowly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.gateway import TEAM_KEY, Running, running_gateway

BODY = json.dumps({"model": "gpt-image-1.5", "prompt": "a fox", "quality": "low"}).encode()

#: What is waited for at the most: an answer, the end of a connection.
SOON_S = 10.0


class Connection:
    """A client that writes bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, *headers: str, key: str = TEAM_KEY, of: str = "quotes") -> None:
        """Send the head of a call, for a quote unless told otherwise."""
        head = [f"POST /v1/images/{of} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
        self.writer.write("\r\n".join([*head, *headers, "", ""]).encode())

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return the status and headers of the next answer."""
        async with asyncio.timeout(SOON_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.rstrip("\r\n").split("\r\n")
        told = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split(" ")[1]), told

    async def answer(self) -> tuple[int, dict[str, str], dict[str, object]]:
        """Return the next answer with its JSON."""
        status, headers = await self.head()
        body = await self.reader.readexactly(int(headers["content-length"]))
        return status, headers, json.loads(body)

    async def is_closed(self) -> bool:
        """Wait for the server to close the connection."""
        async with asyncio.timeout(SOON_S):
            return await self.reader.read() == b""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Serve with little patience and small bodies."""
    settings = 'body_timeout = "400ms"\nmax_body = "1KiB"'
    async with running_gateway(tmp_path, server=settings) as served:
        yield served


@pytest.fixture
async def client(running: Running) -> AsyncIterator[Connection]:
    """Connect to it."""
    port = int(running.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Connection(reader, writer)
    writer.close()
    # What a client still sent when the server had closed comes back as a reset.
    with suppress(ConnectionResetError):
        await writer.wait_closed()


async def test_a_body_in_chunks(client: Connection) -> None:
    """Without a length, in pieces of any size; the connection serves on."""
    client.ask("Transfer-Encoding: chunked")
    for part in (BODY[:1], BODY[1:30], BODY[30:]):
        client.writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        await client.writer.drain()
        await asyncio.sleep(0.02)
    client.writer.write(b"0\r\n\r\n")
    first = await client.answer()
    client.ask(f"Content-Length: {len(BODY)}")
    client.writer.write(BODY)
    second = await client.answer()

    assert [(200, "image.quote")] * 2 == [(each[0], each[2]["object"]) for each in (first, second)]


async def test_chunks_above_the_limit(client: Connection) -> None:
    """Refused as soon as they are too many, whatever is still to come."""
    client.ask("Transfer-Encoding: chunked")
    client.writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n" + b"1\r\nx\r\n")
    status, _, told = await client.answer()

    assert (413, "request_too_large") == (status, _code(told))


async def test_a_client_that_asks_first(client: Connection) -> None:
    """`Expect: 100-continue` is answered before the body is sent, and then as usual."""
    client.ask(f"Content-Length: {len(BODY)}", "Expect: 100-continue")
    going_on, _ = await client.head()
    client.writer.write(BODY)
    status, _, told = await client.answer()

    assert (100, 200, "image.quote") == (going_on, status, told["object"])


@pytest.mark.parametrize(
    ("key", "length", "status", "code"),
    [("sk-wrong", len(BODY), 401, "invalid_api_key"), (TEAM_KEY, 2000, 413, "request_too_large")],
)
async def test_a_client_that_asks_first_and_is_refused(
    client: Connection, key: str, length: int, status: int, code: str
) -> None:
    """A wrong key or a body too large is told instead of 100: the body need not be sent."""
    client.ask(f"Content-Length: {length}", "Expect: 100-continue", key=key, of="generations")
    told, _, body = await client.answer()

    assert (status, code) == (told, _code(body))


async def test_a_body_that_never_comes(running: Running, client: Connection) -> None:
    """408 in the envelope; the connection is closed, and the refusal is counted."""
    client.ask(f"Content-Length: {len(BODY)}")
    client.writer.write(BODY[:-1])
    status, headers, told = await client.answer()

    assert (408, "request_timeout", "close") == (status, _code(told), headers["connection"])
    assert headers["x-request-id"].startswith("req_")
    assert await client.is_closed()
    reasons = await running.metrics()
    assert 1 == reasons['gateway_rejections_total{reason="request_timeout",team="design"}']


async def test_a_body_that_drips(client: Connection) -> None:
    """A byte now and then buys no time."""
    client.ask(f"Content-Length: {len(BODY)}")
    dripping = asyncio.create_task(_drip(client.writer, BODY), name="drip")  # noqa: TID251
    try:
        # Read meanwhile: bytes that arrive after the answer make the server's end a reset.
        status, _, told = await client.answer()
    finally:
        dripping.cancel()

    assert (408, "request_timeout") == (status, _code(told))


async def test_an_answer_reaches_a_client_that_has_not_stopped_sending(client: Connection) -> None:
    """The server drops what still comes for a while, instead of resetting the connection."""
    client.ask(f"Content-Length: {len(BODY)}")
    for place in range(20):
        client.writer.write(BODY[place : place + 1])
        await asyncio.sleep(0.1)
    status, headers, told = await client.answer()

    assert (408, "request_timeout", "close") == (status, _code(told), headers["connection"])


@pytest.mark.parametrize(
    ("connection", "key", "refused"),
    [
        ("close", TEAM_KEY, (413, "request_too_large")),
        ("keep-alive", TEAM_KEY, (413, "request_too_large")),
        ("close", "sk-wrong", (401, "invalid_api_key")),
    ],
)
async def test_a_body_that_is_sent_to_its_end_all_the_same(
    client: Connection, connection: str, key: str, refused: tuple[int, str]
) -> None:
    """A client that reads only then still reads why it was refused."""
    size_bytes = 4 << 20 if refused[0] == 413 else 1000
    client.ask(f"Content-Length: {size_bytes}", f"Connection: {connection}", key=key)
    for _ in range(50):
        client.writer.write(bytes(size_bytes // 50))
        await client.writer.drain()
    client.writer.write(bytes(size_bytes % 50))
    status, _, told = await client.answer()

    assert refused == (status, _code(told))
    if connection == "close":
        assert await client.is_closed()
    else:
        client.ask(f"Content-Length: {len(BODY)}")
        client.writer.write(BODY)
        assert 200 == (await client.answer())[0]


async def test_waiting_for_a_picture_is_not_waiting_for_a_body(running: Running) -> None:
    """A picture may take longer than a body."""
    answer = await running.generate("a fox [[latency:1]]")

    assert 200 == answer.status_code


async def _drip(writer: asyncio.StreamWriter, body: bytes) -> None:
    for place in range(len(body)):
        writer.write(body[place : place + 1])
        await asyncio.sleep(0.1)


def _code(told: dict[str, object]) -> object:
    error = told["error"]
    assert isinstance(error, dict)
    return error["code"]
