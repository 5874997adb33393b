"""Connections only to what a guard lets through, checked where they are opened.

aiohttp asks a resolver for names and nobody for hosts that look like addresses, so both ways are
guarded. It connects to exactly what the resolver here returned; `Host` and the name that TLS asks
for and verifies stay what the URL says.
"""

from __future__ import annotations

import socket
import ssl

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client import ClientRequest, ClientTimeout
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from gateway.network.guard import DestinationRefusedError, Guard
from gateway.network.transport import NeverSentError, TruthfulTransport

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class RefusedError(NeverSentError):
    """The guard refused the host: nothing was connected to. The message says why."""


class GuardedResolver(AbstractResolver):
    """Looks names up through the guard."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's signature
    ) -> list[ResolveResult]:
        """Return the addresses that were checked. Raises OSError."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=_NUMERIC,
            )
            for address in await self._guard.resolve(host, port)
        ]

    async def close(self) -> None:
        """Hold nothing, close nothing."""


class GuardedConnector(aiohttp.TCPConnector):
    """Opens a fresh, checked connection for every request."""

    def __init__(self, guard: Guard, context: ssl.SSLContext) -> None:
        super().__init__(
            ssl=context,
            resolver=GuardedResolver(guard),
            use_dns_cache=False,
            force_close=True,
            limit=0,
        )
        self._guard = guard

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        """Refuse a host that the resolver would never hear of. Raises ClientConnectorError."""
        try:
            self._guard.check_host(req.url.raw_host or "", req.url.port or 0)
        except DestinationRefusedError as refusal:
            raise aiohttp.ClientConnectorError(req.connection_key, refusal) from refusal
        return await super().connect(req, traces, timeout)


class GuardedTransport(TruthfulTransport):
    """Sends what the guard lets through; each hop of a redirect is a request of its own here."""

    def __init__(self, guard: Guard, context: ssl.SSLContext) -> None:
        super().__init__(
            verify=context,
            # A factory: the session belongs to the event loop of the first request.
            client=lambda: aiohttp.ClientSession(
                connector=GuardedConnector(guard, context),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            ),
        )
        self._guard = guard

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises RefusedError, and what TruthfulTransport does."""
        try:
            self._guard.check_url(request.url)
        except DestinationRefusedError as refusal:
            raise RefusedError(str(refusal)) from refusal
        try:
            return await super().handle_async_request(request)
        except NeverSentError as error:
            refusal_below = _refusal_below(error)
            if refusal_below is None:
                raise
            raise RefusedError(str(refusal_below)) from error


def _refusal_below(error: BaseException) -> DestinationRefusedError | None:
    below: BaseException | None = error
    while below is not None and not isinstance(below, DestinationRefusedError):
        below = below.__cause__
    return below
