"""Entries of a team's ledger: what is written, what it does to the counters, how it is exported.

Pure. An entry is a list of text fields in the team's stream; the stream's id is its time and place.
Readers keep fields they do not know and refuse verbs they do not know (design rule 23): what an
unknown verb does to a counter cannot be guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from gateway.domain.ids import TeamId
from gateway.ledger.months import day_of


class Verb(StrEnum):
    """What an entry did."""

    #: A window was made in the middle of its time, or its budget came back: what was spent before.
    OPEN = "open"
    HOLD = "hold"
    #: A window was made while the task was under way: its hold is also taken from there.
    WIDEN = "widen"
    #: The upstream set more aside than was held; so the hold was raised.
    RAISE = "raise"
    SETTLE = "settle"
    RELEASE = "release"
    #: A part of a task gave back its share of the organization's hold, and its cost was booked.
    PART = "part"
    #: Nobody knows whether the upstream charged; the hold counts as spent.
    POSSIBLE_CHARGE = "possible_charge"
    #: Somebody corrected a possible charge.
    ADJUST = "adjust"
    TOP_UP = "top_up"


#: The verbs that take a hold back, each render of a task once.
ENDS = frozenset({Verb.SETTLE, Verb.RELEASE, Verb.POSSIBLE_CHARGE})


class UnreadableEntryError(Exception):
    """An entry does not say what its verb needs, or has a verb of a newer gateway."""

    def __init__(self, entry_id: str, reason: str) -> None:
        super().__init__(f"entry {entry_id}: {reason}")
        self.entry_id = entry_id
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as it stands in the stream."""

    id: str
    fields: Mapping[str, str]

    @property
    def at_ms(self) -> int:
        """When it was written, by the store's clock (Unix ms)."""
        return moment_of(self.id)


