"""What was spent, by whom and for what: the ledger read, for HTTP and the command line alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from gateway.domain.accounts import Caller
from gateway.domain.clock import Clock
from gateway.domain.errors import BudgetState, InvalidRequest
from gateway.domain.ids import TeamId
from gateway.ledger.holds import tightest
from gateway.ledger.interface import TeamLedger
from gateway.ledger.quotas import QuotaState
from gateway.ledger.rollups import Grouping, Line, Rollups, Spend, add_up, group

#: Sums are kept this long (store/keyspace.py); more days than that are not asked for at once.
MAX_DAYS = 400


@dataclass(frozen=True, slots=True)
class Days:
    """A range of UTC days, both ends in it."""

    since: date
    until: date


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums of some teams in some days: by the group they were asked for, and in all.

    `complete_from` is the first day that nothing is missing of, None when that is all of them.
    """

    by: Grouping
    groups: dict[str, Spend]
    total: Spend
    complete_from: date | None = None


@dataclass(frozen=True, slots=True)
class OwnUsage:
    """What a key may know: what it counts against, and what its team spent."""

    days: Days
    budgets: tuple[BudgetState, ...]
    quotas: tuple[QuotaState, ...]
    by_day: dict[str, Spend]
    by_model: dict[str, Spend]
    by_key: dict[str, Spend]
    total: Spend


class UsageService:
    """Tells a team what it spent and what is left. Every method raises StoreUnavailable."""

    def __init__(self, *, ledger: TeamLedger, rollups: Rollups, clock: Clock) -> None:
        self._ledger = ledger
        self._rollups = rollups
        self._clock = clock

    async def own(self, caller: Caller, since: str, until: str) -> OwnUsage:
        """Return the usage of the caller's team. Raises InvalidRequest as `days_of` does."""
        days = days_of(since, until, now_ms=self._clock.now_ms())
        team = caller.team.id
        lines = await self._rollups.rollups(team, days.since, days.until)
        by_key = group(lines, Grouping.KEY)
        return OwnUsage(
            days=days,
            budgets=await self._ledger.balances(caller),
            quotas=await self._ledger.quotas(caller.team),
            by_day=group(lines, Grouping.DAY),
            by_model=group(lines, Grouping.MODEL),
            by_key={name.removeprefix(f"{team}/"): spend for name, spend in by_key.items()},
            total=add_up(lines),
        )

    async def remaining_microusd(self, caller: Caller, user: str) -> int | None:
        """Return what the tightest of the caller's budgets leaves; None where there is none."""
        budget = tightest(await self._ledger.balances(caller, user))
        return None if budget is None else budget.remaining_microusd


async def spending(rollups: Rollups, teams: Iterable[TeamId], days: Days, by: Grouping) -> Spending:
    """Return what these teams spent in these days. Raises StoreUnavailable.

    By end user it is added up from the ledger's entries and takes longer.
    """
    lines: list[Line] = []
    gaps: list[date] = []
    for team in teams:
        if by is Grouping.USER:
            told = await rollups.user_rollups(team, days.since, days.until)
            lines += told.lines
            gaps += [] if told.complete_from is None else [told.complete_from]
        else:
            lines += await rollups.rollups(team, days.since, days.until)
    return Spending(by, group(lines, by), add_up(lines), complete_from=max(gaps, default=None))


def days_of(since: str, until: str, *, now_ms: int) -> Days:
    """Return the UTC days that two texts such as ``2026-11-23`` name, both included.

    An empty `until` is today, an empty `since` the first day of the month of `until`. Raises
    InvalidRequest for other texts, for a range that ends before it begins, and above 400 days.
    """
    today = datetime.fromtimestamp(now_ms // 1000, UTC).date()
    last = parse_day(until, "until") if until else today
    first = parse_day(since, "since") if since else last.replace(day=1)
    if first > last:
        raise InvalidRequest(
            f"'since' ({first}) is after 'until' ({last}).", param="since", code="invalid_value"
        )
    if (last - first).days >= MAX_DAYS:
        raise InvalidRequest(
            f"'since' and 'until' are more than {MAX_DAYS} days apart.",
            param="since",
            code="invalid_value",
        )
    return Days(first, last)


def parse_day(text: str, param: str) -> date:
    """Return the day in a text such as ``2026-11-23``; InvalidRequest for anything else."""
    try:
        # `date.fromisoformat` would take weeks and compact forms as well.
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise InvalidRequest(
            f"Invalid value for '{param}': expected a day such as 2026-11-23.",
            param=param,
            code="invalid_value",
        ) from None
