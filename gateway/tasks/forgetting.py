"""Takes tasks out of the journal before their time, and finds those of one end user."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gateway.callbacks.interface import CallbackEvent, delivery_id
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import Task
from gateway.store.client import Store
from gateway.store.keyspace import (
    callback_key,
    callbacks_key,
    claim_key,
    deleted_key,
    live_key,
    prompt_key,
    task_key,
    tasks_key,
    upload_key,
    waits_key,
)
from gateway.store.replies import text_of, texts_of
from gateway.store.scripts import load_script
from gateway.tasks.admissions import call_keys
from gateway.tasks.unfetched import unfetched_keys

#: How long it is known that a task was deleted: longer than any process remembers one that is over
#: (`reconciling.py`) and would write it again, with its money, as one that the store has lost.
DELETED_MS = 3_600_000
#: Tasks that are looked at with one question.
LOOK_AT = 500


class Forgetting:
    """Forgets tasks. Every method raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._forget = load_script("tasks/lua/forget.lua")

    async def forget(self, task: Task) -> bool:
        """Take a task that is over out of the journal; False when it is not over.

        What was booked for it stays in the books. Repeating it is harmless.
        """
        team, deliveries = task.team, [delivery_id(task.id, event) for event in CallbackEvent]
        if task.over and task.brought.pictures:
            # Before its record, which tells of them. Who else has these bytes brings them up anew.
            brought = [
                upload_key(team, task.order.account, each.digest) for each in task.brought.kept
            ]
            await self._store.command("DEL", *brought)
        reply = await self._store.run(
            self._forget,
            [
                task_key(team, task.id),
                tasks_key(team),
                *call_keys(team, task.call),
                *unfetched_keys(team),
                callbacks_key(team),
                prompt_key(team, task.id),
                deleted_key(team, task.id),
                waits_key(team, task.call),
                *(callback_key(team, delivery) for delivery in deliveries),
            ],
            [task.id, live_key(team, ""), DELETED_MS, *deliveries],
        )
        if text_of(reply) != "gone":
            return False
        for render in task.renders:
            if render.upstream_id:
                # In a slot of its own; of no use to anybody without the task.
                key = claim_key(task.order.account, render.upstream_id)
                await self._store.command("DEL", key)
        return True

    async def tasks_of(self, team: TeamId, subject: str) -> Sequence[TaskId]:
        """Return the tasks of one end user, by the hash that `Task.subject` is; oldest first."""
        found: list[TaskId] = []
        for first in itertools.count(0, LOOK_AT):
            last = first + LOOK_AT - 1
            reply = await self._store.command("ZRANGE", tasks_key(team), first, last)
            ids = [TaskId(each) for each in texts_of(reply)]
            found += [each for each in ids if await self._is_of(team, each, subject)]
            if len(ids) < LOOK_AT:
                break
        return found

    async def _is_of(self, team: TeamId, task: TaskId, subject: str) -> bool:
        told = await self._store.command("HGET", task_key(team, task), "subject")
        return told is not None and text_of(told) == subject
