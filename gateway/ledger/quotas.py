"""What a script needs to know to count quotas, and what its answers mean. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.accounts import Team
from gateway.domain.limits import Budget, Period, Window, windows_around
from gateway.store.keyspace import day_quota_key, rate_key

#: OpenAI's names of what is limited, as its headers and errors write them.
REQUESTS, IMAGES = "requests", "input-images"

MINUTE_MS = 60_000

#: Per-minute quotas as the settings call them.
_NAMES = {REQUESTS: "requests_per_minute", IMAGES: "images_per_minute"}

#: Of a unit; the moment that is kept has three decimals of a millisecond.
_ROUNDING = 0.01


@dataclass(frozen=True, slots=True)
class Rate:
    """A per-minute quota: how much of it one call takes."""

    resource: str
    key: str
    limit: int
    units: int


@dataclass(frozen=True, slots=True)
class RateState:
    """What is left of a per-minute quota, and the ms until it is whole again."""

    resource: str
    limit: int
    remaining: int
    reset_ms: int


@dataclass(frozen=True, slots=True)
class QuotaState:
    """How a quota stands now, by its name in the settings.

    `resets_at_ms` is when all of it is there again (Unix ms); None where nothing is used of it, and
    for what comes back as pictures end.
    """

    name: str
    limit: int
    used: int
    resets_at_ms: int | None = None

    @property
    def remaining(self) -> int:
        """What may be asked for now."""
        return max(self.limit - self.used, 0)


@dataclass(frozen=True, slots=True)
class DayQuota:
    """The quota of images per day, with the days the store's clock may be in."""

    limit: int
    windows: tuple[tuple[str, Window], ...]

    def order(self) -> dict[str, object]:
        """Return the quota as `admit.lua` reads it."""
        return {
            "limit": self.limit,
            "windows": [
                {"key": key, "start_ms": window.start_ms, "end_ms": window.end_ms}
                for key, window in self.windows
            ],
        }


def rates_of(team: Team, images: int) -> tuple[Rate, ...]:
    """Return the team's per-minute quotas with what a call for so many images takes of each."""
    asked = (
        (REQUESTS, team.quotas.requests_per_minute, 1),
        (IMAGES, team.quotas.images_per_minute, images),
    )
    return tuple(
        Rate(resource, rate_key(team.id, resource), limit, units)
        for resource, limit, units in asked
        if limit is not None
    )


def day_quota_of(team: Team, now_ms: int) -> DayQuota | None:
    """Return the team's quota of images per day, None without one."""
    limit = team.quotas.images_per_day
    if limit is None:
        return None
    day = Budget(name="day", limit_microusd=0, per=Period.DAY, timezone=team.timezone)
    return DayQuota(
        limit=limit,
        windows=tuple(
            (day_quota_key(team.id, window.start_ms), window)
            for window in windows_around(day, now_ms)
        ),
    )


def states_of(rates: Sequence[Rate], flat: Sequence[int]) -> tuple[RateState, ...]:
    """Pair rates with the flat (remaining, reset_ms, …) of a script's answer."""
    return tuple(
        RateState(rate.resource, rate.limit, remaining, reset_ms)
        for rate, remaining, reset_ms in zip(rates, flat[::2], flat[1::2], strict=False)
    )


def rate_quota(rate: Rate, *, whole_at_ms: float, now_ms: int) -> QuotaState:
    """Return a per-minute quota by the moment at which it is whole again, as ledger/lua counts."""
    left_ms = max(whole_at_ms - now_ms, 0.0)
    # A part of a unit that is not back yet is used.
    used = math.ceil(left_ms * rate.limit / MINUTE_MS - _ROUNDING)
    resets_at_ms = now_ms + math.ceil(left_ms) if used else None
    return QuotaState(_NAMES[rate.resource], rate.limit, used, resets_at_ms)


def refused_state(*, resource: str, limit: int, units: int, wait_ms: int) -> RateState:
    """Return a per-minute quota as it stands when `units` fit into it only `wait_ms` from now.

    The inverse of `check_rate` in ledger/lua/quotas.lua: one unit comes back every minute / limit.
    """
    # Integers: a unit's time is 60,000 / limit ms, so all is counted in parts of 1 / limit ms.
    missing = -(-wait_ms * limit // MINUTE_MS)
    reset_ms = MINUTE_MS + wait_ms - units * MINUTE_MS // limit
    return RateState(resource, limit, max(units - missing, 0), max(reset_ms, 0))
