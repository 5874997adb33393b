"""Who sees to a task on Redis or Valkey: taken, handed over, left, cancelled."""

from __future__ import annotations

from gateway.domain.clock import Clock
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import Task
from gateway.store.client import Reply, Store
from gateway.store.keyspace import claim_key, live_key, owners_key, task_key
from gateway.store.replies import text_of, texts_of
from gateway.store.scripts import load_script
from gateway.tasks import records
from gateway.tasks.admissions import Keeping, call_keys
from gateway.tasks.interface import RecordMissingError
from gateway.tasks.redis_reader import RedisTaskReader
from gateway.tasks.unfetched import unfetched_keys

#: An upstream's task id stays bound for longer than the upstream knows it.
CLAIM_S = 7 * 86_400


class RedisTaskOwnership(RedisTaskReader):
    """The part of `TaskStore` that says who a task belongs to: `owner` is this process."""

    def __init__(self, store: Store, clock: Clock, *, owner: str, keeping: Keeping) -> None:
        super().__init__(store)
        self._clock = clock
        self._owner = owner
        self._keeping = keeping
        self._cancel = load_script("tasks/lua/cancel.lua")
        self._leave = load_script("tasks/lua/leave.lua")
        self._move_owner = load_script("tasks/lua/move.lua")

    def keep(self, keeping: Keeping) -> None:
        """Keep things for so long, those of tasks that run among them."""
        self._keeping = keeping

    @property
    def owner(self) -> str:
        """The replica whose tasks these are."""
        return self._owner

    @property
    def keep_ms(self) -> int:
        """How long the record of a task is kept after its end."""
        return self._keeping.record_ms

    async def leave(self, team: TeamId, task: TaskId, *, place: str, waiter: str) -> None:
        """Note that this request no longer waits for the task."""
        await self._store.run(
            self._leave,
            [task_key(team, task), call_keys(team, place)[1], *unfetched_keys(team)],
            [
                task,
                waiter,
                self._keeping.listed_ms,
                self._clock.now_ms(),
                self._keeping.record_ms,
            ],
        )

    async def cancel(self, team: TeamId, task: TaskId) -> str | None:
        """Mark a task as cancelled; return who sees to it, None without a task."""
        reply = await self._store.run(self._cancel, [task_key(team, task)], [])
        return None if reply is None else text_of(reply)

    async def claim(self, account: str, upstream_id: str, render: str) -> bool:
        """Bind an upstream's task id to one render for ever; False when it is another's."""
        key = claim_key(account, upstream_id)
        if await self._store.command("SET", key, render, "NX", "EX", CLAIM_S):
            return True
        return await self._store.command("GET", key) == render.encode()

    async def take(self, team: TeamId, task: TaskId, *, owner: str) -> Task | None:
        """Take a task over from `owner`; raises UnreadableTaskError."""
        match await self._change_owner(team, task, owner, self._owner):
            case [b"moved", list(flat)]:
                words = texts_of(flat)
                fields = dict(zip(words[::2], words[1::2], strict=True))
                return records.parse_task(team, task, fields)
        return None

    async def hand_over(self, task: Task) -> bool:
        """Give a task up to whoever takes it; False while one of its renders is being posted.

        Raises RecordMissingError.
        """
        match await self._change_owner(task.team, task.id, self._owner, ""):
            case [b"other", bytes(owner)] if owner.decode() == self._owner:
                return False
            case [b"gone"]:
                raise RecordMissingError(task.id)
        return True

    async def _change_owner(self, team: TeamId, task: TaskId, owner: str, to: str) -> Reply:
        return await self._store.run(
            self._move_owner,
            [task_key(team, task), live_key(team, owner), live_key(team, to), owners_key(team)],
            [task, owner, to],
        )
