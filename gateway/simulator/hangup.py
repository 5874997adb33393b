"""Close a connection without a byte of answer, which HTTP frameworks do not offer."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class HangUp(Response):
    """Abort the connection instead of answering.

    ASGI has no message for this, and an application that returns silently is answered with 500.
    Starlette hands ``receive`` through unwrapped, and under uvicorn (httptools and h11 alike) it is
    a method of the request cycle, which owns the transport. After the abort the cycle has to hear
    of the closed connection before the application returns, or uvicorn would log a missing answer.
    Any other server raises ``RuntimeError``, hence answers 500.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Abort and wait until the server has noticed."""
        _abort(receive)
        while (await receive())["type"] != "http.disconnect":
            pass


def _abort(receive: Receive) -> None:
    cycle = getattr(receive, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise RuntimeError("only uvicorn lets the simulator drop a connection")
    transport.abort()
