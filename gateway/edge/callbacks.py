"""`POST /v1/callbacks/{provider}/{token}`: upstreams say that a render has ended."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from gateway.domain.errors import NotFound
from gateway.service.callbacks import Callbacks, Heard


class CallbackRoutes:
    """The handler that upstreams call; without a public URL there is none to be called."""

    def __init__(self, callbacks: Callbacks | None) -> None:
        self._callbacks = callbacks

    async def receive(self, request: Request) -> Response:
        """Take a callback in; whatever it says, the answer is quick and tells nothing."""
        body = await request.body()
        token = request.path_params["token"]
        if self._callbacks is None or await self._callbacks.hear(token, body) is Heard.FORGED:
            raise NotFound("There is no such callback.")
        return Response(status_code=200)
