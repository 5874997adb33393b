"""End an answer as networks do and HTTP frameworks do not: not at all, halfway, or drop by drop.

ASGI has no message for closing a connection, and an application that returns silently is answered
with 500. Starlette hands ``receive`` through unwrapped, and under uvicorn (httptools and h11 alike)
it is a method of the request cycle, which owns the transport. After it was closed the cycle has to
hear of it before the application returns, or uvicorn would log a missing answer.
Any other server raises ``RuntimeError``, hence answers 500.
"""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_DROPS = 10


class HangUp(Response):
    """Abort the connection instead of answering."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Abort and wait until the server has noticed."""
        _transport(receive).abort()
        await _gone(receive)


class CutShort(Response):
    """Announce the whole body, send half of it, and close the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send the half, close, and wait until the server has noticed."""
        transport = _transport(receive)
        await send(_start(self))
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        # Closed, not aborted: what was sent has to arrive first.
        transport.close()
        await _gone(receive)


class Trickle(Response):
    """Send the body in small pieces over some seconds."""

    def __init__(self, content: bytes, seconds: float, status: int, media_type: str | None) -> None:
        super().__init__(content, status, media_type=media_type)
        self._pause_s = seconds / _DROPS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send piece by piece; a client that leaves ends it."""
        await send(_start(self))
        content = bytes(self.body)
        step = len(content) // _DROPS + 1
        for number in range(_DROPS):
            await asyncio.sleep(self._pause_s)
            piece = content[number * step : (number + 1) * step]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _start(response: Response) -> dict[str, object]:
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": response.raw_headers,
    }


def _transport(receive: Receive) -> asyncio.Transport:
    cycle = getattr(receive, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("only uvicorn lets the simulator drop a connection")
    result: asyncio.Transport = transport
    return result


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
