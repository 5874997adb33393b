"""Marks of announcements in Redis or Valkey, each in its team's slot."""

from __future__ import annotations

from typing import Any

from gateway.ledger.alerts import Alert, Claim
from gateway.store.client import Store
from gateway.store.scripts import load_script


class RedisAlertMarks:
    """Implements `AlertMarks`; `replica` is this process's own name."""

    def __init__(self, store: Store, *, replica: str) -> None:
        self._store = store
        self._replica = replica
        self._claim = load_script("ledger/lua/claim_alert.lua")
        self._settle = load_script("ledger/lua/settle_alert.lua")

    async def claim(self, alert: Alert, *, lease_ms: int) -> tuple[Claim, int]:
        """Take an announcement on; 0 tries unless it is claimed."""
        reply: Any = await self._store.run(
            self._claim, [alert.key], [self._replica, lease_ms, _expiry(alert)]
        )
        outcome = Claim(reply[0].decode())
        return outcome, reply[1] if outcome is Claim.CLAIMED else 0

    async def delivered(self, alert: Alert) -> None:
        """Write down that an announcement was delivered."""
        await self._write(alert, "delivered", 0)

    async def failed(self, alert: Alert, *, wait_ms: int) -> None:
        """Give an announcement back."""
        await self._write(alert, "failed", wait_ms)

    async def _write(self, alert: Alert, outcome: str, wait_ms: int) -> None:
        await self._store.run(
            self._settle, [alert.key], [self._replica, outcome, wait_ms, _expiry(alert)]
        )


def _expiry(alert: Alert) -> str:
    return "" if alert.expires_ms is None else str(alert.expires_ms)
