"""The books read from Redis or Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.domain.accounts import Caller, Team
from gateway.domain.clock import Clock
from gateway.domain.errors import BudgetState
from gateway.domain.ids import TeamId
from gateway.ledger.holds import ScopedBudget, Standing, budgets_of, state_of
from gateway.ledger.quotas import QuotaState, Rate, day_quota_of, rate_quota, rates_of
from gateway.store.client import Store
from gateway.store.keyspace import in_flight_key


class RedisLedger:
    """Implements `TeamLedger` on what the scripts keep."""

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

    async def quotas(self, team: Team) -> tuple[QuotaState, ...]:
        """Return the team's quotas as they stand, those that it has."""
        now_ms = self._clock.now_ms()
        states = [await self._rate(rate, now_ms) for rate in rates_of(team, 0)]
        if (day := day_quota_of(team, now_ms)) is not None:
            key, today = day.windows[0]
            used = await self._counted(key)
            states.append(QuotaState("images_per_day", day.limit, used, today.end_ms))
        if (limit := team.quotas.in_flight_images) is not None:
            states.append(QuotaState("in_flight_images", limit, await self._in_flight(team.id)))
        return tuple(states)

    async def _rate(self, rate: Rate, now_ms: int) -> QuotaState:
        whole_at: Any = await self._store.command("GET", rate.key)
        return rate_quota(rate, whole_at_ms=float(whole_at or 0), now_ms=now_ms)

    async def _counted(self, key: str) -> int:
        count: Any = await self._store.command("GET", key)
        return int(count or 0)

    async def _in_flight(self, team: TeamId) -> int:
        # The script that admits adds the same up.
        reply: Any = await self._store.command("ZRANGE", in_flight_key(team), 0, -1, "WITHSCORES")
        return sum(int(float(images)) for images in reply[1::2])
