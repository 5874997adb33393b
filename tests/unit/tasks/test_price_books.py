"""The prices of tasks: those they were quoted by, else those in force, and why."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from structlog.testing import capture_logs

from gateway.domain.catalog import Catalog
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.domain.price_books import written
from gateway.domain.pricing import PriceBook
from gateway.tasks import price_books
from gateway.tasks.price_books import Lack, PriceBooks, Prices
from tests.support.factories import a_book, a_model, a_task, an_offer

NOW = an_offer()


def a_book_at(rate: int) -> PriceBook:
    """Return a price book that differs by its rate of exchange."""
    return replace(a_book(), credits_per_usd=Fraction(rate))


def a_catalog(*books: PriceBook) -> Catalog:
    """Return a catalogue with an offer at each of these prices."""
    offers = tuple(replace(an_offer(), book=book, written=written(book)) for book in books)
    return Catalog({"gpt-image-1.5": a_model(offers=offers)})


class Shelf:
    """Books of the team *design*, as the store has them; counts how often it is asked."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts
        self.asked: list[str] = []

    async def read(self, team: TeamId, digest: str) -> str | None:
        """Return a text."""
        self.asked.append(f"{team}:{digest}")
        return self.texts.get(digest)


async def test_prices_that_were_in_force_here_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the catalogue has changed, without the store; the oldest are forgotten."""
    monkeypatch.setattr(price_books, "MAX_KNOWN", 2)
    books, shelf = [a_book_at(rate) for rate in (1, 2, 3)], Shelf()
    known = PriceBooks(shelf.read)
    for book in books:
        known.know(a_catalog(book))
    found = [
        await known.of(replace(a_task(), book=written(book).digest), NOW) for book in books[1:]
    ]
    forgotten = await known.of(replace(a_task(), book=written(books[0]).digest), NOW)

    assert [Prices(book) for book in books[1:]] == found
    assert Prices(NOW.book, Lack.GONE) == forgotten
    assert [f"design:{written(books[0]).digest}"] == shelf.asked


async def test_prices_that_another_process_had_are_read_once() -> None:
    """From the slot of the task's team; whether there is still such an offer is no matter."""
    told = written(a_book_at(7))
    shelf = Shelf(**{told.digest: told.text})
    known = PriceBooks(shelf.read)
    task = replace(a_task(), book=told.digest)

    assert [Prices(a_book_at(7))] * 2 == [await known.of(task, None), await known.of(task, NOW)]
    assert [f"design:{told.digest}"] == shelf.asked


async def test_what_nobody_can_tell_is_replaced_by_what_is_in_force() -> None:
    """And why that is so goes with it: for a metric, and for whoever reckons with it."""
    shelf = Shelf(newer='{"form": "by mood"}')
    known = PriceBooks(shelf.read)
    with capture_logs() as lines:
        found = [
            await known.of(replace(a_task(), book=book), offer)
            for book, offer in (("", NOW), ("gone", NOW), ("gone", None), ("newer", NOW))
        ]

    assert [
        Prices(NOW.book, Lack.UNSAID),
        Prices(NOW.book, Lack.GONE),
        Prices(None, Lack.GONE),
        Prices(NOW.book, Lack.UNREADABLE),
    ] == found
    assert [("book_unreadable", "newer")] == [(line["action"], line["book"]) for line in lines]


async def test_a_store_that_is_away_is_no_answer() -> None:
    """Nothing is settled at other prices because the right ones cannot be read just now."""

    async def read(team: TeamId, digest: str) -> str | None:
        raise StoreUnavailable(f"{team} {digest}")

    with pytest.raises(StoreUnavailable):
        await PriceBooks(read).of(replace(a_task(), book="old"), NOW)


def test_a_task_that_was_just_quoted_lacks_nothing() -> None:
    """Its offer has its prices."""
    assert Prices(NOW.book, None) == Prices.quoted(NOW)
