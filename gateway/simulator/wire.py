"""The JSON bodies of EvoLink's answers (protocols/evolink.md §3, §4, §5, §8).

Amounts stay ``Decimal`` up to the bytes: they are written as the exact decimal numbers they are.
Keys come out in alphabetical order, as in the recorded answer.
"""

from collections.abc import Sequence
from dataclasses import asdict
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import orjson

from gateway.simulator.faults import TASK_FAULTS
from gateway.simulator.pricing import CREDITS_PER_USD, cny, microusd, usd
from gateway.simulator.script import Ending, ErrorForm, LetterForm
from gateway.simulator.settings import Shape
from gateway.simulator.tasks import Task, View
from gateway.simulator.world import Account, Stats

_CREDITS_STEP = Decimal("0.0001")
_NEEDED = ("id", "status", "results")
_FORGED_LINK = "https://forged.example/images/picture.png"
_FOREIGN_ID = "task-unified-1000000000-foreign0"


def encode(body: Any) -> bytes:
    """Return ``body`` as JSON with sorted keys and exact decimals."""
    return orjson.dumps(body, default=_exact, option=orjson.OPT_SORT_KEYS)


def _exact(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value.normalize():f}")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def created_body(task: Task, shape: Shape = Shape.LIVE) -> dict[str, Any]:
    """Return the answer to a submit (§3)."""
    usage: dict[str, Any] = {
        # The documents show per_call even for models that are billed by tokens.
        "billing_rule": "per_call",
        "credits_reserved": task.reserved,
        "user_group": "default",
    }
    if shape is Shape.QUICKSTART:
        usage |= {
            "credits_reserved": task.reserved * 1000,
            "estimated_cost": task.reserved,
        }
    return _shaped(_envelope(View(task, "pending", 0, finished=False)) | {"usage": usage}, shape)


def task_body(
    seen: View, base_url: str, shape: Shape, *, per_usd: int = CREDITS_PER_USD
) -> dict[str, Any]:
    """Return the answer to a poll: unfinished, completed in the asked shape, or failed."""
    body = _envelope(seen)
    if seen.status == "completed":
        body |= _completed(seen.task, seen.task.script.links or base_url, shape, per_usd)
    elif seen.task.script.ending is Ending.FAILED and seen.finished:
        body |= _failed(seen.task)
    return _shaped(body, shape)


def letter_body(body: dict[str, Any], form: LetterForm) -> dict[str, Any]:
    """Return what a callback says instead of the ``body`` of its task's poll."""
    match form:
        case LetterForm.TRIMMED:
            names = ("id", "status", "model", "results")
            return {name: body[name] for name in names if name in body}
        case LetterForm.FORGED:
            return body | {"results": [_FORGED_LINK], "result_data": [{"url": _FORGED_LINK}]}
        case LetterForm.FOREIGN:
            return body | {"id": _FOREIGN_ID}
        case _:
            return body


def list_body(rows: Sequence[View], *, total: int, page: int, page_size: int) -> dict[str, Any]:
    """Return one page of the list of tasks, without any links (§5)."""
    return {
        "data": [_list_row(seen) for seen in rows],
        "object": "list",
        "page": page,
        "page_size": page_size,
        "total": total,
    }


def _list_row(seen: View) -> dict[str, Any]:
    pictures = seen.task.script.ending is Ending.PICTURES and seen.finished
    row: dict[str, Any] = {
        "created_at": seen.task.created,
        "has_error": seen.status == "failed",
        "has_results": pictures,
        "id": seen.task.id,
        "model": seen.task.model,
        "progress": seen.progress,
        "result_count": len(seen.task.files) if pictures else 0,
        "status": seen.status,
        "type": "image",
    }
    if seen.finished:
        row["credits_used"] = seen.task.price if seen.task.charged else 0
        row["duration"] = round(seen.task.duration_s)
    return row


def credits_body(account: Account) -> dict[str, Any]:
    """Return the account's credits with four decimals (§8); the key has no limit of its own."""
    used = account.used.quantize(_CREDITS_STEP, ROUND_HALF_UP)
    remaining = account.remaining.quantize(_CREDITS_STEP, ROUND_HALF_UP)
    figures = {"remaining_credits": remaining, "used_credits": used}
    return {
        "data": {"token": figures | {"unlimited_credits": False}, "user": figures},
        "message": "",
        "success": True,
    }


def stats_body(stats: Stats) -> dict[str, Any]:
    """Return the simulator's own counts."""
    return asdict(stats)


