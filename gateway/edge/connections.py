"""How many connections a server takes at a time, and how long one may say nothing.

Each is a file descriptor. A process that has none left can do nothing for the calls it has
accepted: no order is sent, no picture is read. So clients may have only a part of them; whoever
comes beyond it is told to come back, and far beyond it is hung up on.
"""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress
from typing import cast

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.domain.errors import TooManyConnections
from gateway.edge.errors import respond, to_http

log = structlog.get_logger(__name__)

#: Descriptors that are not for clients: half of them, and never more than this. Connections to the
#: store (64 to each of its servers), polls, orders and downloads under way, files of pictures.
OWN_DESCRIPTORS = 1_024

#: As many as a process asks the system for, where it may.
ENOUGH_DESCRIPTORS = 65_536

#: How long a connection may take to say what it wants where there is no room for it.
CROWDED_HEAD_S = 2.0

_CROWDED = "crowded"

#: Answered in any crowd: whoever watches must see that it is one.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


def take_descriptors() -> None:
    """Raise the process's limit of open files as far as the system lets it.

    Many systems begin at 1,024 for programs that cannot count further; children inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        # macOS says that there is no limit, and has one.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def room_for_clients() -> tuple[int, int]:
    """Return how many connections are served, and how many may be there to be sent away."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = ENOUGH_DESCRIPTORS
    own = min(limit // 2, OWN_DESCRIPTORS)
    return limit - own, limit - own + own // 4


class Connection(HttpToolsProtocol):
    """A connection of a client, which says within `timeout_keep_alive` what it wants, or ends."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        """Take it, with a note in the state of its requests where there is no room for it."""
        super().connection_made(transport)
        served, most = room_for_clients()
        if len(self.connections) > most:
            transport.abort()
            return
        is_crowded = len(self.connections) > served
        if len(self.connections) == served + 1:
            log.warning("connections_full", action="connections_full", served=served)
        if is_crowded:
            self.app_state = {**self.app_state, _CROWDED: True}
        self._expect_head(CROWDED_HEAD_S if is_crowded else self.timeout_keep_alive)

    def on_message_begin(self) -> None:
        """Give a request as long again to tell all of its head."""
        super().on_message_begin()
        self._expect_head(self.timeout_keep_alive)

    def on_headers_complete(self) -> None:
        """Serve the request."""
        self._expect_nothing()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._expect_nothing()
        super().connection_lost(exc)

    def _expect_head(self, within_s: float) -> None:
        self._expect_nothing()
        self._head = self.loop.call_later(within_s, self._hang_up)

    def _hang_up(self) -> None:
        answering = cast("RequestResponseCycle | None", self.cycle)  # None before the first
        if answering is not None and not answering.response_complete:
            # The answer to an earlier request is on its way, or is being made.
            self._expect_head(self.timeout_keep_alive)
            return
        self.transport.close()

    def _expect_nothing(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class CrowdMiddleware:
    """Sends calls away that came over a connection there was no room for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or tell it to come back."""
        is_crowded = scope["type"] == "http" and scope.get("state", {}).get(_CROWDED, False)
        if not is_crowded or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        answer = to_http(TooManyConnections(), scope["path"])
        scope["state"]["record"].error_code = answer.code
        await respond(answer)(scope, receive, send)
