"""Announces what is spent of budgets: each part of each window once, over all replicas.

It never reads budgets itself and no request waits for it: it is handed what the snapshot has read,
every few seconds. A claim in the store makes one replica announce a thing at a time; what fails is
tried again, ever later, until it is delivered or its window is over. Delivery is at least once: a
replica that dies between the delivery and its mark makes another one repeat it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from gateway.domain.clock import Clock
from gateway.domain.errors import BudgetState, StoreUnavailable
from gateway.domain.money import format_usd
from gateway.domain.schedule import backoff_s
from gateway.ledger.alerts import Alert, AlertMarks, Claim, alerts_of
from gateway.ledger.holds import Standing
from gateway.service.webhook import WITHIN_S, Messenger, NotDeliveredError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AlertTimes:
    """How long an announcement is one replica's, and the pauses between its tries; seconds."""

    lease_s: float = 3 * WITHIN_S
    first_retry_s: float = 5.0
    longest_retry_s: float = 300.0


class Alerts:
    """Makes announcements; `count` is told how each try ended: delivered or failed."""

    def __init__(
        self,
        marks: AlertMarks,
        messenger: Messenger,
        clock: Clock,
        count: Callable[[str], None],
        times: AlertTimes = AlertTimes(),
    ) -> None:
        self._marks = marks
        self._messenger = messenger
        self._clock = clock
        self._count = count
        self._times = times
        self._seen: Sequence[Standing] = ()
        self._news = asyncio.Event()
        # By key of the mark: posted by us and not marked yet; and known to be delivered.
        self._posted: set[str] = set()
        self._done: set[str] = set()

    def see(self, standings: Sequence[Standing]) -> None:
        """Take what the budgets are now; the loop announces what is due."""
        self._seen = standings
        self._news.set()

    async def run(self) -> None:
        """Announce for ever whatever is seen."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.announce(self._seen)
            except StoreUnavailable:
                # What is due stays due, and is seen again in a few seconds.
                log.warning("alerts_wait", action="alerts_wait")

    async def announce(self, standings: Sequence[Standing]) -> None:
        """Announce all that is due and that nobody has announced. Raises StoreUnavailable."""
        due = list(alerts_of(standings))
        keys = {alert.key for alert in due}
        self._done &= keys
        self._posted &= keys
        for alert in due:
            if alert.key not in self._done and not self._is_over(alert):
                await self._attend_to(alert)

    async def _attend_to(self, alert: Alert) -> None:
        if alert.key not in self._posted:
            claim, tries = await self._marks.claim(
                alert, lease_ms=round(self._times.lease_s * 1000)
            )
            if claim is Claim.DELIVERED:
                self._done.add(alert.key)
            if claim is not Claim.CLAIMED or not await self._post(alert, tries):
                return
            self._posted.add(alert.key)
        await self._marks.delivered(alert)
        self._posted.discard(alert.key)
        self._done.add(alert.key)

    async def _post(self, alert: Alert, tries: int) -> bool:
        """Try once; when it fails, give the announcement back for later."""
        try:
            await self._messenger.post(text_of(alert))
        except NotDeliveredError as error:
            self._count("failed")
            self._note(alert, "alert_failed", detail=str(error), tries=tries)
            wait_s = backoff_s(
                tries, first_s=self._times.first_retry_s, cap_s=self._times.longest_retry_s
            )
            await self._marks.failed(alert, wait_ms=round(wait_s * 1000))
            return False
        self._count("delivered")
        self._note(alert, "alert_delivered", tries=tries)
        return True

    def _is_over(self, alert: Alert) -> bool:
        end_ms = alert.standing.window.resets_at_ms
        return end_ms is not None and self._clock.now_ms() >= end_ms

    def _note(self, alert: Alert, action: str, **fields: object) -> None:
        state = alert.standing.state
        log.info(
            action,
            action=action,
            team=alert.standing.team,
            scope=state.scope,
            owner=state.owner,
            budget=state.name,
            percent=alert.percent,
            **fields,
        )


def text_of(alert: Alert) -> str:
    """Return what people are told: team, scope, budget, figures and the window's end."""
    state = alert.standing.state
    whose = f"key '{state.owner}'" if state.owner else "the team"
    budget = f"the '{state.name}' budget of {whose}"
    told = f"{budget} has reached {alert.percent}%"
    if alert.refused:
        told = f"a call did not fit into {budget}"
    return (
        f"Team '{alert.standing.team}': {told}:"
        f" ${format_usd(state.spent_microusd)} of ${format_usd(state.limit_microusd)}"
        f" ({state.per}) is spent{_share(state)},"
        f" ${format_usd(state.held_microusd)} is held by calls in progress. {_end(state)}"
    )


def _share(state: BudgetState) -> str:
    """Return what is spent in percent, rounded down: 100% is said when it is."""
    if state.limit_microusd == 0:
        return ""
    return f" ({state.spent_microusd * 100 // state.limit_microusd}%)"


def _end(state: BudgetState) -> str:
    if state.resets_at_ms is None:
        return "It does not reset."
    return (
        f"It resets at {datetime.fromtimestamp(state.resets_at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}."
    )
