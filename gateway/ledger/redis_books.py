"""Ledgers, counters and rollups in Redis or Valkey: read in pages, corrected and trimmed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import orjson

from gateway.domain.ids import TeamId
from gateway.domain.limits import Scope
from gateway.ledger.checkpoint import Checkpoint, fields_of, parse_checkpoint
from gateway.ledger.entries import (
    Entry,
    RawEntry,
    UnreadableEntryError,
    Verb,
    moment_of,
    parse_entry,
    place_of,
)
from gateway.ledger.outbox import settlement
from gateway.ledger.rollups import (
    ADJUSTED,
    COST,
    Line,
    SumKey,
    UserLines,
    days_between,
    parse_sums,
    sums_of,
)
from gateway.store.client import Store
from gateway.store.keyspace import (
    adjustments_key,
    checkpoint_key,
    ledger_key,
    outbox_key,
    rollup_key,
    spent_month_key,
    spent_total_key,
    staged_checkpoint_key,
)
from gateway.store.scripts import load_script

#: Entries, fields and keys read at once: about half a megabyte, a few milliseconds of the server.
PAGE = 1000
#: A checkpoint that was never put in place goes away by itself.
STAGED_MS = 3_600_000
#: Tasks are dated by the gateway's clock, entries by the store's; they differ by less than this.
DATING_SLACK_MS = 60_000
#: As in ledger/lua/budgets.lua: sums for new budgets are kept by quarters of an hour.
BUCKET_MS = 900_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Hashes and the last entry that is in them, read in one step.

    `checkpoint` is the last entry of the checkpoint there is, empty without one; a hash that does
    not exist is empty.
    """

    now_ms: int
    last: str
    checkpoint: str
    hashes: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Correction:
    """What to add to a task's possible charge, and why; micro-dollars, negative gives back.

    `id` makes it the same correction however often it is sent.
    """

    id: str
    delta_microusd: int
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Corrected:
    """A correction that is booked, and what the task's charge is after all of them."""

    entry_id: str
    total_microusd: int


class BelowZeroError(Exception):
    """The correction would give back more than was charged; nothing was booked.

    `total_microusd` is what the charge is now.
    """

    def __init__(self, total_microusd: int) -> None:
        super().__init__("the correction would give back more than was charged")
        self.total_microusd = total_microusd


class CheckpointMovedError(Exception):
    """Somebody else trimmed the ledger meanwhile; what was read before no longer fits."""


