"""Offers of tasks, found again by what they were quoted by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.catalog import Catalog, Offer
from gateway.domain.images import Operation
from gateway.domain.task import SubmitOrder
from gateway.service import offers
from gateway.service.offers import Offers, offer_of
from tests.support.factories import a_model, a_task, an_offer

ORDER = SubmitOrder("evolink", "evolink", {"model": "gpt-image-1.5"})
TASK = replace(a_task(), order=ORDER)


def a_catalog(*digests: str) -> Catalog:
    """Return a catalogue with an offer at each of these prices."""
    made = tuple(replace(an_offer(), book_digest=digest) for digest in digests)
    return Catalog({"gpt-image-1.5": a_model(offers=made)} if made else {})


def test_the_offer_of_a_task() -> None:
    """A task that was made by an offer finds it again; what is gone from the catalogue is None."""
    edit = an_offer(operation=Operation.EDIT)
    other = replace(an_offer(), upstream_model="gpt-image-1.5-beta")
    catalog = Catalog({"gpt-image-1.5": a_model(offers=(edit, other, an_offer()))})
    order = SubmitOrder("evolink", "evolink", {"model": "gpt-image-1.5"})

    def found(**changes: object) -> Offer | None:
        return offer_of(catalog, replace(a_task(), **{"order": order, **changes}))  # type: ignore[arg-type]

    assert found() == an_offer()
    assert found(operation=Operation.EDIT) is edit
    assert found(order=replace(order, body={"model": "gpt-image-1.5-beta"})) is other
    # An order that does not name a model is that of the first offer.
    assert found(order=replace(order, body={})) is other
    assert [None, None, None] == [
        found(model="gpt-image-9"),
        found(order=replace(order, provider="elsewhere")),
        found(order=replace(order, body={"model": "gpt-image-9"})),
    ]


def test_a_task_keeps_the_prices_that_it_was_quoted_by() -> None:
    """However often the catalogue changes, and also when its model is gone from it."""
    known = Offers()
    for catalog in (a_catalog("old"), a_catalog("newer"), a_catalog("newest"), a_catalog()):
        known.take(catalog)
        found = known.of(replace(TASK, book="old"))
        assert found is not None
        assert "old" == found.book_digest


def test_prices_that_nobody_here_knows_are_those_in_force() -> None:
    """As for a task of an older release, which says nothing of its prices."""
    known = Offers()
    known.take(a_catalog("old"))
    known.take(a_catalog("new"))

    found = [known.of(replace(TASK, book=book)) for book in ("", "of another process")]
    assert ["new", "new"] == [None if offer is None else offer.book_digest for offer in found]


def test_a_former_offer_is_not_taken_for_another_task() -> None:
    """The same prices at another provider, for another upstream model or operation are others."""
    known = Offers()
    known.take(a_catalog("old"))
    known.take(a_catalog())

    assert known.of(replace(TASK, book="old")) is not None
    for other in (
        replace(TASK, order=replace(ORDER, provider="elsewhere")),
        replace(TASK, order=replace(ORDER, body={"model": "gpt-image-2"})),
        replace(TASK, operation=Operation.EDIT),
    ):
        assert known.of(replace(other, book="old")) is None


def test_former_offers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr(offers, "MAX_FORMER", 2)
    known = Offers()
    for digest in ("first", "second", "third", "in force"):
        known.take(a_catalog(digest))

    found = [known.of(replace(TASK, book=book)) for book in ("first", "second", "third")]
    assert ["in force", "second", "third"] == [
        None if offer is None else offer.book_digest for offer in found
    ]
