"""A collector of traces: OTLP over HTTP, as OpenTelemetry's own takes it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.app import Server, listen


@dataclass(frozen=True)
class Collected:
    """One span as it was received; ids are hexadecimal."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    started_ns: int
    ended_ns: int
    failed: bool
    attributes: dict[str, object]
    links: tuple[tuple[str, str], ...]
    service: dict[str, object]


@dataclass
class Collector:
    """Keeps all that it is sent."""

    url: str = ""
    spans: list[Collected] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep one batch."""
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_collected(span, service) for span in scope.spans]

    def named(self, name: str) -> Collected:
        """Return the only span of a name."""
        [span] = [span for span in self.spans if span.name == name]
        return span

    def below(self, span: Collected) -> list[Collected]:
        """Return the spans right below one, in the order in which they began."""
        found = [each for each in self.spans if (each.trace, each.parent) == (span.trace, span.id)]
        return sorted(found, key=lambda each: (each.started_ns, each.ended_ns))

    def tree(self, span: Collected) -> list[str]:
        """Return a span and all below it as lines, indented by their depth."""
        lines = [span.name]
        for child in self.below(span):
            lines += [f"  {line}" for line in self.tree(child)]
        return lines

    def values(self) -> Iterator[object]:
        """Return every value that was told of any span."""
        for span in self.spans:
            yield from (span.name, *span.attributes.values())

    async def post(self, request: Request) -> Response:
        """Take a batch as it is posted."""
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.headers.append(dict(request.headers))
        self.take(ExportTraceServiceRequest.FromString(body))
        return Response(media_type="application/x-protobuf")


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """Serve a collector on a free port."""
    listener, collector = listen("127.0.0.1", 0), Collector()
    collector.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
    app = Starlette(routes=[Route("/v1/traces", collector.post, methods=["POST"])])
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False)
    server = Server(config)
    async with asyncio.TaskGroup() as group:
        served = group.create_task(server.serve(sockets=[listener]))
        try:
            yield collector
        finally:
            server.should_exit = True
            await asyncio.wait({served})


def _collected(span: OtlpSpan, service: dict[str, object]) -> Collected:
    return Collected(
        name=span.name,
        kind=OtlpSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        state=span.trace_state,
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        service=service,
    )


def _attributes(pairs: object) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}  # type: ignore[attr-defined]


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