@dataclass(frozen=True, slots=True)
class Counters:
    """What a budget window counts, or by how much that changes; micro-dollars."""

    spent_microusd: int = 0
    held_microusd: int = 0
    topped_up_microusd: int = 0

    def plus(self, change: Counters) -> Counters:
        """Return the counters after a change."""
        return Counters(
            self.spent_microusd + change.spent_microusd,
            self.held_microusd + change.held_microusd,
            self.topped_up_microusd + change.topped_up_microusd,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that says all that its verb needs.

    `change` is what it did to each of `windows`. A hold and its end are those of one `render` of a
    task. `created_ms` is when its task was admitted: the
    day its money is summed under (an entry without one is summed under its own). `images` are
    the pictures that an end brought.
    """

    id: str
    verb: Verb
    op: str
    windows: tuple[str, ...]
    change: Counters
    created_ms: int
    task: str = ""
    render: str = ""
    key: str = ""
    user: str = ""
    model: str = ""
    provider: str = ""
    images: int = 0
    categories: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def hold(self) -> str:
        """The name of the hold it is about."""
        return f"{self.task}:{self.render}"

    @property
    def at_ms(self) -> int:
        """When it was written, by the store's clock (Unix ms)."""
        return moment_of(self.id)

    @property
    def day(self) -> str:
        """The UTC day its money is summed under, YYYYMMDD."""
        return day_of(self.created_ms)


def moment_of(entry_id: str) -> int:
    """Return the Unix milliseconds in a stream id such as ``1795435200000-3``."""
    return int(entry_id.partition("-")[0])


def place_of(entry_id: str) -> tuple[int, int]:
    """Return a stream id as something that orders; empty text comes before every entry."""
    moment, _, number = entry_id.partition("-")
    return int(moment or 0), int(number or 0)


def parse_entry(raw: RawEntry) -> Entry:
    """Return the entry in typed form; UnreadableEntryError when it does not make sense."""
    fields = _Fields(raw)
    verb = fields.verb()
    return Entry(
        id=raw.id,
        verb=verb,
        op=raw.fields.get("op", ""),
        windows=(fields.text("window"),) if verb is Verb.OPEN else fields.texts("windows"),
        change=_change(verb, fields),
        created_ms=fields.integer("created_ms") if "created_ms" in raw.fields else raw.at_ms,
        task="" if verb in (Verb.OPEN, Verb.TOP_UP) else fields.text("task"),
        render=raw.fields.get("render", "0"),
        key=raw.fields.get("key", ""),
        user=raw.fields.get("user", ""),
        model=raw.fields.get("model", ""),
        provider=raw.fields.get("provider", ""),
        images=fields.integer("images") if "images" in raw.fields else 0,
        categories=fields.amounts("categories"),
        tokens=fields.amounts("tokens"),
    )


def _change(verb: Verb, fields: _Fields) -> Counters:
    """Return what a verb does to each window it names: the one table of the ledger's meaning."""
    match verb:
        case Verb.OPEN:
            return Counters(spent_microusd=fields.integer("spent"))
        case Verb.HOLD | Verb.RAISE | Verb.WIDEN:
            return Counters(held_microusd=fields.integer("amount"))
        case Verb.RELEASE:
            return Counters(held_microusd=-fields.integer("hold"))
        case Verb.SETTLE | Verb.POSSIBLE_CHARGE | Verb.PART:
            return Counters(fields.integer("cost"), -fields.integer("hold"))
        case Verb.ADJUST:
            return Counters(spent_microusd=fields.integer("delta"))
        case Verb.TOP_UP:
            return Counters(topped_up_microusd=fields.integer("delta"))


class _Fields:
    """Reads the fields of one entry and says which one is wrong."""

    def __init__(self, raw: RawEntry) -> None:
        self._raw = raw

    def verb(self) -> Verb:
        written = self.text("verb")
        try:
            return Verb(written)
        except ValueError:
            raise self._unreadable(f"the verb '{written}' is not known here") from None

    def text(self, name: str) -> str:
        written = self._raw.fields.get(name)
        if not written:
            raise self._unreadable(f"it has no {name}")
        return written

    def integer(self, name: str) -> int:
        try:
            return int(self.text(name))
        except ValueError:
            raise self._unreadable(f"its {name} is no integer") from None

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._json(name, self.text(name))
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self._unreadable(f"its {name} are no list of texts")
        return tuple(values)

    def amounts(self, name: str) -> dict[str, int]:
        """Return a table of integers; one that is not there is empty."""
        values = self._json(name, self._raw.fields.get(name) or "{}")
        if not isinstance(values, dict) or not all(type(value) is int for value in values.values()):
            raise self._unreadable(f"its {name} are no table of integers")
        return values

    def _json(self, name: str, written: str) -> Any:
        try:
            return orjson.loads(written)
        except orjson.JSONDecodeError:
            raise self._unreadable(f"its {name} are no JSON") from None

    def _unreadable(self, reason: str) -> UnreadableEntryError:
        return UnreadableEntryError(self._raw.id, reason)


#: The columns of an export in order; all amounts are integers of micro-dollars and say so.
_COLUMNS = {
    "verb": "verb",
    "op": "op",
    "task": "task",
    "render": "render",
    "part": "part",
    "key": "key",
    "user": "user",
    "model": "model",
    "provider": "provider",
    "size": "size",
    "quality": "quality",
    "amount": "amount_microusd",
    "hold": "hold_microusd",
    "cost": "cost_microusd",
    "spent": "spent_microusd",
    "delta": "delta_microusd",
    "images": "images",
    "basis": "basis",
    "categories": "categories_microusd",
    "tokens": "tokens",
    "upstream": "upstream",
    "window": "window",
    "windows": "windows",
    "created_ms": "created_ms",
    "reason": "reason",
    "by": "by",
}
_INTEGERS = frozenset({"amount", "hold", "cost", "spent", "delta", "images", "created_ms"})
_TABLES = frozenset({"categories", "tokens", "windows"})

#: Names of the columns of a CSV export; `more` holds what this version does not know, as JSON.
CSV_COLUMNS = ("id", "time", "team", *_COLUMNS.values(), "more")


def record_of(team: TeamId, raw: RawEntry) -> dict[str, object]:
    """Return an entry as one line of an export: typed where it can be, and nothing left out."""
    moment = datetime.fromtimestamp(raw.at_ms // 1000, UTC)
    record: dict[str, object] = {
        "id": raw.id,
        "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{raw.at_ms % 1000:03d}Z",
        "team": team,
    }
    for name, column in _COLUMNS.items():
        if name in raw.fields:
            record[column] = _typed(name, raw.fields[name])
    return record | {name: text for name, text in raw.fields.items() if name not in _COLUMNS}


def csv_row(record: Mapping[str, object]) -> list[str]:
    """Return an export's line as the cells of `CSV_COLUMNS`."""
    cells = [_cell(record.get(column, "")) for column in CSV_COLUMNS[:-1]]
    more = {name: value for name, value in record.items() if name not in CSV_COLUMNS}
    return [*cells, orjson.dumps(more).decode() if more else ""]


def _typed(name: str, text: str) -> object:
    """Return a field as it is meant; as it was written when it is something else."""
    try:
        if name in _INTEGERS:
            return int(text)
        return orjson.loads(text) if name in _TABLES else text
    except ValueError:
        return text


def _cell(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
