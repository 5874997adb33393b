"""The offers that tasks are of."""

from __future__ import annotations

from gateway.domain.catalog import Catalog, Offer
from gateway.domain.task import Task


def offer_of(catalog: Catalog, task: Task) -> Offer | None:
    """Return the offer of a catalogue that a task is made by; None when it has none.

    Its prices may be others than the task was quoted by: see tasks/price_books.py.
    """
    model = catalog.get(task.model)
    named = task.order.body.get("model")
    for offer in () if model is None else model.offers_for(task.operation):
        if offer.provider == task.order.provider and named in (offer.upstream_model, None):
            return offer
    return None
