"""The offers that tasks were made under, also when the settings have changed since."""

from __future__ import annotations

from gateway.domain.catalog import Catalog, Offer
from gateway.domain.images import Operation
from gateway.domain.task import Task

#: So many former offers are remembered. A task is followed for a day, prices change now and then;
#: beyond that a task that changes hands is settled by what its model costs today.
MAX_FORMER = 4096


class Offers:
    """Finds offers in the catalogue in force and, by their prices, in those before it."""

    def __init__(self) -> None:
        self._catalog = Catalog(models={})
        self._former: dict[tuple[str, str, Operation, str], Offer] = {}

    def take(self, catalog: Catalog) -> None:
        """Put a catalogue in force; what the last one offered is remembered."""
        for model in self._catalog.models.values():
            for offer in model.offers:
                name = (offer.provider, offer.upstream_model, offer.operation, offer.book_digest)
                self._former.pop(name, None)
                self._former[name] = offer
        while len(self._former) > MAX_FORMER:
            del self._former[next(iter(self._former))]
        self._catalog = catalog

    def of(self, task: Task) -> Offer | None:
        """Return the offer that a task was made under, with the prices that it was quoted by.

        Where nobody here knows those any more, with the prices in force; None when there is none.
        """
        offer = offer_of(self._catalog, task)
        if not task.book or (offer is not None and offer.book_digest == task.book):
            return offer
        upstream_model = task.order.body.get("model")
        for (provider, model, operation, digest), former in reversed(self._former.items()):
            if (
                digest == task.book
                and provider == task.order.provider
                and operation is task.operation
                and upstream_model in (model, None)
            ):
                return former
        return offer


def offer_of(catalog: Catalog, task: Task) -> Offer | None:
    """Return the offer of a catalogue that a task was made under; None when there is none."""
    model = catalog.get(task.model)
    named = task.order.body.get("model")
    for offer in () if model is None else model.offers_for(task.operation):
        if offer.provider == task.order.provider and named in (offer.upstream_model, None):
            return offer
    return None
