from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from gateway.telemetry.otel import FLUSH_WITHIN_S, OtelTracer, QuietExporter
from gateway.telemetry.traces import NO_SPAN, Kind
from tests.support.spans import PARENT, SPAN_ID, TRACE_ID, Recorder, below


def test_a_span_goes_on_with_the_trace_of_a_context() -> None:
    """Its own context begins further ones, elsewhere; what vendors add to it is kept."""
    recorder = Recorder()
    call = recorder.tracer.begin("call", parent=f"{PARENT} vendor=x", kind=Kind.SERVER)
    other = recorder.tracer.begin("render", parent=call.context, attributes={"a": 1, "b": None})
    other.end()
    call.end()
    render, ended = recorder.spans

    assert ended.parent is not None
    assert (TRACE_ID, SPAN_ID) == (ended.parent.trace_id, ended.parent.span_id)
    assert below(render, ended)
    assert {"a": 1} == render.attributes
    assert "a" * 32 == call.trace_id
    parent, state = call.context.split(" ")
    assert {"traceparent": parent, "tracestate": state} == call.headers
    assert ("vendor=x", "-01") == (state, parent[-3:])


@pytest.mark.parametrize(
    "context", ["", "nonsense", f"00-{'0' * 32}-{'b' * 16}-01", PARENT[3:], f"{PARENT}-more"]
)
def test_a_context_that_is_none_begins_a_trace(context: str) -> None:
    """It came from outside."""
    recorder = Recorder()
    span = recorder.tracer.begin("call", parent=context)
    span.link(context)
    span.end()

    assert (None, ()) == (recorder.spans[0].parent, recorder.spans[0].links)
    assert "a" * 32 != span.trace_id


def test_a_state_that_is_too_long_is_dropped() -> None:
    """It would be kept with every task; the trace itself goes on."""
    recorder = Recorder()
    long = ",".join(f"v{number}={'x' * 40}" for number in range(12))
    span = recorder.tracer.begin("call", parent=f"{PARENT} {long}")

    assert " " not in span.context
    assert "a" * 32 == span.trace_id


def test_a_caller_that_does_not_sample_is_not_recorded() -> None:
    """Its trace goes on all the same, so that nobody further down begins one of his own."""
    recorder = Recorder()
    span = recorder.tracer.begin("call", parent=PARENT[:-1] + "0")
    child = span.child("phase")
    child.tell({"a": 1})
    child.fail("error")
    child.end()
    span.end()

    assert ((), False) == (recorder.spans, span.is_recording)
    assert {"a" * 32} == {span.trace_id, child.trace_id}
    assert child.context.endswith("-00")


def test_upstreams_need_not_be_told() -> None:
    """Calls to them carry nothing then; tasks keep their trace."""
    span = Recorder(propagates=False).tracer.begin("call", parent=PARENT)

    assert ({}, True) == (span.child("submit").headers, bool(span.context))


def test_times_that_are_known_only_later() -> None:
    """A span may have begun, and ended, before anybody knew of it."""
    recorder = Recorder()
    call = recorder.tracer.begin("call")
    call.child("store", ago_s=2.0).end(ago_s=1.0)
    call.end()
    call.end()
    store, ended = recorder.spans

    assert store.start_time is not None
    assert store.end_time is not None
    assert ended.start_time is not None
    assert 1.0 == pytest.approx((store.end_time - store.start_time) / 1e9, abs=0.5)
    assert 2.0 == pytest.approx((ended.start_time - store.start_time) / 1e9, abs=0.5)


def test_names_failures_and_links() -> None:
    """What is learned on the way."""
    recorder = Recorder()
    span = recorder.tracer.begin("POST")
    span.rename("POST /v1/models")
    span.link(f"{PARENT} a=1")
    span.fail("upstream_failed")
    span.end()
    [ended] = recorder.spans

    assert ("POST /v1/models", False) == (ended.name, ended.status.is_ok)
    assert {"error.type": "upstream_failed"} == ended.attributes
    assert [TRACE_ID] == [link.context.trace_id for link in ended.links]


class Stuck(SpanExporter):
    """A collector that takes for ever, or refuses."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait until it is released, and take nothing."""
        self.released.wait(60)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Do nothing."""


async def test_closing_does_not_wait_for_a_collector_that_is_stuck() -> None:
    """Nor does ending a span: what does not fit into the queue is lost."""
    stuck, provider = Stuck(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(stuck, max_queue_size=4, max_export_batch_size=2)
    )
    tracer = OtelTracer(provider)
    for _ in range(50):
        tracer.begin("call").end()
    began_s = time.monotonic()
    await tracer.close()
    took_s = time.monotonic() - began_s
    stuck.released.set()

    assert FLUSH_WITHIN_S <= took_s < FLUSH_WITHIN_S + 10


def test_lost_spans_are_told_of_once_in_a_while() -> None:
    """How many; never why, for that would tell an address."""
    stuck = Stuck()
    stuck.released.set()
    exporter, span = QuietExporter(stuck), Recorder()
    span.tracer.begin("call").end()
    with structlog.testing.capture_logs() as logs:
        results = [exporter.export(span.spans) for _ in range(3)]

    assert {SpanExportResult.FAILURE} == set(results)
    assert [1] == [line["spans"] for line in logs if line["action"] == "spans_lost"]


@pytest.mark.parametrize("state", ["Not A Key=secret", "k=secret,k=secret", "secret", "=" * 40])
def test_what_callers_send_is_not_logged(state: str, caplog: pytest.LogCaptureFixture) -> None:
    """The SDK would quote a `tracestate` that it cannot read."""
    Recorder().tracer.begin("call", parent=f"{PARENT} {state}").link(f"{'x' * 600} {state}")

    assert [] == caplog.records


class Broken(SpanProcessor):
    """Breaks whatever goes through it."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Break where a span begins."""
        if self._at == "start":
            raise RuntimeError

    def on_end(self, span: ReadableSpan) -> None:
        """Break where a span ends."""
        if self._at == "end":
            raise RuntimeError


@pytest.mark.parametrize("at", ["start", "end"])
def test_a_defect_of_the_sdk_costs_spans_alone(at: str) -> None:
    """An order may be under way below a span: whatever breaks there, its answer is not lost."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken(at))
    span = OtelTracer(provider).begin("call", parent=PARENT)
    child = span.child("phase", attributes={"a": 1})
    child.link(PARENT)
    child.fail("error")
    child.end()
    span.end()

    assert (span is NO_SPAN) is (at == "start")
