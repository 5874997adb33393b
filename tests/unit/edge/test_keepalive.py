from __future__ import annotations

from contextlib import ExitStack

import pytest
from starlette.responses import Response
from starlette.types import Message

from gateway.domain.errors import StillRunning
from gateway.edge.keepalive import AnswerCutError, EarlyResponse, Rest, Silence, Space, silences
from tests.support.factories import a_scope


async def _sent(rest: Rest, told: list[object]) -> None:
    """Send an early answer, and note in `told` what is sent and when its hold was left."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        told.append(message.get("status", message.get("body")))

    with ExitStack() as held:
        held.callback(told.append, "left")
        response = EarlyResponse(rest, held.pop_all())
    assert [(b"content-type", b"application/json")] == response.raw_headers
    await response(a_scope(), receive, send)


async def test_the_answer_follows_the_spaces() -> None:
    """Head and a space, a space whenever it is asked for, and the body without a second head."""
    told: list[object] = []

    async def rest(space: Space) -> Response:
        await space()
        return Response(b"{}", status_code=202)

    await _sent(rest, told)

    assert [200, b" ", b" ", "left", b"{}"] == told


async def test_an_error_is_the_end_of_it() -> None:
    """Nothing is sent after an error, the body's end least of all."""
    told: list[object] = []

    async def rest(_space: Space) -> Response:
        raise AnswerCutError(StillRunning())

    with pytest.raises(AnswerCutError):
        await _sent(rest, told)

    assert [200, b" ", "left"] == told


@pytest.mark.parametrize(
    ("wait_s", "every_s", "seconds"),
    [
        (280.0, 0.0, [280.0]),
        (280.0, 280.0, [280.0]),
        (280.0, 300.0, [280.0]),
        (60.0, 25.0, [25.0, 25.0, 10.0]),
        (50.0, 25.0, [25.0, 25.0]),
    ],
)
def test_silences(wait_s: float, every_s: float, seconds: list[float]) -> None:
    """No silence is longer than it may be, together they are the wait, and the ends are marked."""
    last = len(seconds) - 1
    expected = [
        Silence(silence_s, first=number == 0, last=number == last)
        for number, silence_s in enumerate(seconds)
    ]

    assert expected == silences(wait_s, every_s)
