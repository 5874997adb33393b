"""Spans for a collector, by OpenTelemetry's SDK (the extra `otel`); posted as OTLP over HTTP.

A thread of the SDK sends what has ended, a batch at a time. It has a queue of a fixed length: with
a collector that is slow or gone, spans are lost and nothing waits. What it says of the collector's
address stays here: an address may hold a secret.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import ParamSpec

import requests
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Span as OtelApiSpan,
)
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import (
    Tracer as OtelApiTracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.telemetry.conventions import ERROR_TYPE
from gateway.telemetry.traces import NO_SPAN, NOTHING, Attributes, Kind, Span

log = structlog.get_logger(__name__)

#: Spans that wait to be sent; a picture has about a dozen. More are lost.
QUEUE_SPANS = 4096
BATCH_SPANS = 512
#: How long a span waits for others to be sent with.
BATCH_EVERY_MS = 2_000
#: How long sending a batch is tried. A stop waits so long for what is left.
SEND_WITHIN_S, FLUSH_WITHIN_S = 5.0, 2.0
#: Lost spans are told of so often.
TELL_EVERY_S = 60.0
#: A `tracestate` that is longer is dropped: others need not keep more (W3C Trace Context §3.3.1.5).
STATE_MAX_CHARS = 512

_KINDS = {
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.INTERNAL: SpanKind.INTERNAL,
}
_NS_PER_S = 1_000_000_000
_W3C = TraceContextTextMapPropagator()
#: They quote addresses and headers, those of callers too.
_TOO_TALKATIVE = ("opentelemetry.exporter", "opentelemetry.trace", "opentelemetry.util")


P = ParamSpec("P")


def _harmless(method: Callable[P, None]) -> Callable[P, None]:
    """Let a defect of the SDK cost a span: under one the answer to a paid order may arrive."""

    @wraps(method)
    def called(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            method(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not worth a call
            _told_of(error)

    return called


def _told_of(error: Exception) -> None:
    log.warning("span_broke", action="span_broke", error=type(error).__name__)


class OtelSpan:
    """A span that the SDK keeps. Nothing here raises."""

    def __init__(self, tracer: OtelApiTracer, span: OtelApiSpan, *, propagates: bool) -> None:
        self._tracer = tracer
        self._span = span
        self._propagates = propagates

    @property
    def is_recording(self) -> bool:
        """Whether it is sampled and has not ended."""
        return self._span.is_recording()

    @property
    def trace_id(self) -> str:
        """Its trace, sampled or not."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def context(self) -> str:
        """`traceparent`, and after a space `tracestate`."""
        return " ".join(self._injected().values())

    @property
    def headers(self) -> Mapping[str, str]:
        """The same two as headers; nothing where upstreams are not to know of traces."""
        return self._injected() if self._propagates else {}

    def _injected(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        try:
            _W3C.inject(carrier, set_span_in_context(self._span, Context()))
        except Exception as error:  # noqa: BLE001 - as _harmless
            _told_of(error)
        return carrier

    def child(
        self,
        name: str,
        *,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes = NOTHING,
        ago_s: float = 0.0,
    ) -> Span:
        """Begin a span under this one, or say that it began so many seconds ago."""
        try:
            span = self._tracer.start_span(
                name,
                context=set_span_in_context(self._span, Context()),
                kind=_KINDS[kind],
                attributes=_told(attributes),
                start_time=_moment_ns(ago_s),
            )
        except Exception as error:  # noqa: BLE001 - as _harmless
            _told_of(error)
            return NO_SPAN
        return OtelSpan(self._tracer, span, propagates=self._propagates)

    @_harmless
    def rename(self, name: str) -> None:
        """Call it by what was learned of it only later."""
        self._span.update_name(name)

    @_harmless
    def tell(self, attributes: Attributes) -> None:
        """Add attributes."""
        if self._span.is_recording():
            self._span.set_attributes(_told(attributes))

    @_harmless
    def link(self, context: str) -> None:
        """Point at a span of another trace; a context that is none is passed over."""
        there = get_current_span(_extracted(context)).get_span_context()
        if there.is_valid:
            self._span.add_link(there)

    @_harmless
    def fail(self, error_type: str) -> None:
        """Mark it as failed."""
        if self._span.is_recording():
            self._span.set_attribute(ERROR_TYPE, error_type)
            self._span.set_status(Status(StatusCode.ERROR))

    @_harmless
    def end(self, *, ago_s: float = 0.0) -> None:
        """End it, or say that it ended so many seconds ago. Only the first time counts."""
        # The SDK warns of a second end; a span that is not sampled has none to speak of.
        if self._span.is_recording():
            self._span.end(_moment_ns(ago_s))


class OtelTracer:
    """Begins spans of a provider, and closes it."""

    def __init__(self, provider: TracerProvider, *, propagates: bool = True) -> None:
        for name in _TOO_TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._provider = provider
        self._tracer = provider.get_tracer("image-gateway")
        self._propagates = propagates

    def begin(
        self,
        name: str,
        *,
        parent: str = "",
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes = NOTHING,
    ) -> Span:
        """Begin a span below the one of a context, or a trace where there is none."""
        try:
            span = self._tracer.start_span(
                name, context=_extracted(parent), kind=_KINDS[kind], attributes=_told(attributes)
            )
        except Exception as error:  # noqa: BLE001 - as _harmless
            _told_of(error)
            return NO_SPAN
        return OtelSpan(self._tracer, span, propagates=self._propagates)

    async def close(self) -> None:
        """Send what is left, within FLUSH_WITHIN_S; what is left then is lost."""
        closed, loop = asyncio.Event(), asyncio.get_running_loop()

        def close() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop did not wait for it
                loop.call_soon_threadsafe(closed.set)

        # A thread of its own, that an interpreter does not wait for: the SDK's bound is 30 s.
        threading.Thread(target=close, name="traces-close", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_WITHIN_S):
                await closed.wait()


class QuietExporter(SpanExporter):
    """An exporter that tells of lost spans once in a while, and of nothing else."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._lost = 0
        self._told_s: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; in the SDK's thread."""
        result = self._inner.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            now_s = time.monotonic()
            if self._told_s is None or now_s - self._told_s >= TELL_EVERY_S:
                log.warning("spans_lost", action="spans_lost", spans=self._lost)
                self._told_s, self._lost = now_s, 0
        return result

    def shutdown(self) -> None:
        """Give up what is being tried."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Keep nothing back."""
        return self._inner.force_flush(timeout_millis)


def open_tracer(
    endpoint: str,
    *,
    headers: Mapping[str, str],
    sample_ratio: float,
    propagates: bool,
    ca_file: str | None,
    version: str,
    instance: str,
) -> OtelTracer:
    """Return a tracer that posts to a collector; `close` it. Starts a thread.

    Callers that say whether their trace is sampled are followed; of all others this share is.
    `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last word about who speaks.
    """
    who = Resource.create(
        {
            "service.name": "image-gateway",
            "service.version": version,
            "service.instance.id": instance,
        }
    )
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=who.merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    session = requests.Session()
    # No proxy and no .netrc of the environment: what goes out is in the settings.
    session.trust_env = False
    exporter = OTLPSpanExporter(
        endpoint,
        headers=dict(headers),
        timeout=SEND_WITHIN_S,
        compression=Compression.Gzip,
        certificate_file=ca_file,
        session=session,
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            QuietExporter(exporter),
            max_queue_size=QUEUE_SPANS,
            max_export_batch_size=BATCH_SPANS,
            schedule_delay_millis=BATCH_EVERY_MS,
        )
    )
    return OtelTracer(provider, propagates=propagates)


def _told(attributes: Attributes) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in attributes.items() if value is not None}


def _moment_ns(ago_s: float) -> int:
    return time.time_ns() - round(ago_s * _NS_PER_S)


def _extracted(context: str) -> Context:
    parent, _, state = context.partition(" ")
    carrier = {"traceparent": parent}
    if state and len(state) <= STATE_MAX_CHARS:
        carrier["tracestate"] = state
    return _W3C.extract(carrier, Context())
