from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.domain.images import TokenUsage
from gateway.domain.latency import Lognormal
from gateway.domain.task import FailureKind, Render, RenderState, Task
from gateway.domain.unified_ids import unified_id
from gateway.service.evolink_json import (
    USUAL_S,
    Seen,
    as_json,
    expected_s,
    listed_body,
    task_body,
)
from tests.support.clock import NOON_MS
from tests.support.factories import (
    TASK_ID,
    a_picture_in_store,
    a_render,
    a_result,
    a_task,
    an_offer,
)

UNIFIED = unified_id(TASK_ID, NOON_MS)
URL = "https://gateway/v1/assets/x.png"


def done(index: int = 0, usage: TokenUsage | None = None) -> Render:
    """Build a render whose picture is stored."""
    result = a_result(usage=usage, stored=a_picture_in_store(index))
    return a_render(index, state=RenderState.COMPLETED, result=result)


def failed(kind: FailureKind, *, cost_microusd: int = 0, sent: bool = True) -> Render:
    """Build a render that failed; one that was not sent has no upstream id."""
    result = a_result(cost_microusd=cost_microusd, failure=kind)
    upstream_id = "task-unified-1" if sent else ""
    return a_render(state=RenderState.FAILED, upstream_id=upstream_id, result=result)


def ended(*renders: Render) -> Task:
    """Build a task that ended four seconds after noon."""
    return replace(a_task(*renders), ended_ms=NOON_MS + 4000)


def shown(task: Task, *urls: str, after_s: float = 10.0) -> dict:
    """Return a task as it goes over the wire."""
    seen = Seen(task, NOON_MS + round(after_s * 1000), expected_s=20)
    return json.loads(as_json(task_body(seen, urls)))


def test_a_task_that_waits() -> None:
    """The answer to a create, field by field (protocols/evolink.md §3)."""
    assert shown(a_task(state=RenderState.QUEUED)) == {
        "created": NOON_MS // 1000,
        "id": UNIFIED,
        "model": "gpt-image-1.5",
        "object": "image.generation.task",
        "progress": 0,
        "status": "pending",
        "task_info": {"can_cancel": True, "estimated_time": 20},
        "type": "image",
        "usage": {"billing_rule": "per_call", "credits_reserved": 0.68, "user_group": "default"},
    }


@pytest.mark.parametrize(
    ("after_s", "progress"), [(0.0, 1), (0.5, 2), (10.0, 50), (19.9, 99), (500.0, 99)]
)
def test_progress_follows_the_clock(after_s: float, progress: int) -> None:
    """It rises from the submission on and is never done before the picture is."""
    body = shown(a_task(), after_s=after_s)

    assert ("processing", progress) == (body["status"], body["progress"])
    assert "results" not in body


def test_a_task_that_is_being_submitted_has_hardly_begun() -> None:
    """Nothing is known of it yet, however long it takes."""
    render = replace(a_render(state=RenderState.SUBMITTING, upstream_id=""), submitted_ms=0)

    assert ("processing", 1) == tuple(
        shown(a_task(render))[name] for name in ("status", "progress")
    )


def test_what_is_reserved_is_for_all_pictures() -> None:
    """Each picture has its hold."""
    both = a_task(a_render(0), a_render(1))

    assert shown(both)["usage"]["credits_reserved"] == 1.36


def test_a_task_that_is_done() -> None:
    """Fields and counts are those of the recorded answer (§4.2)."""
    usage = TokenUsage(text_input=57, image_input=3, image_output=1120)

    assert shown(ended(done(usage=usage)), URL) == {
        "created": NOON_MS // 1000,
        "duration": 4,
        "id": UNIFIED,
        "model": "gpt-image-1.5",
        "object": "image.generation.task",
        "progress": 100,
        "result_data": [{"url": URL}],
        "results": [URL],
        "status": "completed",
        "task_info": {"can_cancel": False},
        "type": "image",
        "usage": {
            "credits_used": 0.532712,
            "image_cached_input_tokens": 0,
            "image_input_tokens": 3,
            "image_output_tokens": 1120,
            "text_cached_input_tokens": 0,
            "text_input_tokens": 57,
            "total_tokens": 1180,
        },
    }


