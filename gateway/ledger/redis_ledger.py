"""The books read from Redis or Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.domain.accounts import Caller
from gateway.domain.clock import Clock
from gateway.domain.errors import BudgetState
from gateway.ledger.holds import ScopedBudget, Standing, budgets_of, state_of
from gateway.store.client import Store


class RedisLedger:
    """Implements `Ledger` on the windows that the scripts keep."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def balances(self, caller: Caller, user: str = "") -> tuple[BudgetState, ...]:
        """Return every budget that counts for this caller, in its current window."""
        return tuple(standing.state for standing in await self.standings(budgets_of(caller, user)))

    async def standings(self, budgets: Sequence[ScopedBudget]) -> tuple[Standing, ...]:
        """Return how these budgets stand in their current windows."""
        now_ms = self._clock.now_ms()
        return tuple([await self._standing(budget, now_ms) for budget in budgets])

    async def _standing(self, budget: ScopedBudget, now_ms: int) -> Standing:
        window = budget.candidates(now_ms)[0]
        reply: Any = await self._store.command(
            "HMGET", window.key, "spent", "held", "topped_up", "refused_at"
        )
        *figures, refused_at = reply
        state = state_of(window, *(int(figure or 0) for figure in figures))
        refused = refused_at is not None and int(refused_at) == state.limit_microusd
        return Standing(budget.team, budget.budget, window, state, refused)
