"""A second hand that keeps books: entries as the product's scripts write them, by code of its own.

What an entry does to counters and sums is written out again here, so that the readers are compared
with something that is not themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import orjson

from gateway.domain.ids import TeamId
from gateway.ledger.entries import RawEntry
from gateway.store.client import Store
from gateway.store.scripts import Script

#: Writes entries from outside of any loop, each with what it does, and returns their ids.
WriteBooks = Callable[..., list[str]]

TEAM = TeamId("design")

#: Windows of one day of 2026-11-23 in UTC, and a prepaid total.
DAY_WINDOW = "{t:design}:budget:team::day:1795392000000"
KEY_WINDOW = "{t:design}:budget:key:ci:day:1795392000000"
TOTAL_WINDOW = "{t:design}:budget:team::prepaid:0"
BOTH = (DAY_WINDOW, KEY_WINDOW)

_WHO = {
    "key": "ci",
    "user": "",
    "model": "gpt-image-1.5",
    "provider": "evolink",
    "size": "1024x1024",
    "quality": "low",
}

#: Entry, counters and sums in one step, as every script of the product moves them.
_MOVE = Script(
    "move",
    """#!lua
local order = cjson.decode(ARGV[1])
local entry_id = redis.call('XADD', KEYS[1], ARGV[2], unpack(order.entry))
for _, change in ipairs(order.windows) do
  redis.call('HINCRBY', change[1], change[2], string.format('%d', change[3]))
end
for _, change in ipairs(order.sums) do
  redis.call('HINCRBY', change[1], change[2], string.format('%d', change[3]))
end
return entry_id
""",
)


def a_hold(
    task: str, amount: int, windows: Sequence[str] = BOTH, *, render: int = 0
) -> dict[str, str]:
    """Return the fields of a hold."""
    return {
        "verb": "hold",
        "op": f"{task}:{render}:hold",
        "task": task,
        "render": str(render),
        **_WHO,
        "amount": str(amount),
        "windows": _json(list(windows)),
    }


def a_raise(
    task: str, amount: int, windows: Sequence[str] = BOTH, *, render: int = 0
) -> dict[str, str]:
    """Return the fields of a hold that was made larger."""
    return a_hold(task, amount, windows, render=render) | {
        "verb": "raise",
        "op": f"{task}:{render}:raise",
    }


def a_widening(
    task: str, amount: int, windows: Sequence[str] = (TOTAL_WINDOW,), *, render: int = 0
) -> dict[str, str]:
    """Return the fields of a hold that is also taken from a window that was made since."""
    return a_hold(task, amount, windows, render=render) | {
        "verb": "widen",
        "op": f"{task}:{render}:widen:{windows[0]}",
    }


def an_end(
    verb: str,
    task: str,
    *,
    hold: int,
    render: int = 0,
    cost: int = 0,
    windows: Sequence[str] = BOTH,
    categories: Mapping[str, int] | None = None,
    tokens: Mapping[str, int] | None = None,
    created_ms: int | None = None,
) -> dict[str, str]:
    """Return the fields of a settle, a release or a possible charge."""
    parts = {"image_output": cost} if cost else {}
    fields = {
        "verb": verb,
        "op": f"{task}:{render}:end",
        "task": task,
        "render": str(render),
        **_WHO,
        "hold": str(hold),
        "cost": str(cost),
        "windows": _json(list(windows)),
        "categories": _json(parts if categories is None else dict(categories)),
        "tokens": _json(dict(tokens or {})),
        "basis": {"settle": "credits", "release": "nothing"}.get(verb, "possible"),
        "upstream": "",
        "images": "1" if verb == "settle" else "0",
    }
    return fields if created_ms is None else fields | {"created_ms": str(created_ms)}


def a_part(
    task: str, part: str, *, hold: int, cost: int = 0, windows: Sequence[str] = BOTH
) -> dict[str, str]:
    """Return the fields of a part of a task that is over, in the organization's books."""
    return {
        "verb": "part",
        "op": f"{task}:part:{part}",
        "task": task,
        "part": part,
        "hold": str(hold),
        "cost": str(cost),
        "windows": _json(list(windows)),
    }