def test_tokens_are_those_of_all_pictures() -> None:
    """Text the model wrote is told where there is any, and counted."""
    usage = TokenUsage(image_output=100, text_output=5)
    told = shown(ended(done(0, usage), done(1, usage)), URL, URL)["usage"]

    assert (200, 10, 210) == (
        told["image_output_tokens"],
        told["text_output_tokens"],
        told["total_tokens"],
    )


def test_without_counts_only_credits_are_told() -> None:
    """A flat price has no tokens."""
    assert {"credits_used": 0.532712} == shown(ended(done()), URL)["usage"]


def test_a_partly_finished_task_is_done() -> None:
    """What there is, is delivered; the count is what `results` holds (§2.3)."""
    body = shown(ended(done(0), replace(failed(FailureKind.MODERATION), index=1)), URL)

    assert ("completed", [URL]) == (body["status"], body["results"])


@pytest.mark.parametrize(
    ("render", "code"),
    [
        (failed(FailureKind.MODERATION), "content_policy_violation"),
        (failed(FailureKind.INVALID_REQUEST), "invalid_parameters"),
        (failed(FailureKind.BAD_REFERENCE), "image_processing_error"),
        (failed(FailureKind.GENERATION_FAILED), "service_error"),
        (failed(FailureKind.RATE_LIMITED), "service_error"),
        (failed(FailureKind.CANCELLED), "service_error"),
        (failed(FailureKind.AUTH, sent=False), "service_unavailable"),
        (failed(FailureKind.INSUFFICIENT_FUNDS, sent=False), "service_unavailable"),
        (failed(FailureKind.DEADLINE, sent=False), "generation_timeout"),
        (failed(FailureKind.WITHDRAWN, sent=False), "request_cancelled"),
    ],
)
def test_a_task_that_failed_says_why(render: Render, code: str) -> None:
    """Codes are EvoLink's (§4.6); what lies between the upstream and us is only 'unavailable'."""
    body = shown(ended(render))

    assert ("failed", 0, {"can_cancel": False}) == (
        body["status"],
        body["progress"],
        body["task_info"],
    )
    assert (code, "task_error") == (body["error"]["code"], body["error"]["type"])
    assert body["error"]["message"]
    assert "usage" not in body


def test_what_was_charged_for_nothing_is_told() -> None:
    """A task that nobody knows the fate of is failed, with its possible charge."""
    body = shown(ended(failed(FailureKind.SUBMIT_UNKNOWN, cost_microusd=1_000_000, sent=False)))

    assert ("failed", "unknown_error") == (body["status"], body["error"]["code"])
    assert {"credits_used": 68} == body["usage"]


def test_a_line_of_the_list() -> None:
    """It tells how a task stands, without its links (§5)."""
    line = json.loads(as_json(listed_body(Seen(ended(done()), NOON_MS + 9000))))
    wrong = listed_body(Seen(ended(failed(FailureKind.MODERATION)), NOON_MS + 9000))

    assert line == {
        "id": UNIFIED,
        "model": "gpt-image-1.5",
        "type": "image",
        "status": "completed",
        "progress": 100,
        "created_at": NOON_MS // 1000,
        "duration": 4,
        "has_results": True,
        "result_count": 1,
        "has_error": False,
        "credits_used": 0.532712,
    }
    assert ("failed", False, 0, True) == (
        wrong["status"],
        wrong["has_results"],
        wrong["result_count"],
        wrong["has_error"],
    )


def test_a_task_without_its_end_has_taken_until_now() -> None:
    """Its end is not written down for a moment."""
    assert shown(replace(ended(done()), ended_ms=0), URL, after_s=7)["duration"] == 7


def test_how_long_a_picture_takes_is_what_is_believed_of_its_quality() -> None:
    """Whole seconds, rounded up; EvoLink's own example where nothing is known."""
    offer = replace(an_offer(), latency={"low": Lognormal(8.7, 0.33)})

    assert (9, USUAL_S, USUAL_S) == (
        expected_s(offer, "low"),
        expected_s(offer, "high"),
        expected_s(None, "low"),
    )


def test_amounts_are_exact_numbers() -> None:
    """Decimals stay what they are, without an exponent and without zeros at the end."""
    amounts = {"b": Decimal("99999.9999"), "a": Decimal("0.000000"), "c": Decimal("680.00")}

    assert as_json(amounts) == b'{"a":0,"b":99999.9999,"c":680}'
    with pytest.raises(TypeError):
        as_json({"a": object()})