class RedisBooks:
    """Reads the books of teams. Every method raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshot = load_script("ledger/lua/snapshot.lua")
        self._counters = load_script("ledger/lua/counters.lua")
        self._adjust = load_script("ledger/lua/adjust.lua")
        self._checkpoint = load_script("ledger/lua/checkpoint.lua")

    async def has(self, team: TeamId) -> bool:
        """Tell whether there is a ledger of this team, also one that was trimmed to nothing."""
        return bool(await self._store.command("EXISTS", ledger_key(team), checkpoint_key(team)))

    async def entries(
        self, team: TeamId, *, after: str = "", upto: str = "+"
    ) -> AsyncIterator[RawEntry]:
        """Yield the team's entries in order: those after `after`, up to and with `upto`."""
        while True:
            start = f"({after}" if after else "-"
            page = await self._range("XRANGE", team, start, upto)
            for entry in page:
                yield entry
            if len(page) < PAGE:
                return
            after = page[-1].id

    async def end_of(self, team: TeamId, task: str, *, render: str = "0") -> RawEntry | None:
        """Return how a render's hold ended; the hold while it is open; None when neither is there.

        Looks from the newest entry back: it takes as long as the task is past.
        """
        start = "+"
        while page := await self._range("XREVRANGE", team, start, "-"):
            for raw in page:
                named = raw.fields.get("task"), raw.fields.get("render", "0")
                if named == (task, render) and raw.fields.get("verb") != Verb.ADJUST:
                    return raw
            start = f"({page[-1].id}"
        return None

    async def snapshot(self, team: TeamId, keys: Sequence[str]) -> Snapshot:
        """Read hashes of the team together with the id of its last entry."""
        reply: Any = await self._store.run(
            self._snapshot, [ledger_key(team), checkpoint_key(team), *keys], []
        )
        now_ms, last, checkpoint, hashes = reply
        return Snapshot(
            now_ms=now_ms,
            last=last.decode(),
            checkpoint=checkpoint.decode(),
            hashes={key: _pairs(flat) for key, flat in zip(keys, hashes, strict=True)},
        )

    async def counter_keys(self, team: TeamId) -> set[str]:
        """Return the key of every budget window and rollup of the team that there is."""
        found: set[str] = set()
        prefix, cursor = ledger_key(team).removesuffix("ledger"), "0"
        while True:
            reply: Any = await self._store.run(
                self._counters, [ledger_key(team)], [cursor, prefix, PAGE]
            )
            cursor = reply[0].decode()
            found.update(key.decode() for key in reply[1])
            if cursor == "0":
                return found

    async def checkpoint(self, team: TeamId) -> Checkpoint:
        """Return the team's checkpoint. Raises UnreadableCheckpointError, CheckpointMovedError."""
        fields: dict[str, str] = {}
        cursor = 0
        while True:
            reply: Any = await self._store.command(
                "HSCAN", checkpoint_key(team), cursor, "COUNT", PAGE
            )
            cursor, page = int(reply[0]), reply[1]
            fields |= {name.decode(): value.decode() for name, value in page.items()}
            if cursor == 0:
                break
        checkpoint = parse_checkpoint(fields)
        # A walk over a hash that is replaced on the way would be a mixture of both.
        if (await self.snapshot(team, [])).checkpoint != checkpoint.last:
            raise CheckpointMovedError
        return checkpoint

    async def rollups(self, team: TeamId, since: date, until: date) -> list[Line]:
        """Return the team's sums of these UTC days, both included."""
        lines: list[Line] = []
        for day in days_between(since, until):
            reply: Any = await self._store.command("HGETALL", rollup_key(team, f"{day:%Y%m%d}"))
            sums = parse_sums({name.decode(): value.decode() for name, value in reply.items()})
            lines += [Line(team, day, key, value) for key, value in sums.items()]
        return lines

    async def user_rollups(self, team: TeamId, since: date, until: date) -> UserLines:
        """Return the sums of these UTC days by end user, added up from the entries."""
        sums: dict[tuple[str, str, SumKey], int] = {}
        days = {f"{day:%Y%m%d}": day for day in days_between(since, until)}
        # An end is written after its task was admitted, which is the day that counts.
        async for raw in self.entries(team, after=_before(since)):
            with suppress(UnreadableEntryError):
                entry = parse_entry(raw)
                for sum_key, value in (sums_of(entry) if entry.day in days else {}).items():
                    place = (entry.day, entry.user, sum_key)
                    sums[place] = sums.get(place, 0) + value
        trimmed = (await self.snapshot(team, [])).checkpoint
        trimmed_on = datetime.fromtimestamp(moment_of(trimmed or "0") // 1000, UTC).date()
        return UserLines(
            [
                Line(team, days[day], sum_key, value, user)
                for (day, user, sum_key), value in sums.items()
            ],
            complete_from=trimmed_on + timedelta(days=1) if trimmed_on >= since else None,
        )

    async def adjust(self, team: TeamId, charge: Entry, correction: Correction) -> Corrected:
        """Book a correction of a possible charge, once however often it is sent.

        Raises BelowZeroError; after StoreUnavailable it may have been booked, and may be repeated.
        """
        delta = correction.delta_microusd
        sums = [
            SumKey(charge.key, charge.model, charge.provider, name) for name in (COST, ADJUSTED)
        ]
        order = {
            "op": f"adjust:{correction.id}",
            "task": charge.task,
            "corrects": charge.task if charge.render == "0" else charge.hold,
            "booked": charge.change.spent_microusd,
            "delta": delta,
            "bucket_ms": charge.created_ms - charge.created_ms % BUCKET_MS,
            "owners": _owners(charge),
            "rollups": [word for key in sums for word in (key.field(), delta)],
            "entry": _adjust_fields(charge, correction),
            "told": settlement(hold_microusd=0, cost_microusd=delta, created_ms=charge.created_ms),
        }
        keys = [
            ledger_key(team),
            adjustments_key(team),
            rollup_key(team, charge.day),
            spent_month_key(team, charge.day[:6]),
            spent_total_key(team),
            outbox_key(team),
            *charge.windows,
        ]
        reply: Any = await self._store.run(self._adjust, keys, [orjson.dumps(order)])
        if reply[0] == b"refused":
            raise BelowZeroError(charge.change.spent_microusd + reply[1])
        return Corrected(reply[1].decode(), charge.change.spent_microusd + reply[2])

    async def replace_by(
        self, team: TeamId, checkpoint: Checkpoint, *, made_from: str, name: str
    ) -> int:
        """Put a checkpoint in place of the entries up to its last; return how many went.

        `made_from` is the last entry of the checkpoint it was made from, `name` any word that
        nobody else uses. Raises CheckpointMovedError when another one came first.
        """
        staged = staged_checkpoint_key(team, name)
        fields = fields_of(checkpoint)
        while words := [word for pair in islice(fields, PAGE) for word in pair]:
            await self._store.command("HSET", staged, *words)
        await self._store.command("PEXPIRE", staged, STAGED_MS)
        reply: Any = await self._store.run(
            self._checkpoint,
            [checkpoint_key(team), staged, ledger_key(team)],
            [made_from, checkpoint.last, _following(checkpoint.last)],
        )
        if reply[0] != b"done":
            raise CheckpointMovedError
        return int(reply[1])

    async def _range(self, command: str, team: TeamId, start: str, end: str) -> list[RawEntry]:
        reply: Any = await self._store.command(command, ledger_key(team), start, end, "COUNT", PAGE)
        return [
            RawEntry(
                entry_id.decode(),
                # Texts that clients had a say in must not stop an export.
                {name.decode(): text.decode(errors="replace") for name, text in fields.items()},
            )
            for entry_id, fields in reply
        ]


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def _owners(charge: Entry) -> list[str]:
    """Return in whose sums a charge is, as `tasks/records.py` writes them."""
    owners = [f"{Scope.TEAM}|", f"{Scope.KEY}|{charge.key}"]
    return [*owners, f"{Scope.USER}|{charge.user}"] if charge.user else owners


def _adjust_fields(charge: Entry, correction: Correction) -> list[str]:
    fields = {
        "render": charge.render,
        "key": charge.key,
        "user": charge.user,
        "model": charge.model,
        "provider": charge.provider,
        "created_ms": str(charge.created_ms),
        "reason": correction.reason,
        "by": correction.by,
    }
    return [word for pair in fields.items() for word in pair]


def _before(day: date) -> str:
    """Return a stream id that is before every entry of a day."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return f"{round(midnight.timestamp()) * 1000 - DATING_SLACK_MS}-0"


def _following(entry_id: str) -> str:
    """Return the lowest stream id above this one."""
    moment, number = place_of(entry_id)
    return f"{moment}-{number + 1}"