def an_opening(window: str, spent: int) -> dict[str, str]:
    """Return the fields of a window that was made in the middle of its time."""
    return {"verb": "open", "op": f"open:{window}", "window": window, "spent": str(spent)}


def an_adjustment(
    task: str, delta: int, *, op: str = "1", windows: Sequence[str] = BOTH
) -> dict[str, str]:
    """Return the fields of a correction."""
    return {
        "verb": "adjust",
        "op": f"adjust:{op}",
        "task": task,
        **{name: _WHO[name] for name in ("key", "user", "model", "provider")},
        "delta": str(delta),
        "windows": _json(list(windows)),
        "reason": "the upstream's bill says so",
        "by": "kim",
    }


def a_top_up(delta: int, *, op: str = "1", window: str = TOTAL_WINDOW) -> dict[str, str]:
    """Return the fields of a top-up."""
    return {
        "verb": "top_up",
        "op": f"top_up:{op}",
        "delta": str(delta),
        "windows": _json([window]),
    }


def raw(fields: Mapping[str, str], entry_id: str) -> RawEntry:
    """Return an entry as it is read."""
    return RawEntry(entry_id, dict(fields))


def window_changes(fields: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """Return what an entry does to windows: key, field, change."""
    amount = {name: int(fields.get(name, "0")) for name in ("amount", "hold", "cost", "delta")}
    changes = {
        "open": [("spent", int(fields.get("spent", "0")))],
        "hold": [("held", amount["amount"])],
        "raise": [("held", amount["amount"])],
        "widen": [("held", amount["amount"])],
        "settle": [("held", -amount["hold"]), ("spent", amount["cost"])],
        "release": [("held", -amount["hold"])],
        "possible_charge": [("held", -amount["hold"]), ("spent", amount["cost"])],
        "adjust": [("spent", amount["delta"])],
        "top_up": [("topped_up", amount["delta"])],
    }[fields["verb"]]
    windows = [fields["window"]] if "window" in fields else orjson.loads(fields["windows"])
    return [(window, *change) for window in windows for change in changes]


def sum_changes(fields: Mapping[str, str], entry_id: str) -> list[tuple[str, str, int]]:
    """Return what an entry does to the rollup of its day: day, field, change."""
    moment_ms = int(fields.get("created_ms") or entry_id.split("-", maxsplit=1)[0])
    day = f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y%m%d}"
    measures: dict[str, int] = {}
    if fields["verb"] == "adjust":
        measures = dict.fromkeys(("cost", "adjusted"), int(fields["delta"]))
    elif fields["verb"] in ("settle", "release", "possible_charge"):
        measures = {"cost": int(fields["cost"]), "images": int(fields["images"])}
        if fields["verb"] == "possible_charge":
            measures["possible"] = int(fields["cost"])
        for kind, name in (("cost", "categories"), ("tokens", "tokens")):
            parts = orjson.loads(fields[name])
            measures |= {f"{kind}:{part}": amount for part, amount in parts.items()}
    where = [fields.get(name, "") for name in ("key", "model", "provider")]
    return [(day, _json([*where, name]), value) for name, value in measures.items() if value]


class BookWriter:
    """Writes entries to a real store, with what they do."""

    def __init__(self, store: Store, team: TeamId = TEAM) -> None:
        self._store = store
        self._team = team

    async def write(self, fields: Mapping[str, str], *, at: str = "*") -> str:
        """Write an entry, its counters and its sums in one step; return its id.

        `at` is an id of its own, such as 1795435200000-0, for a moment other than now.
        """
        prefix = f"{{t:{self._team}}}:"
        # The store's clock decides the day of an entry that names none; a test that straddles
        # midnight names one.
        moment = at if at != "*" else await self._now()
        order = {
            "entry": [word for pair in fields.items() for word in pair],
            "windows": window_changes(fields),
            "sums": [
                (f"{prefix}rollup:{day}", name, value)
                for day, name, value in sum_changes(fields, moment)
            ],
        }
        reply = await self._store.run(_MOVE, [f"{prefix}ledger"], [orjson.dumps(order), at])
        assert isinstance(reply, bytes)
        return reply.decode()

    async def _now(self) -> str:
        reply = await self._store.command("TIME")
        assert isinstance(reply, tuple)
        return f"{reply[0]}000-0"


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
