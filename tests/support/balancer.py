"""A load balancer as small as can be: connections go in turn to servers that are ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

LOOK_EVERY_S = 0.1
#: How long one look may take, and how long a connection waits for any server to be ready.
LOOK_WITHIN_S = 1.0
CONNECT_WITHIN_S = 10.0


class Balancer:
    """Forwards bytes to `backends` (URLs such as http://127.0.0.1:8080) that are ready.

    A backend is ready while it answers `probe` with 200.
    """

    def __init__(self, probe: str = "/readyz") -> None:
        self.backends: list[str] = []
        self.url = ""
        self._probe = probe
        self._ready: list[str] = []
        self._turn = 0

    async def look(self) -> None:
        """Ask every server again and again whether it is ready."""
        while True:
            backends = tuple(self.backends)
            answers = await asyncio.gather(*map(self._is_ready, backends))
            self._ready = [
                backend for backend, ready in zip(backends, answers, strict=True) if ready
            ]
            await asyncio.sleep(LOOK_EVERY_S)

    async def _is_ready(self, backend: str) -> bool:
        # By hand: httpcore breaks on a kept connection that its server has just closed, since anyio
        # on uvloop has no socket then to ask for the peer.
        host, _, port = backend.removeprefix("http://").partition(":")
        with suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(LOOK_WITHIN_S):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    head = (
                        f"GET {self._probe} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
                    )
                    writer.write(head.encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        return False

    async def until_ready(self, count: int) -> None:
        """Return when so many servers are ready."""
        async with asyncio.timeout(30):
            while len(self._ready) < count:  # noqa: ASYNC110 - a test may look now and then
                await asyncio.sleep(LOOK_EVERY_S)

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; close it when no server takes it for a while."""
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(CONNECT_WITHIN_S):
                server_reader, server_writer = await self._connect()
            async with asyncio.TaskGroup() as group:
                group.create_task(_pipe(reader, server_writer))
                group.create_task(_pipe(server_reader, writer))
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a server whose turn it is; to the next one when it has just gone."""
        while True:
            if self._ready:
                self._turn += 1
                host, _, port = self._ready[self._turn % len(self._ready)][7:].partition(":")
                with suppress(OSError):
                    return await asyncio.open_connection(host, int(port))
            await asyncio.sleep(LOOK_EVERY_S)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # uvloop's way to say that a transport is closed is RuntimeError.
    with suppress(OSError, RuntimeError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


@asynccontextmanager
async def balancing(probe: str = "/readyz") -> AsyncIterator[Balancer]:
    """Serve a balancer on a free port; its backends are set by the test."""
    balancer = Balancer(probe)
    server = await asyncio.start_server(balancer.forward, "127.0.0.1", 0)
    balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(balancer.look())
        try:
            yield balancer
        finally:
            looking.cancel()
            server.close()
