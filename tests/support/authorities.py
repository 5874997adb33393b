"""One list of certificate authorities for all clients that tests make.

httpx, and what `openai` speaks HTTP with, read it anew for each client: 45 ms of work, and
thousands of clients.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from typing import Any

import httpx._transports.default
import httpx2._transports.default


def share_authorities(patch: Callable[[Any, str, Any], None]) -> None:
    """Let clients that ask for nothing special share a context; `patch` sets attributes."""
    for transports in (httpx._transports.default, httpx2._transports.default):
        patch(transports, "create_ssl_context", _sharing(transports.create_ssl_context))


def _sharing(make: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    common = functools.cache(make)

    def shared(
        verify: ssl.SSLContext | str | bool = True, cert: Any = None, trust_env: bool = True
    ) -> ssl.SSLContext:
        if verify is True and cert is None:
            return common(trust_env=trust_env)
        return make(verify, cert, trust_env)

    return shared
