"""A task as JSON, for whoever asks for it and for whoever is called back."""

from __future__ import annotations

from functools import reduce

from gateway.domain.images import TokenUsage
from gateway.domain.money import format_usd
from gateway.domain.pricing import ChargeBasis
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


def operator_fields(task: Task) -> dict[str, object]:
    """Return a task for operators' programs: what its team is told, and what only we know.

    Never what was ordered, nor a link: prompts and pictures are the team's.
    """
    told = task_fields(task)
    renders = [
        {
            **fields,
            "state": render.state,
            "upstream_id": render.upstream_id,
            "attempt_id": render.attempt_id,
            "tries": render.tries,
            "submitted": render.submitted_ms // 1000 or None,
            "basis": render.result.basis if render.result else None,
        }
        for fields, render in zip(told["renders"], task.renders, strict=True)  # type: ignore[call-overload] # a list of tables
    ]
    return told | {
        "team": task.team,
        "user": task.user,
        "owner": task.owner,
        "epoch": task.epoch,
        "cancelled": task.cancelled,
        "detached": task.detached,
        "held_usd": format_usd(held_microusd(task)),
        "possible_charge_usd": format_usd(possible_microusd(task)),
        "renders": renders,
    }


def held_microusd(task: Task) -> int:
    """Return what is held for a task's pictures that have not come to their end."""
    return task.hold.amount_microusd * sum(one.result is None for one in task.renders)


def possible_microusd(task: Task) -> int:
    """Return what its pictures have perhaps cost, and nobody knows."""
    return sum(
        one.result.cost_microusd
        for one in task.renders
        if one.result is not None and one.result.basis is ChargeBasis.POSSIBLE
    )


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
