"""What clients are told when their tasks end, in the words of the surface each call came in by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import orjson

from gateway.callbacks.interface import Callback, CallbackEvent
from gateway.domain.catalog import Offer
from gateway.domain.clock import Clock
from gateway.domain.task import Surface, Task
from gateway.service.evolink_json import as_json, seen, task_body
from gateway.service.links import Links
from gateway.service.task_json import task_fields
from gateway.service.tasks import Status, status_of

_EVENTS = {
    Status.COMPLETED: CallbackEvent.COMPLETED,
    Status.CANCELLED: CallbackEvent.CANCELLED,
}


class ClientCallbacks:
    """Composes callbacks. `find_offer` returns the offer that a task was made under, or None."""

    def __init__(
        self, *, links: Links, clock: Clock, find_offer: Callable[[Task], Offer | None]
    ) -> None:
        self._links = links
        self._clock = clock
        self._find_offer = find_offer

    async def of(self, task: Task) -> Callback:
        """Return what is posted to the client of a task that is over.

        A task of EvoLink's surface is told as a query for it is answered there, links included
        (protocols/evolink.md §6); ours is told without its pictures. Raises StoreUnavailable.
        """
        event = _EVENTS.get(status_of(task), CallbackEvent.FAILED)
        if task.surface is Surface.EVOLINK:
            urls = await self._links.urls(task, task.base_url)
            body = as_json(task_body(seen(task, self._clock, self._find_offer(task)), urls))
        else:
            body = _event_body(task, event)
        return Callback(task.team, task.id, event, task.callback_url, body)


def _event_body(task: Task, event: CallbackEvent) -> bytes:
    moment = datetime.fromtimestamp(task.ended_ms / 1000, UTC)
    return orjson.dumps(
        {
            "type": f"image.task.{event}",
            "timestamp": moment.isoformat(timespec="seconds"),
            "data": task_fields(task),
        }
    )
