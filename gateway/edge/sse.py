"""Server-sent events as OpenAI writes them: a name, JSON in one line, an empty line.

There is no `[DONE]`, an error is nested, and what keeps a stream awake is a comment: everything
else is taken for a picture by one client or another (protocols/openai_images.md §5).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import orjson
import pybase64

from gateway.edge.render import around

MEDIA_TYPE = "text/event-stream"

#: Tells clients and what is between that the stream goes on.
HEARTBEAT = b": keepalive\n\n"


class EventLines:
    """Writes the events of one stream."""

    def __init__(self) -> None:
        self._is_within = False

    async def picture(
        self, kind: str, fields: Mapping[str, object], pieces: AsyncGenerator[bytes]
    ) -> AsyncGenerator[bytes]:
        """Write an event with a picture in its empty `b64_json`, as the picture is read.

        `pieces` are multiples of three bytes. Raises what reading raises; the event is then in the
        middle of its line, and only `error` may follow.
        """
        head, tail = around(_typed(kind, fields))
        self._is_within = True
        yield _NAMED % kind.encode() + head
        async with aclosing(pieces):
            async for piece in pieces:
                yield pybase64.b64encode(piece)
        yield tail + _END
        self._is_within = False

    def error(self, error: Mapping[str, object]) -> bytes:
        """Return the event that ends a stream without its pictures.

        A picture that broke off becomes it: of two names the later one counts, of two keys too.
        """
        if not self._is_within:
            return _NAMED % b"error" + orjson.dumps(_typed("error", {"error": error})) + _END
        self._is_within = False
        rest = orjson.dumps(_typed("error", {"error": error}))[1:]
        return b'",' + rest + b"\nevent: error" + _END


_NAMED = b"event: %s\ndata: "
_END = b"\n\n"


def _typed(kind: str, fields: Mapping[str, object]) -> dict[str, object]:
    """Return what an event tells; clients read its kind from within."""
    return {"type": kind, **fields}
