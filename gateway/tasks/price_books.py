"""The prices that tasks were quoted by, for whoever settles them, whatever process that is.

A task's record names its book by a digest. The text of it is in the team's slot, written by the
admission that first named it (tasks/lua/admission.lua), so a record that is there has its prices
beside it. They are asked for when a render of a task that was taken over ends, and only where this
process never had them in force.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import structlog

from gateway.domain.catalog import Catalog, Offer
from gateway.domain.ids import TeamId
from gateway.domain.price_books import UnreadableBookError, WrittenBook, parse_book
from gateway.domain.pricing import PriceBook
from gateway.domain.task import Task

log = structlog.get_logger(__name__)

#: So many books are remembered here; the store has them all.
MAX_KNOWN = 1024

#: Returns the text of a team's book by its digest, None when it is not there. May raise
#: StoreUnavailable.
ReadBook = Callable[[TeamId, str], Awaitable[str | None]]


class Lack(StrEnum):
    """Why nobody here knows what a task was quoted by, as the log says it."""

    #: Its record does not say: an older release wrote it.
    UNSAID = "unsaid"
    #: The store does not have the book: an older release admitted the task, or it is too long ago.
    GONE = "gone"
    #: A newer release wrote a book that this one does not understand.
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Prices:
    """What a task is settled by: a price book, None where there is none.

    With a `lack` it is not the one that the task was quoted by.
    """

    book: PriceBook | None
    lack: Lack | None = None

    @classmethod
    def quoted(cls, offer: Offer) -> Self:
        """Return those of the offer that a task was just quoted by."""
        return cls(offer.book)

    @classmethod
    def in_force(cls, offer: Offer | None, lack: Lack) -> Self:
        """Return those that a task would be quoted by today, if it would be made at all."""
        return cls(None if offer is None else offer.book, lack)


class PriceBooks:
    """Finds books by what tasks say of them: in memory, else in the store."""

    def __init__(self, read: ReadBook) -> None:
        self._read = read
        self._known: dict[str, PriceBook] = {}

    def know(self, catalog: Catalog) -> None:
        """Remember the books of a catalogue that comes into force."""
        for model in catalog.models.values():
            for offer in model.offers:
                self._remember(offer.written.digest, offer.book)

    async def of(self, task: Task, offer: Offer | None) -> Prices:
        """Return the prices of a task; where nobody knows them, those of the offer in force.

        Raises StoreUnavailable.
        """
        if not task.book:
            return Prices.in_force(offer, Lack.UNSAID)
        book = self._known.get(task.book)
        if book is None:
            text = await self._read(task.team, task.book)
            if text is None:
                return Prices.in_force(offer, Lack.GONE)
            try:
                book = parse_book(WrittenBook(task.book, text))
            except UnreadableBookError as error:
                reason = str(error)
                log.error(  # noqa: TRY400 - the reason says it all
                    "book_unreadable", action="book_unreadable", book=task.book, reason=reason
                )
                return Prices.in_force(offer, Lack.UNREADABLE)
        self._remember(task.book, book)
        return Prices(book)

    def _remember(self, digest: str, book: PriceBook) -> None:
        self._known.pop(digest, None)
        self._known[digest] = book
        while len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
