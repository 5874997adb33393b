"""An upstream that answers whatever it is told to, byte for byte, and remembers what it was sent.

A prompt names the part that is played: its submit, the polls of the task that the submit named,
and the fetches of the pictures that a poll named.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from tests.support.sockets import Seen, read_request, reset_now

#: Answers may name their own task and where its picture is.
ID, LINK = b"$ID", b"$LINK"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: what is written, and whether the connection is reset instead of closed after it.

    `$ID` and `$LINK` stand for the task's own id and a link to its picture.
    """

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    #: How many bytes of the body are promised and never sent.
    missing: int = 0
    resets: bool = False

    def written(self, task_id: str, link: str) -> bytes:
        """Return the bytes of the answer about a task."""
        body = self.body.replace(ID, task_id.encode()).replace(LINK, link.encode())
        lines = [
            f"HTTP/1.1 {self.status} Status",
            f"Content-Length: {len(body) + self.missing}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    @property
    def is_whole(self) -> bool:
        """Tell whether all of it arrives."""
        return not (self.missing or self.resets)


GONE = Reply(404, b'{"error":{"code":"task_not_found","message":"m"}}')


@dataclass(slots=True)
class Part:
    """How one call is played. The last poll and the last fetch repeat."""

    submit: Reply
    polls: list[Reply]
    fetches: list[Reply]
    #: Idempotency keys in the order of the posts, and what the polls of each were answered.
    posts: list[str] = field(default_factory=list)
    answered: list[list[Reply]] = field(default_factory=list)


@dataclass(slots=True)
class HostileUpstream:
    """What is played, by the name in the prompt."""

    url: str = ""
    parts: dict[str, Part] = field(default_factory=dict)

    def reply_to(self, seen: Seen) -> bytes | None:
        """Return the bytes to answer with, None to reset the connection."""
        name, post = self._addressed(seen)
        part = self.parts.get(name)
        if part is None:
            # Asked about once more, after its part was over.
            return GONE.written("", "")
        if seen.method == "POST":
            part.posts.append(seen.headers["idempotency-key"])
            part.answered.append([])
            reply = part.submit
        elif seen.target.startswith("/v1/tasks/"):
            told = part.answered[post]
            reply = part.polls[min(len(told), len(part.polls) - 1)]
            told.append(reply)
        else:
            reply = part.fetches.pop(0) if len(part.fetches) > 1 else part.fetches[0]
        if reply.resets:
            return None
        link = f"{self.url}/pictures/{name}/{post}.png"
        return reply.written(f"task-unified-{name}-{post}", link)

    def _addressed(self, seen: Seen) -> tuple[str, int]:
        if seen.method == "POST":
            name = orjson.loads(seen.body)["prompt"]
            return name, len(self.parts[name].posts)
        found = re.search(r"(?:task-unified-|pictures/)(\w+)[-/](\d+)", seen.target)
        return (found[1], int(found[2])) if found else ("", 0)


@asynccontextmanager
async def hostile_upstream() -> AsyncIterator[HostileUpstream]:
    """Serve on a free port until the context is left."""
    upstream = HostileUpstream()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            written = upstream.reply_to(await read_request(reader))
            if written is None:
                reset_now(writer)
            else:
                writer.write(written)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            writers.discard(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def posts_unproven(part: Part) -> Iterator[str]:
    """Return what is wrong with how often a call was posted; nothing when all is well.

    Another post needs proof that the one before made nothing: a whole 4xx that is neither 408 nor
    409, or an end of its task that is told as failed.
    """
    if len(set(part.posts)) != len(part.posts):
        yield "a key was posted twice"
    refused = (
        part.submit.is_whole
        and 400 <= part.submit.status < 500
        and part.submit.status not in (408, 409)
    )
    for told in part.answered[:-1]:
        if not (refused or any(_says_failed(reply) for reply in told)):
            yield "posted again without proof"


def _says_failed(reply: Reply) -> bool:
    if not (reply.is_whole and 200 <= reply.status < 300):
        return False
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return False
    status = body.get("status") if isinstance(body, dict) else None
    return isinstance(status, str) and status.lower() in ("failed", "cancelled", "canceled")
