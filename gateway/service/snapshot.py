"""Figures that metrics show but never fetch while a scrape waits: taken every few seconds.

The same reading of the budgets is handed to whoever announces what is spent of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import structlog

from gateway.access.interface import TeamKeys, TeamList
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import ORGANIZATION, TeamId
from gateway.domain.limits import Budget, Scope
from gateway.ledger.holds import ScopedBudget, Standing
from gateway.ledger.interface import Ledger
from gateway.telemetry.metrics import Metrics, usd

log = structlog.get_logger(__name__)

#: A scrape may show figures this old (design rule 22 allows 10 s).
EVERY_S = 5.0

MS_PER_S = 1000

#: Takes what was read.
Tell = Callable[[Sequence[Standing]], None]

#: Tells the micro-dollars a team has paid for pictures that nobody has fetched.
Undelivered = Callable[[TeamId], Awaitable[int]]

#: Scope, team, name and period of a budget, as the gauges are told apart.
_Labels = tuple[str, TeamId, str, str]


class Snapshot:
    """Copies figures of all teams into gauges; `store_up` tells whether that worked.

    `shared` tells the organization's budgets.
    """

    def __init__(
        self,
        ledger: Ledger,
        teams: TeamList,
        metrics: Metrics,
        tell: Tell,
        *,
        undelivered: Undelivered,
        shared: Callable[[], Sequence[Budget]] = tuple,
    ) -> None:
        self._ledger = ledger
        self._teams = teams
        self._metrics = metrics
        self._tell = tell
        self._undelivered = undelivered
        self._shared = shared
        self._shown: set[_Labels] = set()
        self._shown_teams: set[TeamId] = set()

    async def take(self) -> None:
        """Copy the figures once. Raises StoreUnavailable."""
        shared = tuple(
            ScopedBudget(ORGANIZATION, Scope.ORGANIZATION, "", budget) for budget in self._shared()
        )
        standings = list(await self._ledger.standings(shared))
        undelivered: dict[TeamId, int] = {}
        for entry in await self._teams.read():
            standings += await self._ledger.standings(tuple(watched(entry)))
            undelivered[entry.team.id] = await self._undelivered(entry.team.id)
        self._show([standing for standing in standings if _in_gauges(standing)])
        self._show_undelivered(undelivered)
        self._tell(standings)

    async def run(self) -> None:
        """Copy the figures every few seconds for ever; the log tells when that begins to fail."""
        was_up = True
        while True:
            self._metrics.refresh()
            try:
                await self.take()
            except StoreUnavailable:
                is_up = False
            else:
                is_up = True
            self._metrics.store_up.set(is_up)
            if was_up and not is_up:
                log.warning("store_down", action="store_down")
            elif is_up and not was_up:
                log.info("store_back", action="store_back")
            was_up = is_up
            await asyncio.sleep(EVERY_S)

    def _show(self, standings: Sequence[Standing]) -> None:
        gauges = self._metrics
        shown: set[_Labels] = set()
        for standing in standings:
            state = standing.state
            labels = (state.scope, standing.team, state.name, state.per)
            gauges.budget_limit.labels(*labels).set(usd(state.limit_microusd))
            gauges.budget_spent.labels(*labels).set(usd(state.spent_microusd))
            gauges.budget_held.labels(*labels).set(usd(state.held_microusd))
            if state.resets_at_ms is not None:
                gauges.budget_start.labels(*labels).set(standing.window.starts_at_ms / MS_PER_S)
                gauges.budget_end.labels(*labels).set(state.resets_at_ms / MS_PER_S)
            shown.add(labels)
        for labels in self._shown - shown:
            for gauge in (
                *(gauges.budget_limit, gauges.budget_spent, gauges.budget_held),
                *(gauges.budget_start, gauges.budget_end),
            ):
                gauge.remove(*labels)
        self._shown = shown

    def _show_undelivered(self, undelivered: Mapping[TeamId, int]) -> None:
        gauge = self._metrics.paid_undelivered
        for team, microusd in undelivered.items():
            gauge.labels(team).set(usd(microusd))
        for team in self._shown_teams - set(undelivered):
            gauge.remove(team)
        self._shown_teams = set(undelivered)


def watched(entry: TeamKeys) -> Iterator[ScopedBudget]:
    """Yield the budgets of a team that are read: its own, and those of keys that announce."""
    team = entry.team
    for budget in team.budgets:
        yield ScopedBudget(team.id, Scope.TEAM, "", budget)
    for key in entry.keys:
        for budget in key.budgets:
            if budget.alert_percents:
                yield ScopedBudget(team.id, Scope.KEY, key.name, budget)


def _in_gauges(standing: Standing) -> bool:
    """Tell whether a budget is shown: there is no label for each key."""
    return standing.state.scope in (Scope.TEAM, Scope.ORGANIZATION)
