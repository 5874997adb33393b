"""The JSON bodies of EvoLink's answers (protocols/evolink.md §3, §4, §8).

Amounts stay ``Decimal`` up to the bytes: they are written as the exact decimal numbers they are.
Keys come out in alphabetical order, as in the recorded answer.
"""

from dataclasses import asdict
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import orjson

from gateway.simulator.faults import TASK_FAULTS
from gateway.simulator.markers import Ending
from gateway.simulator.pricing import cny, usd
from gateway.simulator.settings import Shape
from gateway.simulator.tasks import Task, View
from gateway.simulator.world import Account, Stats

_CREDITS_STEP = Decimal("0.0001")


def encode(body: Any) -> bytes:
    """Return ``body`` as JSON with sorted keys and exact decimals."""
    return orjson.dumps(body, default=_exact, option=orjson.OPT_SORT_KEYS)


def _exact(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value.normalize():f}")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def created_body(task: Task) -> dict[str, Any]:
    """Return the answer to a submit (§3)."""
    return _envelope(View(task, "pending", 0, finished=False)) | {
        "usage": {
            # The documents show per_call even for models that are billed by tokens.
            "billing_rule": "per_call",
            "credits_reserved": task.price,
            "user_group": "default",
        }
    }


def task_body(seen: View, base_url: str, shape: Shape) -> dict[str, Any]:
    """Return the answer to a poll: unfinished, completed in the asked shape, or failed."""
    if seen.status == "completed":
        return _envelope(seen) | _completed(seen.task, base_url, shape)
    if seen.task.script.ending is Ending.FAILED and seen.finished:
        code = seen.task.script.failure
        error = {"code": code, "message": TASK_FAULTS[code], "type": "task_error"}
        return _envelope(seen) | {"error": error}
    return _envelope(seen)


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


def _envelope(seen: View) -> dict[str, Any]:
    task_info: dict[str, Any] = {"can_cancel": not seen.finished}
    if not seen.finished:
        task_info["estimated_time"] = seen.task.order.model.estimated_time_s
    return {
        "created": seen.task.created,
        "id": seen.task.id,
        "model": seen.task.order.model.name,
        "object": "image.generation.task",
        "progress": seen.progress,
        "status": seen.status,
        "task_info": task_info,
        "type": "image",
    }


def _completed(task: Task, base_url: str, shape: Shape) -> dict[str, Any]:
    produced = task.files if task.script.ending is Ending.PICTURES else ()
    links = [base_url + path for path in produced]
    if shape is Shape.DOCS:
        return {"results": links}
    objects = [{"url": link} for link in links]
    return {
        "duration": round(task.duration_s),
        "result_data": objects,
        "results": objects if shape is Shape.OBJECTS else links,
        "usage": _usage(task, with_cost=shape is Shape.COST),
    }


def _usage(task: Task, *, with_cost: bool) -> dict[str, Any]:
    usage: dict[str, Any] = asdict(task.usage) | {
        "credits_used": task.price,
        "total_tokens": task.usage.total_tokens,
    }
    if with_cost:
        usage["cost"] = {"cny": cny(task.price), "credits": task.price, "usd": usd(task.price)}
    return usage
