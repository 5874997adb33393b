"""What proxies before this server tell of their callers, of those proxies that are believed.

Behind one that speaks TLS, links to pictures begin with `https://` and the name that the caller
used, and the audit tells where a change came from. Nobody else's `X-Forwarded-*` counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

#: A name or an address, perhaps with a port, as `Host` has it; nothing else becomes part of a link.
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def forwarded(proxies: Sequence[str]) -> list[Middleware]:
    """Return what believes these proxies: addresses, networks, or `*` for all; none, nothing."""
    return [Middleware(ForwardedMiddleware, proxies=proxies)] if proxies else []


class ForwardedMiddleware:
    """Puts what a trusted proxy says in place of what the connection says.

    `X-Forwarded-For` and `X-Forwarded-Proto` as uvicorn reads them (the last address that is no
    proxy's own), `X-Forwarded-Host` by its first name.
    """

    def __init__(self, app: ASGIApp, *, proxies: Sequence[str]) -> None:
        believed = "*" if "*" in proxies else [*proxies]
        self._told = ProxyHeadersMiddleware(app, believed)  # type: ignore[arg-type] # the same protocol in uvicorn's types

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request as the proxy tells it."""
        peer = scope.get("client")
        if peer is not None and peer[0] in self._told.trusted_hosts:
            host = Headers(scope=scope).get("x-forwarded-host", "").partition(",")[0].strip()
            if _HOST.fullmatch(host) is not None:
                MutableHeaders(scope=scope)["host"] = host
        await self._told(scope, receive, send)  # type: ignore[arg-type] # as above
