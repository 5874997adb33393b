"""The books read from Redis or Valkey."""

from __future__ import annotations

from gateway.domain.accounts import Team
from gateway.domain.clock import Clock
from gateway.domain.errors import BudgetState
from gateway.ledger.holds import candidates, state_of
from gateway.store.client import Store


class RedisLedger:
    """Implements `Ledger` on the windows that the scripts keep."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def balances(self, team: Team) -> tuple[BudgetState, ...]:
        """Return every budget of the team in its current window."""
        states = []
        for choice in candidates(team, self._clock.now_ms()):
            current = choice[0]
            reply = await self._store.command("HMGET", current.key, "spent", "held")
            spent, held = (int(value or 0) for value in reply)  # type: ignore[union-attr, arg-type]  # HMGET answers a list
            states.append(state_of(current.held(), spent, held))
        return tuple(states)
