"""Spans that a test can look at, from the tracer that the product ships with."""

from __future__ import annotations

from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from gateway.telemetry.otel import OtelTracer

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
TRACE_ID, SPAN_ID = int("a" * 32, 16), int("b" * 16, 16)


@dataclass
class Recorder:
    """A tracer, and what has ended of its spans in the order of their ends."""

    sample_ratio: float = 1.0
    propagates: bool = True
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    tracer: OtelTracer = field(init=False)

    def __post_init__(self) -> None:
        sampler = ParentBased(TraceIdRatioBased(self.sample_ratio))
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = OtelTracer(provider, propagates=self.propagates)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """What has ended."""
        return self.exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        """The names of what has ended."""
        return [span.name for span in self.spans]

    def named(self, name: str) -> ReadableSpan:
        """Return the only span of a name that has ended."""
        [span] = [span for span in self.spans if span.name == name]
        return span


def below(span: ReadableSpan, other: ReadableSpan) -> bool:
    """Tell whether a span is right below another one."""
    return span.parent is not None and span.parent.span_id == other.get_span_context().span_id
