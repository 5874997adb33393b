"""Sums by day, key, model and provider: what they mean and how they add up. Pure.

A rollup is a hash for each team and UTC day; a field is a JSON list [key, model, provider, measure]
and its value an integer. The scripts that move money add to it in the same step, so it is never
made again from the ledger when somebody asks; `verify` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

import orjson

from gateway.domain.ids import TeamId
from gateway.ledger.entries import ENDS, Entry, Verb

#: Measures in micro-dollars: all that was booked, and how much of it nobody is sure of or was
#: corrected by hand. Measures such as `cost:image_output` and `tokens:image_output` split further.
COST, POSSIBLE, ADJUSTED = "cost", "possible", "adjusted"
#: Pictures that were made.
IMAGES = "images"
_BY_CATEGORY, _BY_TOKENS = "cost:", "tokens:"


class SumKey(NamedTuple):
    """What a rollup's field sums up."""

    key: str
    model: str
    provider: str
    measure: str

    @property
    def known(self) -> bool:
        """Whether this version knows what the measure counts; a newer one may add others."""
        return self.measure in (COST, POSSIBLE, ADJUSTED, IMAGES) or self.measure.startswith(
            (_BY_CATEGORY, _BY_TOKENS)
        )

    def field(self) -> str:
        """Return the name of the hash's field."""
        return orjson.dumps(list(self)).decode()


#: One day's sums.
Sums = Mapping[SumKey, int]


class Line(NamedTuple):
    """One sum of one day of one team; `user` is an end user's hash where they are told apart."""

    team: TeamId
    day: date
    sum: SumKey
    value: int
    user: str = ""


@dataclass(frozen=True, slots=True)
class UserLines:
    """Sums by end user. Of days before `complete_from` entries were trimmed; None: of none."""

    lines: list[Line]
    complete_from: date | None = None


class Rollups(Protocol):
    """Reads what was summed up."""

    async def rollups(self, team: TeamId, since: date, until: date) -> list[Line]:
        """Return the team's sums of these UTC days, both included. Raises StoreUnavailable."""
        ...

    async def user_rollups(self, team: TeamId, since: date, until: date) -> UserLines:
        """Return the same told apart by end user, added up from the ledger's entries.

        It takes as long as there are entries since then. Raises StoreUnavailable.
        """
        ...


class Grouping(StrEnum):
    """What spending can be told apart by."""

    TEAM = "team"
    KEY = "key"
    MODEL = "model"
    PROVIDER = "provider"
    DAY = "day"
    USER = "user"


#: What calls without an end user, or of teams that do not count them, go by.
NO_USER = "(none)"


@dataclass(frozen=True, slots=True)
class Spend:
    """Sums of some group; amounts in micro-dollars.

    `cost_microusd` is everything: the categories and the adjustments add up to it, and possible
    charges are a part of it.
    """

    images: int = 0
    cost_microusd: int = 0
    possible_microusd: int = 0
    adjusted_microusd: int = 0
    categories_microusd: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)


def parse_sums(fields: Mapping[str, str]) -> dict[SumKey, int]:
    """Return a day's hash by what its fields mean; ValueError when a field has another form."""
    sums: dict[SumKey, int] = {}
    for name, value in fields.items():
        parts = orjson.loads(name)
        if not isinstance(parts, list) or len(parts) != len(SumKey._fields):
            raise ValueError(f"the rollup field {name} is not [key, model, provider, measure]")
        sums[SumKey(*map(str, parts))] = int(value)
    return sums


def sums_of(entry: Entry) -> dict[SumKey, int]:
    """Return what an entry adds to the rollup of its day."""
    return {
        SumKey(entry.key, entry.model, entry.provider, measure): value
        for measure, value in _measures(entry).items()
        if value
    }


def _measures(entry: Entry) -> dict[str, int]:
    spent = entry.change.spent_microusd
    if entry.verb is Verb.ADJUST:
        return {COST: spent, ADJUSTED: spent}
    if entry.verb not in ENDS:
        return {}
    return {
        COST: spent,
        POSSIBLE: spent if entry.verb is Verb.POSSIBLE_CHARGE else 0,
        IMAGES: entry.images,
        **{_BY_CATEGORY + name: amount for name, amount in entry.categories.items()},
        **{_BY_TOKENS + name: count for name, count in entry.tokens.items()},
    }


def days_between(since: date, until: date) -> list[date]:
    """Return every day from `since` to `until`, both included."""
    return [since + timedelta(days=offset) for offset in range((until - since).days + 1)]


def add_up(lines: Iterable[Line]) -> Spend:
    """Return everything in one sum."""
    totals: dict[str, int] = {}
    for line in lines:
        totals[line.sum.measure] = totals.get(line.sum.measure, 0) + line.value
    return Spend(
        images=totals.get(IMAGES, 0),
        cost_microusd=totals.get(COST, 0),
        possible_microusd=totals.get(POSSIBLE, 0),
        adjusted_microusd=totals.get(ADJUSTED, 0),
        categories_microusd=_after(_BY_CATEGORY, totals),
        tokens=_after(_BY_TOKENS, totals),
    )


def group(lines: Iterable[Line], by: Grouping) -> dict[str, Spend]:
    """Return the sums of each group, by name; keys and users carry their team."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(_name(line, by), []).append(line)
    return {name: add_up(groups[name]) for name in sorted(groups)}


def _name(line: Line, by: Grouping) -> str:
    match by:
        case Grouping.TEAM:
            return line.team
        case Grouping.KEY:
            return f"{line.team}/{line.sum.key}"
        case Grouping.MODEL:
            return line.sum.model
        case Grouping.PROVIDER:
            return line.sum.provider
        case Grouping.DAY:
            return line.day.isoformat()
        case Grouping.USER:
            return f"{line.team}/{line.user or NO_USER}"


def _after(prefix: str, totals: Mapping[str, int]) -> dict[str, int]:
    return {
        measure.removeprefix(prefix): value
        for measure, value in sorted(totals.items())
        if measure.startswith(prefix)
    }
