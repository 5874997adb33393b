"""Which price books this process has written down, and when it is time to write one again.

A book goes along with the admission that first names it, in the same script, so it costs no round
trip and is there whenever the record is: also after a failover, which loses the end of what was
written and never the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.clock import Clock
from gateway.domain.ids import TeamId
from gateway.domain.price_books import WrittenBook

#: A book outlives every task that names it by so much: gateways may all be down for that long.
KEEP_MS = 30 * 86_400_000
#: One that is in use is written again this often, which also puts off its end.
AGAIN_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Written:
    book: WrittenBook
    at_s: float
    doubts: int


class WrittenBooks:
    """Remembers what was written to which team's slot, by digest.

    `doubts` are those of the store (`Store.doubts`): what was acknowledged before the last of them
    may be gone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._written: dict[tuple[TeamId, str], _Written] = {}

    def is_due(self, team: TeamId, book: WrittenBook, *, doubts: int) -> bool:
        """Tell whether an admission that names a book has to bring it along."""
        if not book.digest:
            return False
        last = self._written.get((team, book.digest))
        return (
            last is None
            or last.doubts != doubts
            or self._clock.monotonic_s() - last.at_s >= AGAIN_AFTER_S
        )

    def note(self, team: TeamId, book: WrittenBook, *, doubts: int) -> None:
        """Remember that a book was written, with the doubts there were before."""
        self._written[team, book.digest] = _Written(book, self._clock.monotonic_s(), doubts)

    def find(self, team: TeamId, digest: str) -> WrittenBook | None:
        """Return a book that was written from here, for a record that has to be written anew."""
        last = self._written.get((team, digest))
        return None if last is None else last.book


def book_order(book: WrittenBook, *, task_ms: int) -> dict[str, object]:
    """Return a book as admission.lua reads it; `task_ms` is how long a task may name it."""
    return {"text": book.text, "keep_ms": KEEP_MS + task_ms}
