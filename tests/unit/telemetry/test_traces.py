from __future__ import annotations

import asyncio

import pytest

from gateway.telemetry.traces import (
    NO_SPAN,
    NO_TRACER,
    active,
    context_of,
    current_span,
    spanned,
    trace_id_of,
)
from tests.support.spans import PARENT, Recorder


def test_where_nothing_is_traced_every_call_does_nothing() -> None:
    """Also for a caller that traces."""
    span = NO_TRACER.begin("call", parent=PARENT)
    child = span.child("phase")
    child.tell({"gateway.team": "design"})
    child.link(PARENT)
    child.rename("other")
    child.fail("error")
    child.end()

    assert NO_SPAN is span is child is current_span()
    assert ("", "", {}, False) == (span.context, span.trace_id, span.headers, span.is_recording)


async def test_background_work_inherits_the_span_it_was_begun_under() -> None:
    """And work beside it does not."""
    recorder = Recorder()
    with active(recorder.tracer.begin("call")) as call:
        seen = asyncio.create_task(_current())  # noqa: TID251 - as tasks are
    assert call is await seen
    assert NO_SPAN is current_span()


async def _current() -> object:
    await asyncio.sleep(0)
    return current_span()


def test_a_block_is_a_span_and_fails_by_its_error() -> None:
    """It ends either way, below the one it was begun under."""
    recorder = Recorder()
    with active(recorder.tracer.begin("call")), pytest.raises(KeyError), spanned("admit"):
        raise KeyError
    admit = recorder.named("admit")

    assert admit.attributes is not None
    assert ("KeyError", False) == (admit.attributes["error.type"], admit.status.is_ok)


@pytest.mark.parametrize(
    ("headers", "context"),
    [
        ([], ""),
        ([("traceparent", PARENT)], PARENT),
        ([("traceparent", f" {PARENT} "), ("tracestate", "a=1")], f"{PARENT} a=1"),
        (
            [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")],
            f"{PARENT} a=1,b=2",
        ),
        ([("traceparent", PARENT), ("traceparent", PARENT)], ""),
        ([("traceparent", "")], ""),
        ([("traceparent", f"{PARENT} a=1")], ""),
        ([("tracestate", "a=1")], ""),
    ],
)
def test_the_context_of_a_request(headers: list[tuple[str, str]], context: str) -> None:
    """One `traceparent`, and every `tracestate` (W3C Trace Context §3.2, §3.3)."""
    assert context == context_of([(name.encode(), value.encode()) for name, value in headers])


def test_the_trace_of_a_context() -> None:
    """As the record of a task keeps it."""
    assert ("a" * 32, "") == (trace_id_of(f"{PARENT} a=1"), trace_id_of(""))
