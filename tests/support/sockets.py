"""Small HTTP servers on real sockets that misbehave on purpose.

A server plays one script for every request that it read whole, so that `requests` counts what a
server would have acted on. Scripts are the functions below or anything of the same shape.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

#: Long enough for what was written to arrive by itself.
PACKET_PAUSE_S = 0.05

RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """What a server of `raw_server` saw."""

    port: int
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0
    #: Set once the first request was read.
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def host(self) -> str:
        """Address and port, as a link carries them."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The server's base URL."""
        return f"http://{self.host}"


@asynccontextmanager
async def raw_server(
    script: Script, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Listen on a free port and play `script` for each request, until the context is left."""
    seen = RawServer(port=0)
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        writers.append(writer)
        try:
            while not writer.is_closing():
                seen.requests.append(await read_request(reader))
                seen.asked.set()
                await script(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)


@asynccontextmanager
async def tcp_server(first: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[int]:
    """Listen on a free port and call `first` for each connection before anything is read."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        first(writer)
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)


def closed_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answer(status: int = 200, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Script:
    """Return a script that answers properly; `headers` may replace Content-Length."""
    fields = {"Content-Length": str(len(body)), **(headers or {})}
    head = f"HTTP/1.1 {status} Status\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()

    return play


def answer_then_close(body: bytes = b"{}") -> Script:
    """Return a script that promises to keep the connection, and closes it after the answer."""
    whole = answer(200, body, {"Connection": "keep-alive"})

    async def play(writer: asyncio.StreamWriter) -> None:
        await whole(writer)
        writer.close()

    return play


def raw(*pieces: bytes) -> Script:
    """Return a script that writes each piece in a packet of its own and closes the connection."""

    async def play(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(PACKET_PAUSE_S)
        writer.close()

    return play


def raw_then_reset(output: bytes) -> Script:
    """Return a script that writes these bytes, lets them arrive, and resets the connection."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(output)
        await writer.drain()
        await asyncio.sleep(PACKET_PAUSE_S)
        reset_now(writer)

    return play


def drip(head: bytes, drop: bytes, *, pause_s: float) -> Script:
    """Return a script that writes `head` and then `drop` again and again, for ever."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return play


async def silent(writer: asyncio.StreamWriter) -> None:
    """Say nothing, ever."""
    await writer.wait_closed()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection instead of answering."""
    reset_now(writer)


def reset_now(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets RST and not FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    writer.transport.abort()


def in_turn(*scripts: Script) -> Script:
    """Return a script that plays the first one for the first request, and so on."""
    left = list(scripts)

    async def play(writer: asyncio.StreamWriter) -> None:
        await left.pop(0)(writer)

    return play


async def read_request(reader: asyncio.StreamReader) -> Seen:
    """Read one whole request. Raises IncompleteReadError when the client goes away before that."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method=method, target=target, headers=headers, body=body)