def record_body(seen: View, per_usd: int) -> dict[str, Any]:
    """Return a task as the simulator's own list shows it, to be compared with a ledger."""
    task = seen.task
    booked = task.price if seen.finished and task.charged else Decimal(0)
    noticed_s = task.noticed_s
    return {
        "cost_microusd": microusd(booked, per_usd),
        "created": task.created,
        "credits": booked,
        "error": task.script.failure if seen.status == "failed" else "",
        "id": task.id,
        "idempotency_key": task.origin.idempotency_key,
        "images": len(task.files),
        "label": task.script.label,
        "model": task.order.model.name,
        "n": task.order.pictures,
        "noticed_after_ms": None if noticed_s is None else round((noticed_s - task.due_s) * 1000),
        "prompt_sha256": task.origin.prompt_sha256,
        "references": len(task.order.references),
        "state": seen.status,
    }


def _envelope(seen: View) -> dict[str, Any]:
    task_info: dict[str, Any] = {"can_cancel": not seen.finished}
    if not seen.finished:
        task_info["estimated_time"] = seen.task.order.model.estimated_time_s
    body = {
        "created": seen.task.created,
        "id": seen.task.id,
        "model": seen.task.model,
        "object": "image.generation.task",
        "status": seen.status,
        "task_info": task_info,
        "type": "image",
    }
    return body if seen.progress is None else body | {"progress": seen.progress}


def _completed(task: Task, base_url: str, shape: Shape, per_usd: int) -> dict[str, Any]:
    produced = task.files if task.script.ending is Ending.PICTURES else ()
    links = [base_url + path for path in produced]
    if shape in {Shape.DOCS, Shape.BARE}:
        return {"results": links}
    objects = [{"url": link} for link in links]
    body = {
        "duration": round(task.duration_s),
        "result_data": _refined(_result_data(links, shape), task.script.revised),
        "results": objects if shape is Shape.OBJECTS else links,
        "usage": _usage(task, shape, per_usd),
    }
    if shape is Shape.DATA_ONLY:
        del body["results"]
    return body


def _result_data(links: list[str], shape: Shape) -> Any:
    match shape:
        case Shape.DATA_OBJECT:
            return {"url": links[0] if links else ""}
        case Shape.IMAGE_URLS:
            return [
                {"image_url": link, "result_id": f"result_{index}", "tags": ""}
                for index, link in enumerate(links)
            ]
        case _:
            return [{"url": link} for link in links]


def _refined(result_data: Any, prompt: str) -> Any:
    if prompt and isinstance(result_data, list):
        return [result | {"revised_prompt": prompt} for result in result_data]
    return result_data


def _usage(task: Task, shape: Shape, per_usd: int) -> dict[str, Any]:
    cost = {"cny": cny(task.price), "credits": task.price, "usd": usd(task.price, per_usd)}
    if shape is Shape.MOCK:
        return {"cost": cost}
    usage: dict[str, Any] = asdict(task.usage) | {
        "credits_used": task.price,
        "total_tokens": task.usage.total_tokens,
    }
    if shape is Shape.COST:
        usage["cost"] = cost
    elif shape is Shape.CACHED:
        # Told beside the full counts: whether those include them is unknown (§4.4).
        usage["image_cached_input_tokens"] = task.usage.image_input_tokens // 2
        usage["text_cached_input_tokens"] = task.usage.text_input_tokens // 2
    return usage


def _failed(task: Task) -> dict[str, Any]:
    code = task.script.failure
    message = task.script.message or TASK_FAULTS[code]
    error: dict[str, Any] = {"code": code, "message": message, "type": "task_error"}
    match task.script.error_form:
        case ErrorForm.TEXT:
            return {"error": message}
        case ErrorForm.NULL:
            return {"error": None}
        case ErrorForm.INTEGER:
            return {"error": error | {"code": 500}}
        case ErrorForm.SUGGESTION:
            return {"error": error | {"suggestion": "try again later"}, "progress": 100}
        case ErrorForm.OBJECT:
            return {"error": error}


def _shaped(body: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Return the whole body with fields taken away, emptied or added."""
    match shape:
        case Shape.BARE:
            return {name: body[name] for name in _NEEDED if name in body}
        case Shape.NULLS:
            return {name: body[name] if name in _NEEDED else None for name in body}
        case Shape.EXTRA:
            return body | {"billing": {"rule": "per_1k_tokens"}, "request_id": "req_extra"}
        case Shape.MOCK:
            return body | {"object": "task"}
        case _:
            return body
