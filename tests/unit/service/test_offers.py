"""Offers of tasks."""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.catalog import Catalog, Offer
from gateway.domain.images import Operation
from gateway.domain.task import SubmitOrder
from gateway.service.offers import offer_of
from tests.support.factories import a_model, a_task, an_offer


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
