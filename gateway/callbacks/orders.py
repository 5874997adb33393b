"""What the scripts of callbacks are handed, also by other scripts that include their fragment."""

from __future__ import annotations

from gateway.callbacks.interface import Callback
from gateway.domain.ids import TeamId
from gateway.store.keyspace import callback_key, callbacks_key


def enqueue_order(callback: Callback, *, due_ms: int) -> dict[str, str | int]:
    """Return what `enqueue_callback` of callbacks/lua/queue.lua takes, fit for JSON."""
    return {
        "id": callback.id,
        "task": callback.task,
        "event": callback.event,
        "url": callback.url,
        "body": callback.body.decode(),
        "due_ms": due_ms,
    }


def delivery_keys(team: TeamId, delivery: str) -> tuple[str, str]:
    """Return the keys of a delivery's scripts, in their order; both in the team's slot."""
    return callbacks_key(team), callback_key(team, delivery)
