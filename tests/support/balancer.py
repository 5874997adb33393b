"""A load balancer as small as can be: connections go in turn to servers that are ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx

LOOK_EVERY_S = 0.1


class Balancer:
    """Forwards bytes to `backends` (URLs such as http://127.0.0.1:8080) that are ready."""

    def __init__(self) -> None:
        self.backends: list[str] = []
        self.url = ""
        self._ready: list[str] = []
        self._turn = 0

    async def look(self) -> None:
        """Ask every server again and again whether it is ready."""
        async with httpx.AsyncClient(timeout=2) as client:
            while True:
                ready = []
                for backend in self.backends:
                    with suppress(httpx.TransportError):
                        if (await client.get(f"{backend}/readyz")).status_code == 200:
                            ready.append(backend)
                self._ready = ready
                await asyncio.sleep(LOOK_EVERY_S)

    async def until_ready(self, count: int) -> None:
        """Return when so many servers are ready."""
        async with asyncio.timeout(30):
            while len(self._ready) < count:  # noqa: ASYNC110 - a test may look now and then
                await asyncio.sleep(LOOK_EVERY_S)

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(OSError, asyncio.IncompleteReadError):
            self._turn += 1
            host, _, port = self._ready[self._turn % len(self._ready)][7:].partition(":")
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
            async with asyncio.TaskGroup() as group:
                group.create_task(_pipe(reader, server_writer))
                group.create_task(_pipe(server_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


@asynccontextmanager
async def balancing() -> AsyncIterator[Balancer]:
    """Serve a balancer on a free port; its backends are set by the test."""
    balancer = Balancer()
    server = await asyncio.start_server(balancer.forward, "127.0.0.1", 0)
    balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(balancer.look())
        try:
            yield balancer
        finally:
            looking.cancel()
            server.close()
