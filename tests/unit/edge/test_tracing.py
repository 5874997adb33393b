from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from starlette.routing import Route

from gateway.edge.record import RequestRecord
from gateway.edge.tracing import begun, ended
from tests.support.factories import a_record, a_scope
from tests.support.spans import PARENT, TRACE_ID, Recorder


async def _nobody(_request: Any) -> None:
    """Answer nothing."""


def ended_span(
    scope: dict[str, Any], record: RequestRecord | None = None, status: int = 200
) -> ReadableSpan:
    """Return the span of a request."""
    recorder = Recorder()
    ended(begun(recorder.tracer, scope), scope, record or a_record(), status)
    [span] = recorder.spans
    return span


@pytest.mark.parametrize(
    ("method", "path", "name", "shown"),
    [
        ("POST", "/v1/models", "POST /v1/models", "/v1/models"),
        ("GET", "/v1/assets/{token}", "GET /v1/assets/{token}", None),
        ("BREW", "/v1/models", "HTTP /v1/models", "/v1/models"),
        ("GET", None, "GET", None),
    ],
)
def test_a_call_is_named_by_its_route(
    method: str, path: str | None, name: str, shown: str | None
) -> None:
    """Never by what a client chose; a path is shown where the route says all of it."""
    scope = a_scope("/v1/assets/a-signed-link?of=ours", method=method)
    if path is not None:
        scope["route"] = Route(path, _nobody)
    span = ended_span(scope)

    assert span.attributes is not None
    assert (name, path, shown) == (
        span.name,
        span.attributes.get("http.route"),
        span.attributes.get("url.path"),
    )
    assert "signed" not in str(span.to_json())


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (200, "", None),
        (400, "invalid_value", None),
        (429, "insufficient_quota", None),
        (502, "upstream_failed", "upstream_failed"),
        (500, "", "500"),
        (200, "upstream_failed", "upstream_failed"),
        (0, "client_disconnected", "client_disconnected"),
    ],
)
def test_what_is_an_error_of_ours(status: int, code: str, error: str | None) -> None:
    """5xx, answers that broke off, and clients that went away; not what a client got wrong."""
    record = a_record()
    record.error_code = code
    span = ended_span(a_scope(), record, status)

    assert span.attributes is not None
    assert (error, code or None) == (
        span.attributes.get("error.type"),
        span.attributes.get("gateway.code"),
    )


def test_a_joined_call_points_at_the_first() -> None:
    """And stays in the trace of its own caller."""
    record = a_record()
    record.joined, record.first_trace = True, PARENT
    span = ended_span(a_scope(traceparent=f"00-{'c' * 32}-{'d' * 16}-01"), record)

    assert [TRACE_ID] == [link.context.trace_id for link in span.links]
    assert int("c" * 32, 16) == span.get_span_context().trace_id
