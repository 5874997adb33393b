"""The books of one team, verified and trimmed while they are being written.

How it is right on a live system: money, its entry and its counters move in one script, so at any
instant the counters are exactly what the entries up to the last one lead to. First all entries are
replayed. Then counters are read some hundred at a time, each time by a script that also tells the
id of the last entry at that very instant; the replay is led on to exactly that entry before those
counters are compared. So each batch is compared with the books as they were when it was read, the
store is never held up for long, and nothing has to stand still. Windows that came up on the way
join the batches. Only trimming takes entries away, and every trim moves the checkpoint: when it
has moved, it starts anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.domain.ids import TeamId
from gateway.ledger.checkpoint import Checkpoint
from gateway.ledger.entries import Counters
from gateway.ledger.redis_books import CheckpointMovedError, RedisBooks, Snapshot
from gateway.ledger.rollups import parse_sums
from gateway.ledger.verify import Finding, Replay, may_be_gone
from gateway.store.keyspace import rollup_key

#: Counters that are read in one step: a window has a few fields, a day as many as it has keys.
WINDOWS_AT_ONCE, DAYS_AT_ONCE = 500, 4
#: How often a walk over the books starts anew because somebody trimmed them.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Audit:
    """What a look at a team's books found, and how much was looked at."""

    team: TeamId
    entries: int
    windows: int
    days: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a trim did: entries that went, and what was wrong with them by themselves."""

    entries: int
    findings: tuple[Finding, ...]


class IncompleteLedgerError(Exception):
    """An entry cannot be understood, so that no checkpoint can stand in for it."""


async def verify(books: RedisBooks, team: TeamId) -> Audit:
    """Recompute every counter of a team and tell what does not agree.

    Raises StoreUnavailable, UnreadableCheckpointError, and CheckpointMovedError when the ledger was
    trimmed again and again meanwhile.
    """
    for _ in range(TRIES - 1):
        try:
            return await _verify(books, team)
        except CheckpointMovedError:
            continue
    return await _verify(books, team)


async def trim(books: RedisBooks, team: TeamId, *, upto: str, name: str) -> Trimmed:
    """Put a checkpoint in place of all entries up to and with `upto`, whether there is one or not.

    `name` is any word that nobody else uses. Raises StoreUnavailable, UnreadableCheckpointError,
    IncompleteLedgerError, and CheckpointMovedError when somebody else trims as well.
    """
    start = await books.checkpoint(team)
    replay = Replay(start)
    await _lead_on(books, team, replay, upto)
    if not replay.complete:
        raise IncompleteLedgerError(str(replay.findings[-1]))
    if replay.last == start.last:
        return Trimmed(0, ())
    checkpoint = await _live_part(books, team, replay)
    removed = await books.replace_by(team, checkpoint, made_from=start.last, name=name)
    return Trimmed(removed, tuple(replay.findings))


async def _verify(books: RedisBooks, team: TeamId) -> Audit:
    start = await books.checkpoint(team)
    replay = Replay(start)
    await _lead_on(books, team, replay, "+")
    findings: list[Finding] = []
    waiting = await books.counter_keys(team) | _expected(team, replay)
    seen: set[str] = set()
    while True:
        batch = _batch(team, waiting - seen)
        # The last one is empty: it tells that no trim took away what was read before it.
        snapshot = await books.snapshot(team, batch)
        if snapshot.checkpoint != start.last:
            raise CheckpointMovedError
        if not batch:
            break
        await _lead_on(books, team, replay, snapshot.last)
        findings += _compare(team, replay, snapshot)
        seen.update(batch)
        waiting |= _expected(team, replay)
    days = sum(1 for key in seen if _day_of(team, key))
    return Audit(
        team=team,
        entries=replay.entries,
        windows=len(seen) - days,
        days=days,
        # What an entry did that cannot be read is unknown: counters need not agree without it.
        findings=(*replay.findings, *(findings if replay.complete else ())),
    )


async def _lead_on(books: RedisBooks, team: TeamId, replay: Replay, upto: str) -> None:
    """Let the replay take in all entries up to and with `upto` (empty: there are none)."""
    if upto:
        async for raw in books.entries(team, after=replay.last, upto=upto):
            replay.apply(raw)


def _batch(team: TeamId, waiting: set[str]) -> list[str]:
    """Return what is read next: windows while there are any, then days, which are far larger."""
    windows = [key for key in waiting if not _day_of(team, key)]
    return sorted(windows)[:WINDOWS_AT_ONCE] or sorted(waiting)[:DAYS_AT_ONCE]


def _compare(team: TeamId, replay: Replay, snapshot: Snapshot) -> Iterator[Finding]:
    for key, fields in snapshot.hashes.items():
        if day := _day_of(team, key):
            yield from replay.rollup_findings(day, parse_sums(fields), now_ms=snapshot.now_ms)
        else:
            yield from replay.window_findings(key, _counters(fields), now_ms=snapshot.now_ms)


async def _live_part(books: RedisBooks, team: TeamId, replay: Replay) -> Checkpoint:
    """Return the replay's state, without windows that have expired meanwhile."""
    now_ms = (await books.snapshot(team, [])).now_ms
    old = [key for key in replay.windows if may_be_gone(key, now_ms)]
    gone: set[str] = set()
    for first in range(0, len(old), WINDOWS_AT_ONCE):
        hashes = (await books.snapshot(team, old[first : first + WINDOWS_AT_ONCE])).hashes
        gone.update(key for key, fields in hashes.items() if not fields)
    return replay.checkpoint(without=frozenset(gone))


def _expected(team: TeamId, replay: Replay) -> set[str]:
    """Return the keys of all counters that the replay knows of."""
    return {*replay.windows, *(rollup_key(team, day) for day in replay.days)}


def _day_of(team: TeamId, key: str) -> str:
    """Return the day of a rollup's key, empty for a window's."""
    prefix = rollup_key(team, "")
    return key.removeprefix(prefix) if key.startswith(prefix) else ""


def _counters(fields: Mapping[str, str]) -> Counters | None:
    if not fields:
        return None
    return Counters(
        spent_microusd=int(fields.get("spent", "0")),
        held_microusd=int(fields.get("held", "0")),
        topped_up_microusd=int(fields.get("topped_up", "0")),
    )
