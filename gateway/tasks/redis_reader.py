"""Tasks on Redis or Valkey, read: one, some, whose they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import Task
from gateway.store.client import Store
from gateway.store.keyspace import (
    active_teams_key,
    book_key,
    live_key,
    owners_key,
    prompt_key,
    task_key,
    tasks_key,
)
from gateway.store.replies import fields_of, list_of, text_of, texts_of
from gateway.store.scripts import load_script
from gateway.tasks import records
from gateway.tasks.gate import Permit


class RedisTaskReader:
    """The part of `TaskStore` that changes nothing. Every method raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._are_live = load_script("tasks/lua/are_live.lua")

    @property
    def doubts(self) -> int:
        """How often the store gave reason to doubt that it has all it acknowledged."""
        return self._store.doubts

    async def read(self, team: TeamId, task: TaskId) -> Task | None:
        """Return a task as it is written down; raises UnreadableTaskError."""
        fields = fields_of(await self._store.command("HGETALL", task_key(team, task)))
        return records.parse_task(team, task, fields) if fields else None

    async def book(self, team: TeamId, digest: str) -> str | None:
        """Return the text of a price book that tasks of a team name; None where it is not kept."""
        reply = await self._store.command("GET", book_key(team, digest))
        return None if reply is None else text_of(reply)

    async def prompt(self, team: TeamId, task: TaskId) -> str | None:
        """Return the prompt of a task that is over; None where it is not kept."""
        reply = await self._store.command("GET", prompt_key(team, task))
        return None if reply is None else text_of(reply)

    async def listed(self, team: TeamId, *, after: str, limit: int) -> Sequence[Task]:
        """Return the team's tasks from the newest on."""
        first = 0
        if after:
            rank = await self._store.command("ZREVRANK", tasks_key(team), after)
            if not isinstance(rank, int):
                return []
            first = rank + 1
        found: list[Task] = []
        while len(found) < limit:
            last = first + limit - 1
            reply = await self._store.command("ZREVRANGE", tasks_key(team), first, last)
            ids = texts_of(reply)
            read = [await self.read(team, TaskId(task)) for task in ids]
            found += [task for task in read if task is not None]
            if len(ids) < limit:
                break
            first = last + 1
        return found[:limit]

    async def owner_of(self, team: TeamId, task: TaskId) -> str | None:
        """Return who sees to a task; None when it is over or there is none."""
        reply = await self._store.command("HMGET", task_key(team, task), "owner", "open")
        match reply:
            case [bytes(owner), bytes(unfinished)] if unfinished != b"0":
                return owner.decode()
        return None

    async def is_left(self, team: TeamId, task: TaskId) -> bool:
        """Tell whether nobody waits for a task."""
        return await self._store.command("HGET", task_key(team, task), "waiting") == b"0"

    async def which_live(self, permits: Sequence[Permit]) -> Collection[str]:
        """Return which of these renders have not ended, whoever sees to them."""
        by_team: defaultdict[TeamId, list[str]] = defaultdict(list)
        for permit in permits:
            by_team[permit.team].append(permit.render_id)
        live = set()
        for team, renders in by_team.items():
            named = [render.rpartition(":") for render in renders]
            keys = [task_key(team, TaskId(task)) for task, _, _ in named]
            reply = await self._store.run(self._are_live, keys, [index for _, _, index in named])
            told = zip(renders, list_of(reply), strict=True)
            live |= {render for render, is_live in told if is_live}
        return live

    async def owned(self, team: TeamId, owner: str) -> Sequence[TaskId]:
        """Return the tasks that a replica has to see to, the oldest first."""
        reply = await self._store.command("ZRANGE", live_key(team, owner), 0, -1)
        return [TaskId(task) for task in texts_of(reply)]

    async def owners(self, team: TeamId) -> frozenset[str]:
        """Return the replicas that have to see to tasks of a team."""
        return frozenset(await self._members(owners_key(team)))

    async def teams(self) -> frozenset[TeamId]:
        """Return every team that ever had a task."""
        return frozenset(TeamId(name) for name in await self._members(active_teams_key()))

    async def _members(self, key: str) -> list[str]:
        return texts_of(await self._store.command("SMEMBERS", key))
