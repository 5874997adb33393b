"""A server in front of another one that can be down: then it answers 503, whatever it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_DOWN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Outage:
    """Whether the server is down, where it listens, and how often it had to say so."""

    url: str
    is_down: bool = False
    refused: int = 0


@asynccontextmanager
async def in_front_of(port: int) -> AsyncIterator[Outage]:
    """Listen in front of a port of this machine until the block ends."""
    writers: set[asyncio.StreamWriter] = set()
    outage = Outage("")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while content := await reader.read(1 << 16):
                if outage.is_down:
                    break
                writer.write(content)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        if outage.is_down:
            outage.refused += 1
            with suppress(OSError):
                await reader.read(1 << 16)
                writer.write(_DOWN)
                await writer.drain()
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writers.add(back)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    outage.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield outage
    finally:
        server.close()
        for writer in writers:
            writer.close()
