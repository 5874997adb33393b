"""Browsers of other origins: which of them may call, and what they may read."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route

from gateway.edge.openapi.headers import HEADERS


def cors(origins: Sequence[str], routes: Sequence[BaseRoute]) -> list[Middleware]:
    """Return what lets pages of these origins call these routes; no origins, nothing.

    Keys travel in a header that the page sets, so that cookies are never allowed.
    """
    if not origins:
        return []
    methods = {
        method for route in routes if isinstance(route, Route) for method in route.methods or ()
    }
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=[*origins],
            allow_methods=sorted(methods),
            # OpenAI's clients send a dozen headers of their own, more with every release.
            allow_headers=["*"],
            expose_headers=[*HEADERS],
        )
    ]
