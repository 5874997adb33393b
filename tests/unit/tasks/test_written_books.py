"""When a price book has to go along with an admission."""

from __future__ import annotations

from gateway.domain.ids import TeamId
from gateway.domain.price_books import NOT_WRITTEN, WrittenBook, written
from gateway.tasks.written_books import AGAIN_AFTER_S, KEEP_MS, WrittenBooks, book_order
from tests.support.factories import a_book
from tests.support.journal import LaterClock

DESIGN, OTHERS = TeamId("design"), TeamId("others")
BOOK, OTHER = written(a_book()), WrittenBook("other", "{}")


def test_a_book_goes_along_once_for_each_team() -> None:
    """And again where another one is named; what has no name never does."""
    books = WrittenBooks(LaterClock())
    first = books.is_due(DESIGN, BOOK, doubts=0)
    books.note(DESIGN, BOOK, doubts=0)

    assert first
    assert not books.is_due(DESIGN, BOOK, doubts=0)
    assert books.is_due(OTHERS, BOOK, doubts=0)
    assert books.is_due(DESIGN, OTHER, doubts=0)
    assert not books.is_due(DESIGN, NOT_WRITTEN, doubts=0)


def test_a_book_in_use_is_written_again() -> None:
    """Every hour, for its end to be put off; and when the store may have lost it."""
    clock = LaterClock()
    books = WrittenBooks(clock)
    books.note(DESIGN, BOOK, doubts=0)
    doubted = books.is_due(DESIGN, BOOK, doubts=1)
    clock.advance(AGAIN_AFTER_S)

    assert doubted
    assert books.is_due(DESIGN, BOOK, doubts=0)


def test_what_was_written_here_is_found() -> None:
    """By team and digest, for a record that is written anew."""
    books = WrittenBooks(LaterClock())
    books.note(DESIGN, BOOK, doubts=0)

    assert BOOK == books.find(DESIGN, BOOK.digest)
    assert None is books.find(OTHERS, BOOK.digest)
    assert None is books.find(DESIGN, "")


def test_a_book_outlives_every_task_that_names_it_by_a_month() -> None:
    """All gateways may be down for that long."""
    assert {"text": BOOK.text, "keep_ms": 30 * 86_400_000 + 7} == book_order(BOOK, task_ms=7)
    assert KEEP_MS > 7 * AGAIN_AFTER_S * 1000
