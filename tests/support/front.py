"""A server in front of another one that can be away, silent, or show another certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.support.valkey import free_ports


@dataclass
class Front:
    """Forwards bytes to a port of this machine; what it does can be changed at any moment."""

    port: int
    behind: int
    tls: ssl.SSLContext | None = None
    #: Connections are taken, and nothing on them is answered.
    silent: bool = False
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, with a certificate if one is given."""
        self.tls = tls
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)

    async def close(self) -> None:
        """Refuse connections from now on, and break those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self.silent:
            return
        with suppress(OSError, RuntimeError, ExceptionGroup):
            there, back = await asyncio.open_connection("127.0.0.1", self.behind)
            self._writers.add(back)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back))
                group.create_task(self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # uvloop's way to say that a transport is closed is RuntimeError.
        with suppress(OSError, RuntimeError):
            while (content := await reader.read(1 << 16)) and not self.silent:
                writer.write(content)
                await writer.drain()
        if not self.silent:
            writer.close()
            self._writers.discard(writer)


@asynccontextmanager
async def front_of(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Front]:
    """Listen in front of a port of this machine until the block ends."""
    [own] = free_ports(1)
    front = Front(own, port)
    await front.open(tls)
    try:
        yield front
    finally:
        await front.close()
