"""Price books in writing: exact, named by what they say, and refused where they say more."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from typing import cast

import pytest

from gateway.config.catalog import packaged
from gateway.domain.images import Picture
from gateway.domain.price_books import (
    NOT_WRITTEN,
    UnreadableBookError,
    WrittenBook,
    parse_book,
    written,
)
from gateway.domain.pricing import (
    AreaFormula,
    Billing,
    CallBilling,
    CallTier,
    FlatTokens,
    OutputTokens,
    PictureBilling,
    PriceBook,
    TokenTable,
    quote,
)
from tests.support.factories import a_book, a_picture, a_token_billing

THIRD = Fraction(1_000_000, 3)
BOOKS = [
    a_book(),
    a_book(billing=a_token_billing(output=FlatTokens(1056), thinking_tokens=7)),
    a_book(billing=a_token_billing(output=AreaFormula({"low": 16, "high": 96}))),
    a_book(billing=a_token_billing(output=TokenTable({}))),
    a_book(billing=CallBilling((CallTier(1_048_576, THIRD), CallTier(None, Fraction(9))))),
    a_book(billing=PictureBilling({("low", "1024x1024"): THIRD}, Fraction(1, 7))),
    replace(a_book(), credits_per_usd=Fraction(2, 3), source="Ümläute: “§12”\n", date=""),
]


def named(text: str) -> WrittenBook:
    """Return a text under its own name."""
    return WrittenBook(hashlib.sha256(text.encode()).hexdigest()[:16], text)


def retold(**changes: object) -> WrittenBook:
    """Return a flat book with other fields, in writing; None leaves one out."""
    said = json.loads(written(a_book(billing=CallBilling((CallTier(None, THIRD),)))).text)
    told = {name: value for name, value in (said | changes).items() if value is not None}
    return named(json.dumps(told, sort_keys=True, separators=(",", ":")))


@pytest.mark.parametrize("book", BOOKS)
def test_a_book_is_read_as_it_was(book: PriceBook) -> None:
    """To the fraction, so that it prices every picture as it did."""
    read = parse_book(written(book))

    assert book == read
    assert quote(book, a_picture()) == quote(read, a_picture())


def test_every_packaged_book_can_be_written() -> None:
    """No form of prices that ships is missing."""
    rows = packaged()
    for name in rows.prices:
        book = rows.book(name, Fraction(72))

        assert book == parse_book(written(book))


def test_a_name_stands_for_prices() -> None:
    """The same for the same prices however their rows are ordered, another for all others."""
    rows = {("low", "1x1"): 1, ("high", "1x1"): 2}
    turned = dict(reversed(rows.items()))
    one, other = (a_book(billing=a_token_billing(output=TokenTable(r))) for r in (rows, turned))

    assert written(one) == written(other)
    assert len(BOOKS) == len({written(book).digest for book in BOOKS})
    assert {16} == {len(written(book).digest) for book in BOOKS}


@pytest.mark.parametrize(
    "known",
    [
        NOT_WRITTEN,
        named("[]"),
        named("7"),
        named("{}"),
        retold(credits_per_usd=None),
        retold(credits_per_usd="1/0"),
        retold(credits_per_usd=[]),
        retold(billing={"form": "by mood"}),
        retold(billing={"form": "call", "tiers": "many", "reference": "0"}),
        retold(billing={"form": "call", "tiers": [[None]], "reference": "0"}),
        retold(billing={"form": "tokens", "prices": {}, "output": {"form": "none"}}),
        retold(discount="1/2"),
    ],
)
def test_what_is_not_understood_as_a_whole_is_refused(known: WrittenBook) -> None:
    """What a later release adds may be a price: half of a book is another book."""
    with pytest.raises(UnreadableBookError):
        parse_book(known)


def test_a_form_that_a_later_release_adds_within_one_is_refused() -> None:
    """Also where the rest of it reads as today."""
    said = json.loads(written(BOOKS[4]).text)
    as_today = named(json.dumps(said, sort_keys=True, separators=(",", ":")))
    said["billing"]["per_night"] = "1"
    later = named(json.dumps(said, sort_keys=True, separators=(",", ":")))

    assert BOOKS[4] == parse_book(as_today)
    with pytest.raises(UnreadableBookError, match="as a whole"):
        parse_book(later)


def test_another_book_under_a_name_is_refused() -> None:
    """Whoever put it there: prices are found by what they are."""
    flat, tokens = written(BOOKS[4]), written(BOOKS[0])

    with pytest.raises(UnreadableBookError, match="as a whole"):
        parse_book(replace(flat, text=tokens.text))


def test_a_form_without_writing_is_a_defect() -> None:
    """Nobody may quote by prices that nobody could settle by."""

    class Mood:
        """A form of billing and of tokens that nobody has written down."""

        def tokens(self, picture: Picture) -> int | None:
            """Never asked."""
            raise AssertionError(picture)

    for billing in (cast("Billing", Mood()), a_token_billing(output=cast("OutputTokens", Mood()))):
        with pytest.raises(TypeError, match="Mood has no form in writing"):
            written(a_book(billing=billing))
