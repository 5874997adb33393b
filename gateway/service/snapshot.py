"""Figures that metrics show but never fetch while a scrape waits: taken every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.errors import StoreUnavailable
from gateway.ledger.interface import Ledger
from gateway.telemetry.metrics import Metrics, usd

#: A scrape may show figures this old (design rule 22 allows 10 s).
EVERY_S = 5.0


class Snapshot:
    """Copies the budgets of all teams into gauges; `store_up` tells whether that worked."""

    def __init__(self, ledger: Ledger, teams: Sequence[Team], metrics: Metrics) -> None:
        self._ledger = ledger
        self._teams = teams
        self._metrics = metrics

    async def take(self) -> None:
        """Copy the figures once. Raises StoreUnavailable."""
        for team in self._teams:
            # A key that has no budgets of its own: there is no label for each key.
            for state in await self._ledger.balances(Caller(team, ApiKey(name=""))):
                labels = (state.scope, team.id, state.name, state.per)
                self._metrics.budget_limit.labels(*labels).set(usd(state.limit_microusd))
                self._metrics.budget_spent.labels(*labels).set(usd(state.spent_microusd))
                self._metrics.budget_held.labels(*labels).set(usd(state.held_microusd))

    async def run(self) -> None:
        """Copy the figures every few seconds for ever."""
        while True:
            try:
                await self.take()
            except StoreUnavailable:
                self._metrics.store_up.set(0)
            else:
                self._metrics.store_up.set(1)
            await asyncio.sleep(EVERY_S)
