"""The journal of tasks on Redis or Valkey: one script for each verb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from gateway.domain.clock import Clock
from gateway.domain.errors import BudgetExceeded, BudgetState, StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import (
    FACTS,
    SCHEMA,
    TRANSITIONS,
    Event,
    Hold,
    Render,
    RenderState,
    Task,
    advance,
)
from gateway.ledger.holds import Candidate, candidates, order_of, state_of, states_of
from gateway.store.client import Reply, Store
from gateway.store.keyspace import ledger_key, live_key, task_key, tombstone_key
from gateway.store.scripts import load_script
from gateway.tasks.interface import (
    Admission,
    Admitted,
    Ending,
    OwnershipLostError,
    RecordMissingError,
)

#: An admission that reaches the store later than this after it was written is refused there.
#: It bounds how long a lost request can still take money, and tolerates clocks this far apart.
ADMIT_WITHIN_MS = 10_000

#: A given-up id stays given up for longer than any admission of it can be on its way.
TOMBSTONE_MS = 3_600_000


class RedisTaskStore:
    """Implements `TaskStore` for the process `owner`; records stay `keep_ms` after the end."""

    def __init__(self, store: Store, clock: Clock, *, owner: str, keep_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._keep_ms = keep_ms
        self._admit = load_script("tasks/lua/admit.lua")
        self._advance = load_script("tasks/lua/advance.lua")
        self._conclude = load_script("tasks/lua/conclude.lua")
        self._give_up = load_script("tasks/lua/give_up.lua")
        self._shelve = load_script("tasks/lua/shelve.lua")

    async def admit(self, admission: Admission) -> Admitted:
        """Hold the price and write the task, or neither."""
        team = admission.caller.team
        now_ms = self._clock.now_ms()
        choices = candidates(team, now_ms)
        task = self._task(admission, now_ms)
        reply = await self._store.run(
            self._admit,
            [
                task_key(team.id, admission.id),
                live_key(team.id),
                tombstone_key(team.id, admission.id),
                *(candidate.key for choice in choices for candidate in choice),
            ],
            [
                admission.id,
                admission.hold_microusd,
                now_ms + ADMIT_WITHIN_MS,
                orjson.dumps(order_of(choices)),
                orjson.dumps(_flat(_record(task, self._owner))),
                now_ms,
                "0",
            ],
        )
        answer = _answer(reply)
        by_key = {candidate.key: candidate for choice in choices for candidate in choice}
        if answer[0] == b"admitted":
            return _admitted(task, answer, by_key)
        if answer[0] == b"refused":
            _, _, key, spent, held = answer
            budget = state_of(by_key[_text(key)].held(), _integer(spent), _integer(held))
            raise BudgetExceeded(budget, price_microusd=admission.hold_microusd)
        # Late, given up, or the clocks are a whole window apart: nothing was written.
        raise StoreUnavailable

    async def give_up(self, admission: Admission) -> None:
        """Make sure that an admission nobody heard of holds nothing."""
        team = admission.caller.team
        choices = candidates(team, self._clock.now_ms())
        await self._store.run(
            self._give_up,
            [
                task_key(team.id, admission.id),
                live_key(team.id),
                tombstone_key(team.id, admission.id),
                *(candidate.key for choice in choices for candidate in choice),
            ],
            [admission.id, TOMBSTONE_MS],
        )

    async def begin_submit(self, task: Task, attempt_id: str) -> Task:
        """Win the right to post this render."""
        return await self._move(task, Event.BEGIN, attempt_id=attempt_id)

    async def record_submitted(self, task: Task, upstream_id: str) -> Task:
        """Write down the upstream's id."""
        return await self._move(task, Event.SUBMIT, upstream_id=upstream_id)

    async def record_not_sent(self, task: Task) -> Task:
        """Write down that nothing left the house."""
        return await self._move(task, Event.NOT_SENT)

    async def _move(
        self, task: Task, event: Event, *, attempt_id: str = "", upstream_id: str = ""
    ) -> Task:
        render = task.render.after(event, attempt_id=attempt_id, upstream_id=upstream_id)
        fields = [f"{event}_ms", str(self._clock.now_ms())]
        if upstream_id:
            fields += ["upstream_id", upstream_id]
        reply = await self._store.run(
            self._advance,
            [task_key(task.team, task.id)],
            [
                _from_states(event),
                render.state,
                render.attempt_id,
                "" if event in FACTS else task.epoch,
                "" if event is Event.BEGIN else render.attempt_id,
                orjson.dumps(fields),
            ],
        )
        if reply == b"done":
            return replace(task, render=render)
        if reply == b"missing":
            raise RecordMissingError(task.id)
        raise OwnershipLostError(task.id)

    async def conclude(self, task: Task, ending: Ending) -> tuple[BudgetState, ...]:
        """End the task and settle or release its hold; return its budgets afterwards."""
        now_ms = self._clock.now_ms()
        reply = await self._store.run(
            self._conclude,
            [
                task_key(task.team, task.id),
                live_key(task.team),
                ledger_key(task.team),
                *(window.key for window in task.hold.windows),
            ],
            [
                task.id,
                _from_states(ending.event),
                advance(task.render.state, ending.event),
                task.epoch,
                ending.charge.total_microusd,
                "1" if ending.links else "0",
                orjson.dumps(_ending_fields(ending, now_ms)),
                orjson.dumps(_entry(task, ending)),
                self._keep_ms,
            ],
        )
        answer = _answer(reply)
        if answer[0] == b"done":
            return states_of(task.hold.windows, _integers(answer[2]))
        if answer[0] == b"missing":
            raise RecordMissingError(task.id)
        raise OwnershipLostError(task.id)

    async def restore(self, task: Task) -> None:
        """Write a task and its hold anew from memory, also over budget."""
        windows = [
            {"limit": window.limit_microusd, "windows": [{"key": window.key, "start_ms": 0}]}
            for window in task.hold.windows
        ]
        render = task.render
        record = {
            **_record(task, self._owner),
            "state": render.state.value,
            "attempt_id": render.attempt_id,
            "upstream_id": render.upstream_id,
        }
        await self._store.run(
            self._admit,
            [
                task_key(task.team, task.id),
                live_key(task.team),
                tombstone_key(task.team, task.id),
                *(window.key for window in task.hold.windows),
            ],
            [
                task.id,
                task.hold.amount_microusd,
                0,
                orjson.dumps(windows),
                orjson.dumps(_flat(record)),
                task.created_ms,
                "1",
            ],
        )

    async def shelve(self, team: TeamId, tasks: Sequence[TaskId]) -> None:
        """Note that the pictures of these tasks are in the asset store."""
        keys = [live_key(team), *(task_key(team, task) for task in tasks)]
        await self._store.run(self._shelve, keys, list(tasks))

    def _task(self, admission: Admission, now_ms: int) -> Task:
        """Return the task as it will be, but for the windows its hold is taken from."""
        return Task(
            id=admission.id,
            team=admission.caller.team.id,
            key_name=admission.caller.key_name,
            model=admission.model,
            size=admission.size,
            quality=admission.quality,
            created_ms=now_ms,
            owner=self._owner,
            epoch=1,
            hold=Hold(amount_microusd=admission.hold_microusd, windows=()),
            render=Render(order=admission.order),
        )


