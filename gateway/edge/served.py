"""What a listener is served by, while that may be exchanged."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class Served:
    """Hands each request to the application in force; those that run stay where they began."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self.app(scope, receive, send)
