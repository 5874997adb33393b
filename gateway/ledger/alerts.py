"""What there is to announce about budgets, and what is remembered of having done so. Pure.

An announcement is of one window of a budget and one part of it. It is made once: whoever makes it
claims it first, for a while, and writes down that it was delivered. A replica that dies in between
leaves a claim that runs out, so that another one makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.ledger.holds import Standing
from gateway.store.keyspace import alert_key

#: The part that also counts as reached when a call did not fit any more: what is spent stops just
#: below a limit that refuses.
ALL = 100

#: A mark outlives its window by this much, so that no clock makes it go before.
MARK_KEEP_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Alert:
    """A part of a budget (in percent) that is spent, or did not suffice (`refused`)."""

    standing: Standing
    percent: int
    refused: bool = False

    @property
    def key(self) -> str:
        """The key of its mark. A total that is topped up or raised is announced anew."""
        window, state = self.standing.window, self.standing.state
        total = state.limit_microusd if window.resets_at_ms is None else None
        return alert_key(self.standing.team, window.key, self.percent, total)

    @property
    def expires_ms(self) -> int | None:
        """When its mark may go (Unix ms), None for never."""
        end_ms = self.standing.window.resets_at_ms
        return None if end_ms is None else end_ms + MARK_KEEP_MS


class Claim(StrEnum):
    """What came of claiming an announcement."""

    CLAIMED = "claimed"
    #: Another replica has it, or it waits for its next try.
    TAKEN = "taken"
    DELIVERED = "delivered"


class AlertMarks(Protocol):
    """Remembers announcements for all replicas. Every method raises StoreUnavailable."""

    async def claim(self, alert: Alert, *, lease_ms: int) -> tuple[Claim, int]:
        """Take it on for `lease_ms`; return what came of it, and the tries with this one."""
        ...

    async def delivered(self, alert: Alert) -> None:
        """Write down that it was delivered. Idempotent."""
        ...

    async def failed(self, alert: Alert, *, wait_ms: int) -> None:
        """Give it back: in `wait_ms` anybody may try again."""
        ...


def alerts_of(standings: Iterable[Standing]) -> Iterator[Alert]:
    """Yield every part of a budget that is spent, or did not suffice, and is to be announced."""
    for standing in standings:
        for percent in standing.budget.alert_percents:
            if standing.state.spent_microusd > 0 and _reached(standing, percent):
                yield Alert(standing, percent)
            elif percent == ALL and standing.refused:
                yield Alert(standing, percent, refused=True)


def _reached(standing: Standing, percent: int) -> bool:
    return standing.state.spent_microusd * 100 >= standing.state.limit_microusd * percent
