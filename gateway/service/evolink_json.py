"""Tasks and credits as EvoLink shows them (protocols/evolink.md §3, §4, §5, §8)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce

import orjson

from gateway.domain.catalog import Offer
from gateway.domain.clock import Clock
from gateway.domain.credits import credits_of
from gateway.domain.errors import (
    BadReference,
    GatewayError,
    InvalidRequest,
    ModerationBlocked,
    StillRunning,
    SubmitUnknown,
    UpstreamUnavailable,
)
from gateway.domain.images import TokenUsage
from gateway.domain.task import Task
from gateway.domain.unified_ids import unified_id
from gateway.service.images import error_of
from gateway.service.tasks import Status, status_of
from gateway.tasks.live import Outcome

#: How a task stands, in EvoLink's words. A cancelled one is a failed one there (§4.1): clients that
#: know no other word would wait for it for ever. Nor has it a word for what nobody knows.
WORDS = {
    Status.QUEUED: "pending",
    Status.IN_PROGRESS: "processing",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "failed",
    Status.UNKNOWN: "failed",
}

#: Seconds that a picture is said to take when nothing is believed of it (§3, for this family).
USUAL_S = 100

#: Why a task failed, by what OpenAI's clients are told; the others are `service_error` (§4.6).
_CODES: dict[type[GatewayError], str] = {
    ModerationBlocked: "content_policy_violation",
    InvalidRequest: "invalid_parameters",
    BadReference: "image_processing_error",
    SubmitUnknown: "unknown_error",
    StillRunning: "generation_timeout",
    UpstreamUnavailable: "service_unavailable",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A task at a moment (Unix milliseconds), and how long one like it takes in seconds."""

    task: Task
    now_ms: int
    expected_s: int = USUAL_S

    @property
    def status(self) -> Status:
        """How it stands."""
        return status_of(self.task)

    @property
    def duration_s(self) -> int:
        """How long it took, or has taken so far."""
        return round(((self.task.ended_ms or self.now_ms) - self.task.created_ms) / 1000)

    @property
    def progress(self) -> int:
        """Per cent, by the clock: 100 when it is completed, 0 before it is begun and when it fails.

        It begins to count when the first of its pictures was submitted.
        """
        if self.status is Status.COMPLETED:
            return 100
        if self.status is not Status.IN_PROGRESS:
            return 0
        submitted = [render.submitted_ms for render in self.task.renders if render.submitted_ms]
        elapsed_ms = self.now_ms - min(submitted, default=self.now_ms)
        return min(max(elapsed_ms // (10 * self.expected_s), 1), 99)


def seen(task: Task, clock: Clock, offer: Offer | None) -> Seen:
    """Return a task at this moment; `offer` is the one it was made under."""
    return Seen(task, clock.now_ms(), expected_s(offer, task.quality))


def expected_s(offer: Offer | None, quality: str) -> int:
    """Return how long a picture is said to take, in seconds."""
    belief = None if offer is None else offer.latency.get(quality)
    return USUAL_S if belief is None else math.ceil(belief.median)


def task_body(seen: Seen, urls: Sequence[str]) -> dict[str, object]:
    """Return a task; `urls` are the links to its pictures."""
    task, status = seen.task, seen.status
    body: dict[str, object] = {
        "created": task.created_ms // 1000,
        "id": unified_id(task.id, task.created_ms),
        "model": task.model,
        "object": "image.generation.task",
        "progress": seen.progress,
        "status": WORDS[status],
        "task_info": {"can_cancel": False},
        "type": "image",
    }
    if status is Status.COMPLETED:
        return body | {
            "duration": seen.duration_s,
            "result_data": [{"url": url} for url in urls],
            "results": list(urls),
            "usage": _used(task),
        }
    if status in (Status.QUEUED, Status.IN_PROGRESS):
        return body | {
            "task_info": {"can_cancel": True, "estimated_time": seen.expected_s},
            "usage": _reserved(task),
        }
    failed = body | {"error": _error(task, status)}
    # What failed is refunded there; what is charged here all the same is not hidden.
    return failed | {"usage": _used(task)} if Outcome(task).cost_microusd else failed


def listed_body(seen: Seen) -> dict[str, object]:
    """Return a task as a line of the list, without its pictures."""
    task, status = seen.task, seen.status
    pictures = len(Outcome(task).delivered) if status is Status.COMPLETED else 0
    return {
        "id": unified_id(task.id, task.created_ms),
        "model": task.model,
        "type": "image",
        "status": WORDS[status],
        "progress": seen.progress,
        "created_at": task.created_ms // 1000,
        "duration": seen.duration_s,
        "has_results": pictures > 0,
        "result_count": pictures,
        "has_error": WORDS[status] == "failed",
        "credits_used": credits_of(Outcome(task).cost_microusd),
    }


def as_json(body: Mapping[str, object]) -> bytes:
    """Return a body as EvoLink writes it: keys in order (§1), amounts as exact numbers."""
    return orjson.dumps(body, default=_exact, option=orjson.OPT_SORT_KEYS)


def _exact(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value.normalize():f}")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _reserved(task: Task) -> dict[str, object]:
    return {
        # Theirs says so as well of models that are billed by tokens (§3).
        "billing_rule": "per_call",
        "credits_reserved": credits_of(task.hold.amount_microusd * len(task.renders)),
        "user_group": "default",
    }


def _used(task: Task) -> dict[str, object]:
    """Return what a task cost; tokens only where the upstream told of them."""
    used: dict[str, object] = {"credits_used": credits_of(Outcome(task).cost_microusd)}
    told = [
        render.result.usage
        for render in task.renders
        if render.result is not None and render.result.usage is not None
    ]
    if not told:
        return used
    tokens = reduce(TokenUsage.plus, told)
    if tokens.text_output:
        used["text_output_tokens"] = tokens.text_output
    return used | {
        "image_cached_input_tokens": tokens.image_cached_input,
        "image_input_tokens": tokens.image_input,
        "image_output_tokens": tokens.image_output,
        "text_cached_input_tokens": tokens.text_cached_input,
        "text_input_tokens": tokens.text_input,
        "total_tokens": tokens.input_total + tokens.output_total,
    }


def _error(task: Task, status: Status) -> dict[str, object]:
    error = error_of(Outcome(task))
    code = _CODES.get(type(error), "service_error")
    if status is Status.CANCELLED:
        code = "request_cancelled"
    return {"code": code, "message": error.message, "type": "task_error"}
