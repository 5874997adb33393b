"""What is left of entries that were trimmed: the state they had led to. Pure.

A checkpoint stands in for everything up to its last entry, so that the counters can still be
recomputed: the state of each window that may still exist, the holds that were open, and the sums
of the days that later entries can still add to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from gateway.ledger.entries import Counters
from gateway.ledger.rollups import Sums, parse_sums

#: Version of the stored hash (design rule 23): fields of other kinds are passed over, a checkpoint
#: of a later schema is refused.
SCHEMA = 1

_WINDOW, _HOLD, _SUM = "window|", "hold|", "sum|"


class UnreadableCheckpointError(Exception):
    """The checkpoint was written by a newer gateway."""


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that no entry has ended yet; `since_ms` is when it was written."""

    amount_microusd: int
    windows: tuple[str, ...]
    since_ms: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after the entry `last`; with an empty `last`, before the first one.

    `days` are sums by day (YYYYMMDD); days before `from_day` can no longer be recomputed.
    """

    last: str = ""
    from_day: str = ""
    windows: Mapping[str, Counters] = field(default_factory=dict)
    holds: Mapping[str, OpenHold] = field(default_factory=dict)
    days: Mapping[str, Sums] = field(default_factory=dict)


#: Before the first entry.
NOTHING = Checkpoint()


def fields_of(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """Yield the fields of the hash that keeps a checkpoint."""
    yield "schema", str(SCHEMA)
    yield "last", checkpoint.last
    yield "from_day", checkpoint.from_day
    for key, window in checkpoint.windows.items():
        counted = (window.spent_microusd, window.held_microusd, window.topped_up_microusd)
        yield _WINDOW + key, _json(counted)
    for task, hold in checkpoint.holds.items():
        yield _HOLD + task, _json((hold.amount_microusd, hold.windows, hold.since_ms))
    for day, sums in checkpoint.days.items():
        for sum_key, value in sums.items():
            yield f"{_SUM}{day}|{sum_key.field()}", str(value)


def parse_checkpoint(fields: Mapping[str, str]) -> Checkpoint:
    """Return the checkpoint in a hash, `NOTHING` when there is none.

    Raises UnreadableCheckpointError for one of a later schema.
    """
    if not fields:
        return NOTHING
    if int(fields["schema"]) > SCHEMA:
        raise UnreadableCheckpointError(
            f"the checkpoint has schema {fields['schema']}, this version reads up to {SCHEMA}"
        )
    days: dict[str, dict[str, str]] = {}
    for name, value in _with(_SUM, fields):
        day, _, key = name.partition("|")
        days.setdefault(day, {})[key] = value
    return Checkpoint(
        last=fields["last"],
        from_day=fields["from_day"],
        windows={key: Counters(*orjson.loads(text)) for key, text in _with(_WINDOW, fields)},
        holds={task: _hold(text) for task, text in _with(_HOLD, fields)},
        days={day: parse_sums(sums) for day, sums in days.items()},
    )


def _hold(text: str) -> OpenHold:
    amount_microusd, windows, since_ms = orjson.loads(text)
    return OpenHold(amount_microusd, tuple(windows), since_ms)


def _with(prefix: str, fields: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), value


def _json(values: object) -> str:
    return orjson.dumps(values).decode()