def _admitted(task: Task, answer: list[Reply], by_key: dict[str, Candidate]) -> Admitted:
    windows = tuple(by_key[_text(key)].held() for key in _answer(answer[1]))
    return Admitted(
        task=replace(task, hold=replace(task.hold, windows=windows)),
        budgets=states_of(windows, _integers(answer[2])),
    )


def _record(task: Task, owner: str) -> dict[str, str]:
    """Return the record of a task that is queued, as `admit.lua` writes it."""
    order = task.render.order
    return {
        "schema": str(SCHEMA),
        "state": RenderState.QUEUED.value,
        "epoch": str(task.epoch),
        "version": "1",
        "owner": owner,
        "key": task.key_name,
        "model": task.model,
        "size": task.size,
        "quality": task.quality,
        "created_ms": str(task.created_ms),
        "hold": str(task.hold.amount_microusd),
        "hold_state": "held",
        "provider": order.provider,
        "account": order.account,
        "order": orjson.dumps(order.body).decode(),
    }


def _flat(record: dict[str, str]) -> list[str]:
    return [word for pair in record.items() for word in pair]


def _from_states(event: Event) -> str:
    return ",".join(TRANSITIONS[event])


def _ending_fields(ending: Ending, now_ms: int) -> list[str]:
    fields = ["ended_ms", str(now_ms), "basis", ending.charge.basis.value]
    if ending.failure is not None:
        fields += ["failure", ending.failure.value]
    if ending.links:
        fields += ["links", orjson.dumps(ending.links).decode()]
    if ending.usage is not None:
        fields += ["usage", orjson.dumps(dict(ending.usage)).decode()]
    return fields


def _entry(task: Task, ending: Ending) -> list[str]:
    return [
        "verb",
        "settle" if ending.charge.total_microusd else "release",
        "basis",
        ending.charge.basis.value,
        "key",
        task.key_name,
        "model",
        task.model,
        "provider",
        task.render.order.provider,
        "categories",
        orjson.dumps(ending.charge.by_category).decode(),
    ]


def _answer(reply: Reply) -> list[Reply]:
    if not isinstance(reply, list):
        raise TypeError("the script answers a list")
    return reply


def _text(reply: Reply) -> str:
    if not isinstance(reply, bytes):
        raise TypeError("the script answers text here")
    return reply.decode()


def _integer(reply: Reply) -> int:
    if not isinstance(reply, int):
        raise TypeError("the script answers an integer here")
    return reply


def _integers(reply: Reply) -> list[int]:
    return [_integer(value) for value in _answer(reply)]
