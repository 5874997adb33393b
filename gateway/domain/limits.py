"""Budgets, and the calendar windows they are counted in.

Which window a moment falls into is decided by the store's own clock inside the script that
takes the money; here the two windows that the moment can be in are computed and passed along.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum


class Period(StrEnum):
    """How long a budget lasts before it starts again."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


class Scope(StrEnum):
    """Whose budget it is."""

    ORGANIZATION = "organization"
    TEAM = "team"
    KEY = "key"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Quotas:
    """How much may be asked for, whatever it costs; None is no limit.

    `requests_per_minute` counts calls, the others count images. A call above a limit waits for up
    to `queue_ms` for its turn.
    """

    requests_per_minute: int | None = None
    images_per_minute: int | None = None
    images_per_day: int | None = None
    in_flight_images: int | None = None
    queue_ms: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit in micro-dollars per calendar window of `timezone`; `name` is unique in its scope.

    `alert_percents` are the parts of it, in percent and in order, whose spending is announced.
    """

    name: str
    limit_microusd: int
    per: Period
    timezone: tzinfo = UTC
    alert_percents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open [start, end) in Unix milliseconds; `end_ms` is None for a total."""

    start_ms: int
    end_ms: int | None


def windows_around(budget: Budget, now_ms: int) -> tuple[Window, ...]:
    """Return the window that contains `now_ms` and the one after it (a total has only one).

    Two, because the store's clock decides and it may be a moment ahead of ours.
    """
    if budget.per is Period.TOTAL:
        return (Window(start_ms=0, end_ms=None),)
    current = _window_at(budget, now_ms)
    if current.end_ms is None:
        raise AssertionError("only a total has no end")
    return (current, _window_at(budget, current.end_ms))


def _window_at(budget: Budget, moment_ms: int) -> Window:
    if budget.per in (Period.MINUTE, Period.HOUR):
        # Fixed lengths: an hour stays an hour when clocks are put back.
        length_ms = 60_000 if budget.per is Period.MINUTE else 3_600_000
        # Some zones are half an hour or a quarter off the full one.
        offset_ms = _offset_ms(moment_ms, budget.timezone)
        start_ms = moment_ms - (moment_ms + offset_ms) % length_ms
        return Window(start_ms, start_ms + length_ms)
    local = datetime.fromtimestamp(moment_ms // 1000, budget.timezone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if budget.per is Period.WEEK:
        midnight -= timedelta(days=midnight.weekday())
        following = midnight + timedelta(days=7)
    elif budget.per is Period.MONTH:
        midnight = midnight.replace(day=1)
        following = (midnight + timedelta(days=32)).replace(day=1)
    else:
        following = midnight + timedelta(days=1)
    return Window(_to_ms(midnight, budget.timezone), _to_ms(following, budget.timezone))


def _offset_ms(moment_ms: int, timezone: tzinfo) -> int:
    offset = datetime.fromtimestamp(moment_ms // 1000, timezone).utcoffset() or timedelta()
    return round(offset.total_seconds()) * 1000


def _to_ms(local_midnight: datetime, timezone: tzinfo) -> int:
    """Return the instant of a wall-clock midnight; days are 23 or 25 hours when clocks change."""
    return round(local_midnight.replace(tzinfo=timezone).timestamp()) * 1000
