"""Top-ups in Redis or Valkey: budget, ledger and audit in one step."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.domain.money import MAX_MICROUSD, format_usd
from gateway.ledger.interface import ToppedUp, TopUp, TopUpRefusedError
from gateway.store.client import Store
from gateway.store.keyspace import adjustments_key, audit_key, budget_window_key, ledger_key
from gateway.store.scripts import load_script


class RedisTopUps:
    """Implements `TopUps`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._top_up = load_script("ledger/lua/top_up.lua")

    async def top_up(self, order: TopUp) -> ToppedUp:
        """Book a top-up of a total, once however often it is sent."""
        told = {
            "op": f"top_up:{order.id}",
            "delta": order.delta_microusd,
            # Limit and top-ups are added in Lua: both together stay exact.
            "max": MAX_MICROUSD // 2,
            "entry": _flat({"key": order.owner, "reason": order.note, "by": order.by}),
            "audit": _flat(_audit_entry(order)),
        }
        # A total is one window that has no end.
        window = budget_window_key(order.team, order.scope, order.owner, order.budget, 0)
        reply: Any = await self._store.run(
            self._top_up,
            [
                ledger_key(order.team),
                adjustments_key(order.team),
                window,
                audit_key(order.team),
            ],
            [orjson.dumps(told)],
        )
        if reply[0] == b"refused":
            raise TopUpRefusedError(reply[1])
        return ToppedUp(reply[1].decode(), reply[2])


def _audit_entry(order: TopUp) -> dict[str, str]:
    """Return the line that stands among the changes of the account, as these are written."""
    after = {
        "budget": order.budget,
        "usd": format_usd(order.delta_microusd),
        "note": order.note,
        "id": order.id,
    }
    return {
        "who": order.by,
        "what": "top_up",
        "key": order.owner,
        "before": "",
        "after": orjson.dumps(after).decode(),
    }


def _flat(record: dict[str, str]) -> list[str]:
    return [word for pair in record.items() for word in pair]
