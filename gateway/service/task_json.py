"""A task as JSON, for whoever asks for it and for whoever is called back."""

from __future__ import annotations

from functools import reduce

from gateway.domain.images import TokenUsage
from gateway.domain.money import format_usd
from gateway.domain.task import Task
from gateway.service.images import error_of
from gateway.service.tasks import Status, render_status, status_of
from gateway.tasks.live import Outcome


def task_fields(task: Task) -> dict[str, object]:
    """Return a task as JSON, without its pictures."""
    outcome = Outcome(task)
    status = status_of(task)
    body: dict[str, object] = {
        "id": task.id,
        "object": "image.task",
        "status": status,
        "created": task.created_ms // 1000,
        "completed": task.ended_ms // 1000 or None,
        "model": task.model,
        "operation": task.operation,
        "size": task.size,
        "quality": task.quality,
        "output_format": task.output.format,
        "n": len(task.renders),
        "key": task.key_name,
        "provider": task.order.provider,
        "cost_usd": format_usd(outcome.cost_microusd),
        "renders": [
            {
                "index": render.index,
                "status": render_status(render),
                "cost_usd": format_usd(render.result.cost_microusd) if render.result else None,
                "error": _failure(render.result.failure) if render.result else None,
            }
            for render in task.renders
        ],
        "error": None,
    }
    usage = usage_of(outcome)
    if usage is not None:
        body["usage"] = usage_fields(usage)
    if status in (Status.FAILED, Status.CANCELLED, Status.UNKNOWN):
        body["error"] = {"message": error_of(outcome).message, "code": _failure_of(task)}
    return body


def _failure(kind: object) -> str | None:
    return None if kind is None else str(kind)


def _failure_of(task: Task) -> str | None:
    kinds = [render.result.failure for render in task.renders if render.result is not None]
    return next((str(kind) for kind in kinds if kind is not None), "result_lost")


def usage_of(outcome: Outcome) -> TokenUsage | None:
    """Return the tokens of all renders together; None where the upstream told of none."""
    told = [
        render.result.usage
        for render in outcome.task.renders
        if render.result is not None and render.result.usage is not None
    ]
    return reduce(TokenUsage.plus, told) if told else None


def usage_fields(usage: TokenUsage) -> dict[str, object]:
    """Return OpenAI's usage object from the upstream's counts (protocols/evolink.md §16)."""
    image_input = usage.image_input + usage.image_cached_input
    text_input = usage.text_input + usage.text_cached_input
    return {
        "input_tokens": usage.input_total,
        "input_tokens_details": {"image_tokens": image_input, "text_tokens": text_input},
        "output_tokens": usage.output_total,
        "output_tokens_details": {
            "image_tokens": usage.image_output,
            "text_tokens": usage.text_output,
        },
        "total_tokens": usage.input_total + usage.output_total,
    }
