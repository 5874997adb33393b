"""Do the books agree? Every counter again, from a checkpoint and the entries after it. Pure.

A `Replay` is fed all entries in order and says what each counter must be; `Finding` is one thing
that does not agree. Whoever feeds it has to compare counters with a replay that has seen exactly
the entries that were written when the counters were read (`audit.py` tells how).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.domain.money import format_usd
from gateway.ledger.checkpoint import Checkpoint, OpenHold
from gateway.ledger.entries import (
    ENDS,
    Counters,
    Entry,
    RawEntry,
    UnreadableEntryError,
    Verb,
    parse_entry,
)
from gateway.ledger.months import day_of
from gateway.ledger.rollups import SumKey, Sums, sums_of

#: A window's counters are kept for this long after its end (ledger/lua/budgets.lua), and so for
#: at least as long after its start. A total, whose window starts at 0, is kept for ever.
WINDOW_KEEP_MS = 62 * 86_400_000
#: The sums of a day are kept for this long after they were last added to (store/keyspace.py).
ROLLUP_KEEP_MS = 400 * 86_400_000

_NONE = Counters()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not agree: where it is, and what is wrong there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Replay:
    """The state that a checkpoint and the entries after it lead to.

    `findings` are what is wrong with the entries themselves. `complete` is false once an entry
    could not be understood: what it did is unknown then, and no counter can be recomputed.
    """

    def __init__(self, start: Checkpoint) -> None:
        self.last = start.last
        self.entries = 0
        self.complete = True
        self.findings: list[Finding] = []
        self._from_day = start.from_day
        self._windows = dict(start.windows)
        self._holds = dict(start.holds)
        self._days = {day: dict(sums) for day, sums in start.days.items()}
        self._corrections: set[str] = set()

    @property
    def windows(self) -> Mapping[str, Counters]:
        """What each window that was ever touched must count."""
        return self._windows

    @property
    def open_holds(self) -> Mapping[str, OpenHold]:
        """The holds that have no end yet, by task and render."""
        return self._holds

    @property
    def days(self) -> frozenset[str]:
        """The days (YYYYMMDD) that entries added to, as far as they can be recomputed."""
        return frozenset(self._days)

    def apply(self, raw: RawEntry) -> None:
        """Take in the next entry."""
        self.last = raw.id
        self.entries += 1
        try:
            entry = parse_entry(raw)
        except UnreadableEntryError as error:
            self.complete = False
            self._find(raw.id, error.reason)
            return
        self._check(entry)
        for key in entry.windows:
            self._windows[key] = self._windows.get(key, _NONE).plus(entry.change)
        if (added := sums_of(entry)) and entry.day >= self._from_day:
            sums = self._days.setdefault(entry.day, {})
            for sum_key, value in added.items():
                sums[sum_key] = sums.get(sum_key, 0) + value

    def window_findings(self, key: str, stored: Counters | None, *, now_ms: int) -> list[Finding]:
        """Return how a window's counters (None when it is gone) differ from what they must be."""
        expected = self._windows.get(key, _NONE)
        if stored is None and may_be_gone(key, now_ms):
            return []
        found = stored or _NONE
        pairs = {
            "spent": (found.spent_microusd, expected.spent_microusd),
            "held": (found.held_microusd, expected.held_microusd),
            "topped_up": (found.topped_up_microusd, expected.topped_up_microusd),
        }
        return [
            Finding(key, f"{name} is ${format_usd(was)}, by the ledger ${format_usd(must_be)}")
            for name, (was, must_be) in pairs.items()
            if was != must_be
        ]

    def rollup_findings(self, day: str, stored: Sums, *, now_ms: int) -> list[Finding]:
        """Return how the sums of a day differ from what they must be; measures not known pass."""
        if day < self._from_day or (not stored and day < day_of(now_ms - ROLLUP_KEEP_MS)):
            return []
        expected = self._days.get(day, {})
        return [
            Finding(
                f"rollup {day} {_words(key)}",
                f"is {stored.get(key, 0)}, by the ledger {expected.get(key, 0)}",
            )
            for key in sorted(expected.keys() | stored.keys())
            if key.known and stored.get(key, 0) != expected.get(key, 0)
        ]

    def checkpoint(self, *, without: frozenset[str] = frozenset()) -> Checkpoint:
        """Return the state as it is now, to start another replay from; `without` these windows.

        Sums are kept from the day of the oldest open hold on: its end will add to that day. One
        day more is kept, since holds are dated by the store's clock and sums by the gateway's.
        """
        moment_ms = RawEntry(self.last, {}).at_ms
        oldest_ms = min([moment_ms, *(hold.since_ms for hold in self._holds.values())])
        from_day = max(self._from_day, day_of(oldest_ms - 86_400_000))
        return Checkpoint(
            last=self.last,
            from_day=from_day,
            windows={
                key: counters
                for key, counters in self._windows.items()
                if counters != _NONE and key not in without
            },
            holds=dict(self._holds),
            days={day: dict(sums) for day, sums in self._days.items() if day >= from_day},
        )

    def _check(self, entry: Entry) -> None:
        """Note what is wrong with an entry by itself, and with its place among the others."""
        if entry.verb is Verb.HOLD:
            if entry.hold in self._holds:
                self._find(entry.id, f"{entry.hold} is held a second time")
            self._holds[entry.hold] = OpenHold(
                entry.change.held_microusd, entry.windows, entry.at_ms
            )
        elif entry.verb is Verb.WIDEN:
            self._check_widening(entry)
        elif entry.verb in (Verb.RAISE, Verb.PART):
            self._check_change(entry)
        elif entry.verb in ENDS:
            self._check_end(entry)
        elif entry.verb in (Verb.ADJUST, Verb.TOP_UP):
            if entry.op in self._corrections:
                self._find(entry.id, f"{entry.op} is booked a second time")
            self._corrections.add(entry.op)

    def _check_widening(self, entry: Entry) -> None:
        """Let an open hold be taken from more windows: all of it, and from none twice."""
        hold = self._holds.get(entry.hold)
        if hold is None:
            self._find(entry.id, f"{entry.hold} has no open hold to widen")
            return
        if hold.amount_microusd != entry.change.held_microusd:
            self._find(entry.id, f"{entry.hold} is widened by another amount than it holds")
        if not set(hold.windows).isdisjoint(entry.windows):
            self._find(entry.id, f"{entry.hold} is held in a window a second time")
        self._holds[entry.hold] = replace(hold, windows=(*hold.windows, *entry.windows))

    def _check_change(self, entry: Entry) -> None:
        """Lead a hold on that was raised, or of which a part was given back; at nothing it ends."""
        hold = self._holds.get(entry.hold)
        if hold is None:
            # A part's cost is booked, too, when nothing was held for it.
            if entry.change.held_microusd:
                self._find(entry.id, f"{entry.hold} has no open hold to change")
            return
        left = hold.amount_microusd + entry.change.held_microusd
        if left < 0 or hold.windows != entry.windows:
            self._find(entry.id, f"{entry.hold} changes another hold than it had")
        if left > 0 or entry.verb is Verb.RAISE:
            self._holds[entry.hold] = replace(hold, amount_microusd=left)
        else:
            del self._holds[entry.hold]

    def _check_end(self, entry: Entry) -> None:
        hold = self._holds.pop(entry.hold, None)
        if hold is None:
            self._find(entry.id, f"{entry.hold} ends without an open hold")
        elif (hold.amount_microusd, hold.windows) != (-entry.change.held_microusd, entry.windows):
            self._find(entry.id, f"{entry.hold} takes back another hold than it had")
        parts, cost = sum(entry.categories.values()), entry.change.spent_microusd
        if parts != cost:
            self._find(
                entry.id,
                f"the categories add up to ${format_usd(parts)}, the cost is ${format_usd(cost)}",
            )

    def _find(self, entry_id: str, what: str) -> None:
        self.findings.append(Finding(f"entry {entry_id}", what))


def may_be_gone(key: str, now_ms: int) -> bool:
    """Tell whether a window can have expired: it began longer ago than any is kept."""
    start = key.rpartition(":")[2]
    return start.isdigit() and 0 < int(start) < now_ms - WINDOW_KEEP_MS


def _words(key: SumKey) -> str:
    return "/".join(key)
