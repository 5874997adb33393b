"""The span of one request, by OpenTelemetry's conventions for HTTP servers.

Left out of what they ask for is what clients choose freely: paths with parameters (a link's path is
its signature), queries, hosts, addresses and user agents.
"""

from __future__ import annotations

from starlette.types import Scope

from gateway.edge.record import RequestRecord
from gateway.telemetry import conventions as names
from gateway.telemetry.metrics import OTHER
from gateway.telemetry.traces import Kind, Span, Tracer, context_of

_CLIENT_ERRORS, _SERVER_ERRORS = 400, 500


def begun(tracer: Tracer, scope: Scope) -> Span:
    """Begin the span of a request, in the trace that it brings if it brings one."""
    return tracer.begin(
        _called(_method(scope)), parent=context_of(scope["headers"]), kind=Kind.SERVER
    )


def ended(span: Span, scope: Scope, record: RequestRecord, status: int) -> None:
    """End it with what was learned; what is our fault, or broke off, is an error."""
    if span.is_recording:
        method, route = _method(scope), getattr(scope.get("route"), "path", "")
        if route:
            span.rename(f"{_called(method)} {route}")
        span.tell(
            {
                names.HTTP_REQUEST_METHOD: method,
                names.HTTP_ROUTE: route or None,
                names.URL_PATH: route if route and "{" not in route else None,
                names.URL_SCHEME: scope.get("scheme"),
                names.NETWORK_PROTOCOL_VERSION: scope.get("http_version"),
                names.HTTP_RESPONSE_STATUS_CODE: status or None,
                names.REQUEST_ID: record.request_id,
                names.TEAM: _named(record.team),
                names.MODEL: _named(record.model),
                names.TASK: record.task or None,
                names.PROVIDER: record.provider or None,
                names.COST_MICROUSD: record.cost_microusd,
                names.CODE: record.error_code or None,
                names.JOINED: record.joined or None,
            }
        )
        span.link(record.first_trace)
    if status >= _SERVER_ERRORS or (record.error_code and status < _CLIENT_ERRORS):
        span.fail(record.error_code or str(status))
    span.end()


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in names.HTTP_METHODS else names.OTHER_METHOD


def _called(method: str) -> str:
    return "HTTP" if method == names.OTHER_METHOD else method


def _named(name: str) -> str | None:
    return None if name == OTHER else name
