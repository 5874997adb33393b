"""Pure ASGI: the request's record, its log line and metrics, and the limits of its body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import (
    MAX_BODY_SIZE_SCOPE_KEY,
    RequestBodyLimitMiddleware,
)
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.domain.clock import Clock
from gateway.domain.errors import BodyTooLarge, BodyTooSlow, InternalError
from gateway.domain.ids import ID_BYTES, make_request_id
from gateway.edge.errors import respond, to_http
from gateway.edge.keepalive import AnswerCutError
from gateway.edge.record import RequestRecord
from gateway.edge.tracing import begun, ended
from gateway.telemetry.metrics import OTHER, Metrics, usd
from gateway.telemetry.traces import NO_SPAN, NO_TRACER, Span, Tracer, active

log = structlog.get_logger(__name__)

#: Probes and scrapes come every few seconds and tell nothing; they get no log line.
UNLOGGED_ROUTES = frozenset({"healthz", "readyz", "metrics"})

CONTENT_TOO_LARGE = 413

#: The version of its API that OpenAI tells (protocols/openai_images.md §8).
OPENAI_VERSION = "2020-10-01"

#: What a body must bring in a second beyond its time: uploads may be large, and one that drips
#: byte by byte gains nothing.
MIN_BYTES_PER_S = 16 * 1024

#: The code of a picture that is refused because nobody knows its price.
UNPRICED = "unpriced"


class RecordMiddleware:
    """Gives each request its record and its id, and accounts for it when it is over."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        metrics: Metrics,
        random_bytes: Callable[[int], bytes],
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._app = app
        self._tracer = tracer
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and account for it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(
            request_id=make_request_id(self._random_bytes(ID_BYTES)),
            started_s=self._clock.monotonic_s(),
        )
        scope.setdefault("state", {})["record"] = record
        span, delivering = begun(self._tracer, scope), NO_SPAN
        status, delivering_s = 0, 0.0
        body = _BodyWatch(receive, self._clock)

        async def send_with_headers(message: Message) -> None:
            nonlocal status, delivering_s, delivering
            if record.cost_microusd is not None and not delivering_s:
                # What it costs is known with its pictures: from now on they are on their way.
                delivering_s = self._clock.monotonic_s()
                delivering = span.child("deliver")
            if message["type"] == "http.response.start":
                status = message["status"]
                elapsed_ms = round((self._clock.monotonic_s() - record.started_s) * 1000)
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = record.request_id
                headers["openai-processing-ms"] = str(elapsed_ms)
                headers["openai-version"] = OPENAI_VERSION
                message["headers"] = [*message["headers"], *record.headers()]
            sending_s = self._clock.monotonic_s()
            await send(message)
            record.client_s += self._clock.monotonic_s() - sending_s

        try:
            with active(span):
                await self._app(scope, body.receive, send_with_headers)
        except ClientDisconnect:
            record.error_code = "client_disconnected"
        except AnswerCutError as cut:
            # The server closes the connection of an application that ends before its answer does.
            record.error_code = to_http(cut.error).code or "internal_error"
        except Exception:  # a defect of ours must still be an answer in OpenAI's envelope
            log.exception("request_broke", action="request_broke", request_id=record.request_id)
            record.error_code = "internal_error"
            if status:
                raise
            answer = respond(to_http(InternalError(), scope["path"], record.request_id))
            await answer(scope, receive, send_with_headers)
        finally:
            self._received(record, body.waited_s)
            if delivering_s:
                # As much of the pictures as went.
                self._phase(record, "deliver", self._clock.monotonic_s() - delivering_s)
                delivering.end()
            self._account(scope, record, status, span)

    def _received(self, record: RequestRecord, seconds: float) -> None:
        """Note how long a body was waited for; of a call for pictures that is a phase of it."""
        record.client_s += seconds
        if record.task and record.provider:
            self._phase(record, "receive", seconds)

    def _phase(self, record: RequestRecord, phase: str, seconds: float) -> None:
        """Note how long a phase of the request took that is no picture's."""
        record.phases_s[phase] = seconds
        self._metrics.phase_duration.labels(phase, record.provider, record.model).observe(seconds)

    def _account(self, scope: Scope, record: RequestRecord, status: int, span: Span) -> None:
        elapsed_s = self._clock.monotonic_s() - record.started_s
        route = getattr(scope.get("route"), "name", None) or OTHER
        metrics = self._metrics
        metrics.requests.labels(
            route, record.team, record.model, str(status), record.error_code
        ).inc()
        metrics.request_duration.labels(route, record.team, record.model).observe(elapsed_s)
        if record.unpriced or record.error_code == UNPRICED:
            metrics.price_miss.labels(record.model).inc()
        if record.joined:
            metrics.joined_retries.labels(record.team).inc()
            metrics.saved.labels(record.team).inc(usd(record.saved_microusd))
        if record.upstream_s is not None and not record.error_code:
            own_s = elapsed_s - record.upstream_s - record.client_s
            metrics.overhead.labels(route).observe(max(own_s, 0.0))
        if status >= 400 and not record.task and record.error_code:  # noqa: PLR2004 - HTTP errors
            metrics.rejections.labels(record.team, record.error_code).inc()
        if route in UNLOGGED_ROUTES:
            # A span that never ends is told to nobody.
            return
        ended(span, scope, record, status)
        log.info(
            "request",
            action="request",
            request_id=record.request_id,
            method=scope["method"],
            route=route,
            status=status,
            team=record.team,
            model=record.model,
            code=record.error_code or None,
            task=record.task or None,
            provider=record.provider or None,
            cost_microusd=record.cost_microusd,
            **({"trace_id": span.trace_id} if span.trace_id else {}),
            ms=round(elapsed_s * 1000, 1),
            phases_ms={name: round(s * 1000, 1) for name, s in record.phases_s.items()},
        )


