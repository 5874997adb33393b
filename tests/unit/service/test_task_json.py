from __future__ import annotations

import orjson

from gateway.domain.images import TokenUsage
from gateway.domain.task import FailureKind
from gateway.service.task_json import task_fields, usage_fields, usage_of
from gateway.tasks.live import Outcome
from tests.support.factories import a_picture_in_store, a_render, a_result, a_task

USAGE = TokenUsage(text_input=4, image_input=10, image_cached_input=2, image_output=272)
DONE = a_render(0, result=a_result(usage=USAGE, stored=a_picture_in_store(0)))
BLOCKED = a_render(1, result=a_result(cost_microusd=0, failure=FailureKind.MODERATION))


def test_a_task_tells_its_pictures_one_by_one() -> None:
    """What each cost, and why one is missing; nothing of the prompt or the links."""
    fields = task_fields(a_task(DONE, BLOCKED))

    assert ("completed", "0.007834", 2) == (fields["status"], fields["cost_usd"], fields["n"])
    assert [
        {"index": 0, "status": "completed", "cost_usd": "0.007834", "error": None},
        {"index": 1, "status": "failed", "cost_usd": "0.00", "error": "moderation"},
    ] == fields["renders"]
    assert None is fields["error"]
    assert b"evolink.ai" not in orjson.dumps(fields)


def test_a_failed_task_says_why() -> None:
    """In the words that the call itself would have been answered with."""
    assert {
        "message": "Your request was rejected by the safety system.",
        "code": "moderation",
    } == task_fields(a_task(a_render(0, result=BLOCKED.result)))["error"]


def test_tokens_of_all_pictures_add_up() -> None:
    """As far as the upstream told them; nothing where it told none."""
    second = a_render(1, result=a_result(usage=TokenUsage(image_output=8)))

    assert 280 == (usage_of(Outcome(a_task(DONE, second))) or USAGE).image_output
    assert None is usage_of(Outcome(a_task(BLOCKED)))


def test_usage_in_openais_words() -> None:
    """Cached counts are part of what went in."""
    assert {
        "input_tokens": 16,
        "input_tokens_details": {"image_tokens": 12, "text_tokens": 4},
        "output_tokens": 272,
        "output_tokens_details": {"image_tokens": 272, "text_tokens": 0},
        "total_tokens": 288,
    } == usage_fields(USAGE)
