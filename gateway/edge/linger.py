"""The end of a connection whose client is still sending.

A server that closes while bytes of the client lie unread resets the connection, and the reset takes
the answer with it that the client has not read yet (RFC 9112 §9.6).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: How long is read on, in all and without hearing anything.
LINGER_S, QUIET_S = 5.0, 1.0


class LingerMiddleware:
    """Reads on and drops what comes for a moment, between an answer that closes and the end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_whole = False
        closes = scope["http_version"] == "1.0" or _closes(Headers(scope=scope))

        async def receive_noting() -> Message:
            nonlocal is_whole
            message = await receive()
            is_whole = _is_last(message)
            return message

        async def send_before_the_end(message: Message) -> None:
            nonlocal closes
            if message["type"] == "http.response.start":
                closes = closes or _closes(Headers(raw=message["headers"]))
            elif closes and not is_whole and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await _drop(receive)
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, receive_noting, send_before_the_end)


async def _drop(receive: Receive) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            is_whole = False
            while not is_whole:
                async with asyncio.timeout(QUIET_S):
                    is_whole = _is_last(await receive())


def _is_last(message: Message) -> bool:
    """Tell whether nothing more comes: the body has ended, or the client has gone."""
    return message["type"] != "http.request" or not message.get("more_body", False)


def _closes(headers: Headers) -> bool:
    said = headers.get("connection", "").lower().split(",")
    return "close" in [word.strip() for word in said]
