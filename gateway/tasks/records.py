"""How tasks are written down: the fields of a record, a line of the ledger, a day's sums. Pure.

Scripts take fields as flat lists of names and values in turn.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from gateway.domain.limits import Scope
from gateway.domain.pricing import Charge, ChargeBasis
from gateway.domain.task import SCHEMA, RenderState, Task
from gateway.tasks.interface import Ending

#: Sums of what was spent are kept by quarters of an hour; the scripts know the same number.
BUCKET_MS = 900_000


def task_fields(task: Task, *, owner: str) -> list[str]:
    """Return the record of a task as it is in memory."""
    render = task.render
    record = {
        "schema": str(SCHEMA),
        "state": render.state.value,
        "epoch": str(task.epoch),
        "version": "1",
        "owner": owner,
        "key": task.key_name,
        "user": task.user,
        "model": task.model,
        "size": task.size,
        "quality": task.quality,
        "created_ms": str(task.created_ms),
        "hold": str(task.hold.amount_microusd),
        "hold_state": "held",
        "provider": render.order.provider,
        "account": render.order.account,
        "order": orjson.dumps(render.order.body).decode(),
    }
    if render.state is not RenderState.QUEUED:
        record |= {"attempt_id": render.attempt_id, "upstream_id": render.upstream_id}
    return _flat(record)


def ending_fields(ending: Ending, now_ms: int) -> list[str]:
    """Return what a record learns when its task ends."""
    record = {"ended_ms": str(now_ms), "basis": ending.charge.basis.value}
    if ending.failure is not None:
        record["failure"] = ending.failure.value
    if ending.links:
        record["links"] = _json(ending.links)
    if ending.usage is not None:
        record["usage"] = _json(dict(ending.usage))
    return _flat(record)


def verb_of(charge: Charge) -> str:
    """Return what the ledger calls the end of a hold."""
    if charge.basis is ChargeBasis.POSSIBLE:
        return "possible_charge"
    return "settle" if charge.total_microusd else "release"


def hold_entry(task: Task) -> list[str]:
    """Return what the ledger's line of a hold says beside its money."""
    return _flat(_who_and_what(task))


def ending_entry(task: Task, ending: Ending) -> list[str]:
    """Return what the ledger's line of an end says beside its money."""
    return _flat(
        {
            **_who_and_what(task),
            "categories": _json(ending.charge.by_category),
            "tokens": _json(dict(ending.usage or {})),
            "basis": ending.charge.basis.value,
            "images": "1" if ending.links else "0",
            "created_ms": str(task.created_ms),
            "upstream": task.render.upstream_id,
        }
    )


def release_entry(task: Task) -> list[str]:
    """Return what the ledger's line of an admission that was given up says beside its money."""
    return _flat(
        {
            **_who_and_what(task),
            "categories": "{}",
            "tokens": "{}",
            "basis": ChargeBasis.NOTHING.value,
            "images": "0",
            "created_ms": str(task.created_ms),
            "upstream": "",
        }
    )


def rollups(task: Task, ending: Ending) -> list[str | int]:
    """Return what an end adds to the sums of its day: fields and integers in turn."""
    sums: dict[str, int] = {}
    charge = ending.charge
    if charge.total_microusd:
        sums["cost"] = charge.total_microusd
    if charge.basis is ChargeBasis.POSSIBLE:
        sums["possible"] = charge.total_microusd
    if ending.links:
        sums["images"] = 1
    sums |= {f"cost:{name}": amount for name, amount in charge.by_category.items() if amount}
    sums |= {f"tokens:{name}": count for name, count in (ending.usage or {}).items() if count}
    flat: list[str | int] = []
    for measure, amount in sums.items():
        where = [task.key_name, task.model, task.render.order.provider, measure]
        flat += [_json(where), amount]
    return flat


def sum_owners(task: Task) -> list[str]:
    """Return whose sums a task's cost goes to: the team's, its key's, its end user's."""
    owners = [f"{Scope.TEAM}|", f"{Scope.KEY}|{task.key_name}"]
    if task.user:
        owners.append(f"{Scope.USER}|{task.user}")
    return owners


def bucket_of(moment_ms: int) -> int:
    """Return the start of the quarter of an hour that a moment is in."""
    return moment_ms - moment_ms % BUCKET_MS


def day_of(moment_ms: int) -> str:
    """Return the UTC day of a moment, YYYYMMDD."""
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y%m%d}"


def month_of(moment_ms: int) -> str:
    """Return the UTC month of a moment, YYYYMM."""
    return day_of(moment_ms)[:6]


def month_before(month: str) -> str:
    """Return the month before a YYYYMM."""
    year, number = int(month[:4]), int(month[4:])
    return f"{year - 1}12" if number == 1 else f"{year}{number - 1:02d}"


def _who_and_what(task: Task) -> dict[str, str]:
    return {
        "render": "0",
        "key": task.key_name,
        "user": task.user,
        "model": task.model,
        "provider": task.render.order.provider,
        "size": task.size,
        "quality": task.quality,
    }


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _flat(record: dict[str, str]) -> list[str]:
    return [word for pair in record.items() for word in pair]
