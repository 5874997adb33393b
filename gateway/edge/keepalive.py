"""An answer that begins before anybody knows what it is, for middleboxes that cut silent ones.

Its head says 200 and its body begins with spaces, which JSON allows. An error that comes after
that cannot be told any more: the connection is cut in the middle of the body, so that the client
tries again, is attached to the very task, and gets the true status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.domain.errors import GatewayError

#: Sends one space.
Space = Callable[[], Awaitable[None]]
#: Waits for the answer, with spaces meanwhile; may raise AnswerCutError.
Rest = Callable[[Space], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Silence:
    """A part of a wait without a byte. In the `first` one the answer has not begun."""

    seconds: float
    first: bool
    last: bool


class AnswerCutError(Exception):
    """The answer had begun as a good one when this `error` came: it ends without its end."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class EarlyResponse(Response):
    """Head and a space at once, and then the body of the response that `rest` comes to.

    `held` is left as soon as that is there; what is sent then may take its time.
    """

    media_type = "application/json"

    def __init__(self, rest: Rest, held: AbstractContextManager[object]) -> None:
        super().__init__()
        # Nobody knows the length yet: without one the server sends chunks.
        del self.headers["content-length"]
        self._rest = rest
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. Raises AnswerCutError, after which nothing more may be sent."""

        async def space() -> None:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})

        async def send_body(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)

        with self._held:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await space()
            response = await self._rest(space)
        await response(scope, receive, send_body)


def silences(wait_s: float, every_s: float) -> list[Silence]:
    """Return the parts of a wait, none longer than `every_s`; zero is no limit."""
    seconds = []
    while 0 < every_s < wait_s:
        seconds.append(every_s)
        wait_s -= every_s
    seconds.append(wait_s)
    last = len(seconds) - 1
    return [
        Silence(silence_s, first=number == 0, last=number == last)
        for number, silence_s in enumerate(seconds)
    ]
