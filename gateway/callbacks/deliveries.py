"""The callbacks that are to be made, on Redis or Valkey: durable, at least once, one worker each.

A sorted set holds what is not over by when it is due; a claim moves it to the end of a lease, so
what a killed worker had in hand is due again by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from gateway.callbacks.interface import (
    Callback,
    CallbackEvent,
    DeliveryState,
    DeliveryStatus,
    delivery_id,
)
from gateway.callbacks.orders import delivery_keys, enqueue_order
from gateway.domain.clock import Clock
from gateway.domain.ids import TaskId, TeamId
from gateway.store.client import Store
from gateway.store.keyspace import callback_key, callbacks_key
from gateway.store.replies import bytes_of, integer_of, list_of, text_of, texts_of
from gateway.store.scripts import load_script

#: How long the state of a callback can be seen after it is over.
KEEP_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Claimed:
    """A callback that this process may post now; `tries` were made before."""

    team: TeamId
    id: str
    claim: str
    tries: int
    url: str = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended and what follows; `due_ms` is when the next one is, if there is one."""

    status: DeliveryStatus
    last: str
    due_ms: int = 0


class Deliveries:
    """Implements `Callbacks`, and what a worker needs. Every method raises StoreUnavailable."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._enqueue = load_script("callbacks/lua/enqueue.lua")
        self._claim = load_script("callbacks/lua/claim.lua")
        self._record = load_script("callbacks/lua/record.lua")
        self._states = load_script("callbacks/lua/states.lua")

    async def enqueue(self, callback: Callback) -> bool:
        """Write a callback down, to be delivered from now on; False when it was there."""
        order = orjson.dumps(enqueue_order(callback, due_ms=self._clock.now_ms()))
        reply = await self._store.run(
            self._enqueue, delivery_keys(callback.team, callback.id), [order]
        )
        return reply == 1

    async def earliest(self, team: TeamId, *, count: int) -> list[tuple[str, int]]:
        """Return ids of callbacks that are not over and when each is due (Unix ms), in order."""
        reply = await self._store.command("ZRANGE", callbacks_key(team), 0, count - 1, "WITHSCORES")
        flat = texts_of(reply)
        return [
            (member, int(float(score))) for member, score in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def claim(
        self, team: TeamId, delivery: str, claim: str, *, lease_ms: int
    ) -> Claimed | None:
        """Take a callback that is due; None when it is over, not due, or somebody else's.

        `claim` is a text that nobody else uses: asked again with the same, the answer is the same.
        """
        reply = await self._store.run(
            self._claim,
            delivery_keys(team, delivery),
            [delivery, claim, self._clock.now_ms(), lease_ms],
        )
        answer = list_of(reply)
        if answer[0] != b"claimed":
            return None
        _, url, body, tries = answer
        return Claimed(
            team=team,
            id=delivery,
            claim=claim,
            tries=integer_of(tries),
            url=text_of(url),
            body=bytes_of(body),
        )

    async def record(self, claimed: Claimed, verdict: Verdict) -> bool:
        """Write down how an attempt ended; False when somebody else's attempt counts."""
        reply = await self._store.run(
            self._record,
            delivery_keys(claimed.team, claimed.id),
            [
                claimed.id,
                claimed.claim,
                verdict.status,
                verdict.last,
                self._clock.now_ms(),
                verdict.due_ms,
                KEEP_MS,
            ],
        )
        return list_of(reply)[1] == 1

    async def of_task(self, team: TeamId, task: TaskId) -> tuple[DeliveryState, ...]:
        """Return the callbacks of a task, until a day after each is over."""
        ids = {event: delivery_id(task, event) for event in CallbackEvent}
        reply = await self._store.run(
            self._states,
            [callbacks_key(team), *(callback_key(team, delivery) for delivery in ids.values())],
            list(ids.values()),
        )
        told = zip(ids.items(), list_of(reply), strict=True)
        return tuple(
            _state(delivery, event, texts_of(fields))
            for (event, delivery), fields in told
            if fields
        )


def _state(delivery: str, event: CallbackEvent, fields: list[str]) -> DeliveryState:
    status, tries, last, due_ms, ended_ms = fields
    return DeliveryState(
        id=delivery,
        event=event,
        status=DeliveryStatus(status),
        tries=int(tries),
        last=last,
        next_try_ms=int(float(due_ms)) if due_ms else None,
        ended_ms=int(ended_ms) if ended_ms else None,
    )
