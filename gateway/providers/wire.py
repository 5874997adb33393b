"""One JSON call to an upstream: bounded in time and size, and its outcome as a value.

Nothing that the network or the upstream does is raised. Reasons name an error's class and never a
URL, a header or a body.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx
import orjson

from gateway.domain.clock import Clock
from gateway.network.transport import NeverSentError, NoAnswerError, let_go
from gateway.telemetry import conventions as names
from gateway.telemetry.traces import Kind, Span, current_span

#: Bytes of an answer that are read; a task with ten links has less than 4 KiB.
MAX_BODY_BYTES = 1024 * 1024

#: Seconds that a `Retry-After` is believed; callers stop at less.
MAX_RETRY_AFTER_S = 86_400.0

#: Ports that a URL leaves out; statuses from here on are errors for whoever asked.
_PORTS = {"http": 80, "https": 443}
_ERRORS = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `body` is its JSON, None when it was none or longer than is read.

    `retry_after_s` is what `Retry-After` asks for, 0 to MAX_RETRY_AFTER_S.
    """

    status: int
    body: object | None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class NeverSent:
    """Proven: no connection was made and no byte of the request left."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No whole answer came, in time or at all; the request may have been read."""

    reason: str


Reply = Answer | NeverSent | NoAnswer


async def exchange(
    client: httpx.AsyncClient, request: httpx.Request, *, total_s: float, clock: Clock
) -> Reply:
    """Send the request once and read its answer, in `total_s` seconds all told.

    A redirect is an answer like any other: it is not followed, least of all with our key. Under a
    span of a trace it has one of its own, and tells the upstream of it.
    """
    span = current_span().child(request.method, kind=Kind.CLIENT)
    if span.is_recording:
        span.tell(
            {
                names.HTTP_REQUEST_METHOD: request.method,
                names.SERVER_ADDRESS: request.url.host,
                names.SERVER_PORT: request.url.port or _PORTS.get(request.url.scheme),
                names.URL_FULL: str(request.url.copy_with(query=None)),
            }
        )
    if told := span.headers:
        request.headers.update(told)
    try:
        reply = await _exchanged(client, request, total_s=total_s, clock=clock)
    except asyncio.CancelledError:
        span.fail("cancelled")
        span.end()
        raise
    _end(span, reply)
    return reply


def _end(span: Span, reply: Reply) -> None:
    match reply:
        case Answer(status):
            span.tell({names.HTTP_RESPONSE_STATUS_CODE: status})
            if status >= _ERRORS:
                span.fail(str(status))
        case NeverSent():
            span.fail("not_sent")
        case NoAnswer():
            span.fail("no_answer")
    span.end()


async def _exchanged(
    client: httpx.AsyncClient, request: httpx.Request, *, total_s: float, clock: Clock
) -> Reply:
    try:
        async with asyncio.timeout(total_s):
            return await _send(client, request, clock)
    except NeverSentError as error:
        return NeverSent(str(error))
    except NoAnswerError as error:
        return NoAnswer(str(error))
    except httpx.RequestError as error:
        # httpx's own, of an answer that it could not read; its message may quote it.
        return NoAnswer(type(error).__name__)
    except TimeoutError:
        # It may have fired while connecting; that cannot be proven from here.
        return NoAnswer(f"no answer within {total_s:g} s")


async def _send(client: httpx.AsyncClient, request: httpx.Request, clock: Clock) -> Answer:
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        body = await _read(response)
    finally:
        await let_go(response)
    return Answer(
        status=response.status_code,
        body=_parse(body),
        retry_after_s=parse_retry_after(
            response.headers.get("retry-after", ""), now_ms=clock.now_ms()
        ),
    )


async def _read(response: httpx.Response) -> bytes:
    """Return the body, or nothing when it is longer than MAX_BODY_BYTES."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return b""
    return bytes(body)


def _parse(body: bytes) -> object | None:
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed


def parse_retry_after(text: str, *, now_ms: int) -> float | None:
    """Return the seconds that `Retry-After` asks for, from seconds or an HTTP date.

    None when it is missing or unreadable; zero for a date that has passed, at most a day.
    """
    text = text.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, moment.timestamp() - now_ms / 1000), MAX_RETRY_AFTER_S)
