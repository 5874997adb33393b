"""A primary dies under load, behind its replica: what is lost is what docs/stores.md says.

The replica is cut off first, as by a broken link: what is acknowledged from then on is known to
nobody else. Then the primary is killed, and a Sentinel promotes the replica.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId
from gateway.domain.limits import Budget, Period
from gateway.domain.task import Event, Render, Task
from gateway.ledger.audit import verify
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from gateway.store.keyspace import task_key
from gateway.tasks.interface import OwnershipLostError, RecordMissingError
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import a_team, an_admission
from tests.support.journal import a_journal, admitted, budgets_in, finished
from tests.support.stores import run_watched

T = TypeVar("T")

TEAM = a_team(budgets=(Budget("total", 10**9, Period.TOTAL),))
HOLD, COST = 60, 30
SETTLED = finished(COST)
ATTEMPT, UPSTREAM = "run_1", "up-1"
TIMEOUT_MS, DOWN_AFTER_MS = 1_000, 500


@dataclass(frozen=True)
class Steps:
    """A task, and its render after each of its steps, as its owner remembers it."""

    task: Task
    begun: Render
    submitted: Render

    @classmethod
    def of(cls, task: Task) -> Steps:
        """Return the steps that a task has before it."""
        begun = task.renders[0].after(Event.BEGIN, attempt_id=ATTEMPT)
        return cls(task, begun, begun.after(Event.SUBMIT, upstream_id=UPSTREAM))


@dataclass
class Load:
    """Calls that go on whatever happens, as the engine does, and what the store told them."""

    store: Store
    journal: RedisTaskStore
    over: bool = False
    number: int = 0
    longest_s: float = 0.0
    #: Tasks whose end the store has acknowledged, and when.
    ended: dict[TaskId, tuple[Steps, float]] = field(default_factory=dict)
    #: Admissions that were not acknowledged, and were given up.
    refused: set[TaskId] = field(default_factory=set)

    async def run(self) -> None:
        """Make one call after another."""
        while not self.over:
            self.number += 1
            await self._call(TaskId(f"task{self.number}"))

    async def make_good(self, steps: Steps) -> None:
        """Take a task to its end from wherever the store has it; it may have forgotten it all."""
        task, queued = steps.task, steps.task.renders[0]
        await self._until_told(
            lambda: self.journal.restore(task.with_render(steps.submitted), None)
        )
        with suppress(OwnershipLostError):  # it is past this step
            await self._until_told(lambda: self.journal.begin_submit(task, queued, ATTEMPT))
        with suppress(OwnershipLostError):
            await self._until_told(
                lambda: self.journal.record_submitted(task, steps.begun, UPSTREAM)
            )
        await self._until_told(lambda: self.journal.conclude(task, steps.submitted, SETTLED))

    async def _call(self, task_id: TaskId) -> None:
        admission = an_admission(task_id, team=TEAM, hold_microusd=HOLD)
        try:
            task = (await self._timed(admitted(self.journal, admission))).task
        except StoreUnavailable:
            self.refused.add(task_id)
            await self._until_told(lambda: self.journal.give_up(admission))
            return
        steps = Steps.of(task)
        queued = task.renders[0]
        try:
            await self._until_told(lambda: self.journal.begin_submit(task, queued, ATTEMPT))
            await self._until_told(
                lambda: self.journal.record_submitted(task, steps.begun, UPSTREAM)
            )
            await self._until_told(lambda: self.journal.conclude(task, steps.submitted, SETTLED))
        except (RecordMissingError, OwnershipLostError):
            await self.make_good(steps)
        self.ended[task_id] = (steps, time.monotonic())

    async def _until_told(self, step: Callable[[], Awaitable[object]]) -> None:
        """Repeat a step until the store answers."""
        while True:
            with suppress(StoreUnavailable):
                await self._timed(step())
                return
            await asyncio.sleep(0.05)

    async def _timed(self, work: Awaitable[T]) -> T:
        began_s = time.monotonic()
        try:
            return await work
        finally:
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)

    async def until_ended(self, count: int) -> None:
        """Wait for so many more tasks to end."""
        goal = len(self.ended) + count
        async with asyncio.timeout(30):
            while len(self.ended) < goal:  # noqa: ASYNC110 - the load has no one moment to tell of
                await asyncio.sleep(0.01)

    async def state(self, task_id: TaskId) -> str:
        """Return what the store knows of a task's money: held, settled, or nothing."""
        key = task_key(TEAM.id, task_id)
        reply = await self.store.command("HMGET", key, "0:state", "0:cost")
        assert isinstance(reply, list)
        state, cost = reply
        return "gone" if state is None else "held" if cost is None else "settled"

    async def money(self) -> tuple[int, int]:
        """Return what is spent and held."""
        return (await budgets_in(self.store))["total"]


async def test_only_what_the_replica_had_not_heard_is_lost(tmp_path: Path) -> None:
    """Acknowledged tasks of the last moments are gone or set back; owners make them good.

    No script runs twice, the books agree with themselves, and no call waits beyond its limit.
    """
    with run_watched(tmp_path, down_after_ms=DOWN_AFTER_MS) as watched:
        async with Store(watched.url, timeout_ms=TIMEOUT_MS) as store:
            load = Load(store, a_journal(store))
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(load.run())
                await load.until_ended(50)
                heard = set(load.ended)
                await asyncio.sleep(0.3)  # replication takes a millisecond
                watched.replica.run("REPLICAOF", "127.0.0.1", 1)
                await load.until_ended(50)
                watched.primary.kill()
                promoted_s = time.monotonic() + DOWN_AFTER_MS / 1000  # or later
                await load.until_ended(50)
                load.over = True

            states = {task_id: await load.state(task_id) for task_id in load.ended}
            lost = {task_id for task_id, state in states.items() if state != "settled"}
            seen = Counter(states.values())
            spent, held = await load.money()
            books = RedisBooks(store)
            audit = await verify(books, TEAM.id)

            # Nothing from before the link broke, and nothing that the new primary was told.
            assert len(lost) > 0
            assert set() == lost & heard
            assert all(load.ended[task_id][1] < promoted_s for task_id in lost)
            # A task is gone as a whole, or set back to its hold: never half of a script.
            assert {"settled", "held", "gone"} >= seen.keys()
            assert (seen["settled"] * COST, seen["held"] * HOLD) == (spent, held)
            assert () == audit.findings
            assert all([await load.state(task_id) == "gone" for task_id in load.refused])
            assert load.longest_s < TIMEOUT_MS / 1000 + 0.5

            # Whoever still owns them brings the books up to what was acknowledged, once.
            for _ in range(2):
                for task_id in lost:
                    await load.make_good(load.ended[task_id][0])
            assert (len(load.ended) * COST, 0) == await load.money()
            assert () == (await verify(books, TEAM.id)).findings
