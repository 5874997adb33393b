"""Asking every replica to read its settings file again, and their answers.

The asker leaves a message for each replica (`wake.py`) that names a key; each replica writes there
what became of it. The key goes by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from gateway.domain.clock import Clock
from gateway.store.client import Store
from gateway.store.keyspace import reload_key, replicas_key
from gateway.store.replies import fields_of, texts_of
from gateway.store.scripts import load_script
from gateway.tasks.wake import Kind, Message, Wake

#: Answers are read by who waits for them, or by nobody.
KEEP_S = 60
LOOK_EVERY_S = 0.1


class Outcome(StrEnum):
    """What became of a look at the settings file; values are labels of a metric."""

    TAKEN = "taken"
    REFUSED = "refused"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of it: the settings that were taken, or the problems that kept them out."""

    outcome: Outcome
    lines: tuple[str, ...] = ()


class ReloadCalls:
    """Both ends of the call. Every method raises StoreUnavailable."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._living = load_script("tasks/lua/living.lua")

    async def replicas(self, *, lease_s: float) -> tuple[str, ...]:
        """Return the replicas that have renewed their place within a lease, by name."""
        reply = await self._store.run(self._living, [replicas_key()], [round(lease_s * 1000)])
        return tuple(sorted(texts_of(reply)))

    async def ask(
        self, replicas: Collection[str], *, call: str, within_s: float
    ) -> Mapping[str, Answer]:
        """Ask these replicas, and return the answers that came within so many seconds.

        `call` is a name that no other call has.
        """
        wake = Wake(self._store, id="")
        for replica in replicas:
            await wake.send(replica, Message(Kind.RELOAD, answer_to=call))
        until_s = self._clock.monotonic_s() + within_s
        answers: dict[str, Answer] = {}
        while len(answers) < len(replicas) and self._clock.monotonic_s() < until_s:
            await asyncio.sleep(LOOK_EVERY_S)
            answers = await self._answers(call)
        return answers

    async def answer(self, call: str, replica: str, answer: Answer) -> None:
        """Leave a replica's answer for whoever asked."""
        await self._store.command("HSET", reload_key(call), replica, orjson.dumps(answer))
        await self._store.command("EXPIRE", reload_key(call), KEEP_S)

    async def _answers(self, call: str) -> dict[str, Answer]:
        reply = await self._store.command("HGETALL", reload_key(call))
        return {name: _parsed(text) for name, text in fields_of(reply).items()}


def _parsed(text: str) -> Answer:
    told = orjson.loads(text)
    return Answer(Outcome(told["outcome"]), tuple(map(str, told["lines"])))