class _BodyWatch:
    """Counts the seconds that were waited for the body of a request."""

    def __init__(self, receive: Receive, clock: Clock) -> None:
        self._receive = receive
        self._clock = clock
        self._is_whole = False
        self.waited_s = 0.0

    async def receive(self) -> Message:
        """Return the next message; after the body that is the client's going away."""
        if self._is_whole:
            return await self._receive()
        began_s = self._clock.monotonic_s()
        try:
            message = await self._receive()
        finally:
            self.waited_s += self._clock.monotonic_s() - began_s
        self._is_whole = not message.get("more_body", False)
        return message


class BodyLimitMiddleware:
    """Starlette's own limit, with its text/plain 413 replaced by OpenAI's envelope."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int) -> None:
        self._limited = RequestBodyLimitMiddleware(app, limit_bytes)
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within the limit."""
        replaced = False

        async def send_envelope(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_plain_413(message):
                replaced = True
                # A route may have a limit of its own.
                limit_bytes = scope.get(MAX_BODY_SIZE_SCOPE_KEY, self._limit_bytes)
                answer = to_http(BodyTooLarge(limit_bytes), scope["path"])
                scope["state"]["record"].error_code = answer.code
                await respond(answer)(scope, receive, send)
            if not replaced:
                await send(message)

        await self._limited(scope, receive, send_envelope)


class BodyTimeoutMiddleware:
    """Gives a body `timeout_s` from the moment it is asked for, and a second per 16 KiB of it.

    What takes longer raises BodyTooSlow out of `receive`, where the handler waits.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float, clock: Clock) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request whose body comes in time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        until_s = 0.0
        asked, whole = False, False

        async def receive_in_time() -> Message:
            nonlocal asked, whole, until_s
            if whole:
                # What is left to hear of is that the client goes away: that has all the time.
                return await receive()
            if not asked:
                asked, until_s = True, self._clock.monotonic_s() + self._timeout_s
            try:
                async with asyncio.timeout(until_s - self._clock.monotonic_s()):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow from None
            until_s += len(message.get("body", b"")) / MIN_BYTES_PER_S
            whole = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)


class SlashMiddleware:
    """Collapses repeated slashes: some clients join a base URL and a path with two."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request below its plain path."""
        if scope["type"] == "http" and "//" in scope["path"]:
            # In place: the outer middleware reads from this scope which route was taken.
            scope["path"] = "/" + "/".join(part for part in scope["path"].split("/") if part)
        await self._app(scope, receive, send)


def _is_plain_413(message: Message) -> bool:
    headers = Headers(raw=message["headers"])
    is_plain = headers.get("content-type", "").startswith("text/plain")
    return message["status"] == CONTENT_TOO_LARGE and is_plain
