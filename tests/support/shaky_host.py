"""A file host on a real socket that breaks off where it is told to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.sockets import RawServer, raw_server


@dataclass
class ShakyHost:
    """What it serves. Each answer sends at most as many bytes as `cuts` says, then breaks off.

    After the last of them answers are whole. `statuses` are told instead of an answer, by the
    number of the request. Without `ranges` every answer begins at the beginning.
    """

    content: bytes
    cuts: Sequence[int] = ()
    ranges: bool = True
    statuses: dict[int, int] | None = None
    later: bytes | None = None
    etag: str = '"one"'


@asynccontextmanager
async def shaky_host(host: ShakyHost) -> AsyncIterator[RawServer]:
    """Serve until the block ends."""
    servers: list[RawServer] = []

    async def script(writer: asyncio.StreamWriter) -> None:
        [server] = servers
        number = len(server.requests)
        if host.statuses and number in host.statuses:
            writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % host.statuses[number])
            await writer.drain()
            return
        content = host.content if host.later is None or number == 1 else host.later
        asked = re.fullmatch(r"bytes=(\d+)-", server.requests[-1].headers.get("range", ""))
        first = int(asked[1]) if asked and host.ranges else 0
        head = [f"HTTP/1.1 {206 if first else 200} OK", f"ETag: {host.etag}"]
        head.append(f"Content-Length: {len(content) - first}")
        if first:
            head.append(f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}")
        cut = host.cuts[number - 1] if number <= len(host.cuts) else len(content)
        writer.write("\r\n".join([*head, "", ""]).encode() + content[first : first + cut])
        await writer.drain()
        if number <= len(host.cuts):
            writer.close()

    async with raw_server(script) as server:
        servers.append(server)
        yield server
