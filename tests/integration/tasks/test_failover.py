"""A primary dies under load, behind its replica: what is lost is what docs/stores.md says.

The replica is cut off first, as by a broken link: what is acknowledged from then on is known to
nobody else. Then the primary is killed, and a Sentinel promotes the replica.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId
from gateway.domain.limits import Budget, Period
from gateway.domain.task import Event, Render, Task
from gateway.ledger.audit import verify
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from gateway.store.keyspace import task_key
from gateway.tasks.engine import Ticket
from gateway.tasks.interface import Call, OwnershipLostError, RecordMissingError, Restored
from gateway.tasks.live import Outcome
from gateway.tasks.recovery import Recovery
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.engine import COST as PRICE
from tests.support.engine import HOLD as HELD
from tests.support.engine import OFFER, House, open_house
from tests.support.engine import TEAM as HOUSE_TEAM
from tests.support.factories import a_team, an_admission
from tests.support.journal import a_journal, admitted, budgets_in, finished
from tests.support.stores import run_watched

T = TypeVar("T")

TEAM = a_team(budgets=(Budget("total", 10**9, Period.TOTAL),))
RICH = replace(HOUSE_TEAM, budgets=(Budget("month", 10**9, Period.MONTH),))
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


class WatchedJournal(RedisTaskStore):
    """A journal that notes which tasks had to be restored."""

    restored: ClassVar[set[TaskId]] = set()

    async def restore(self, task: Task, call: Call | None) -> Restored:
        """Restore a task, and note it if that was needed."""
        restored = await super().restore(task, call)
        if restored.behind:
            self.restored.add(task.id)
        return restored


@dataclass
class Callers:
    """Calls to a replica that go on whatever happens, each until it has its picture."""

    house: House
    over: bool = False
    delivered: dict[TaskId, Outcome] = field(default_factory=dict)
    refused: int = 0

    def start(self, group: asyncio.TaskGroup) -> None:
        """Run the replica's loops, and four callers."""
        house = self.house
        recovery = Recovery(house.journal, house.engine, house.replica, house.shelf, house.clock)
        for loop in (recovery, house.replica, house.shelf, house.engine.reconciler):
            house.background.loop(type(loop).__name__, loop.run)
        for number in range(4):
            group.create_task(self._call_again_and_again(f"{house.journal.owner}n{number}"))
        group.create_task(self._poll())

    async def _call_again_and_again(self, name: str) -> None:
        number = 0
        while not self.over:
            number += 1
            task = TaskId(f"{name}x{number}")
            try:
                ticket = await called(self.house, task, Call(f"call_{task}", f"of_{task}"))
            except StoreUnavailable:
                self.refused += 1
                await asyncio.sleep(0.05)
                continue
            assert ticket.live is not None
            self.delivered[task] = await asyncio.shield(ticket.live.done)
            self.house.engine.delivered(ticket)

    async def _poll(self) -> None:
        while not self.over or self.house.engine.running:
            if waiting := len(self.house.poller.delays_s):
                await self.house.poller.poll(waiting)
            await asyncio.sleep(0.05)


async def called(house: House, task: str, call: Call) -> Ticket:
    """Make a call of a team that can pay for all of them."""
    admission = an_admission(task, team=RICH, hold_microusd=HELD, call=call)
    return await house.engine.admit(admission, OFFER)


async def until_delivered(callers: Sequence[Callers], count: int) -> None:
    """Wait for each to deliver so many more pictures."""
    goals = [len(each.delivered) + count for each in callers]
    async with asyncio.timeout(40):
        while any(len(each.delivered) < goal for each, goal in zip(callers, goals, strict=True)):  # noqa: ASYNC110 - callers have no one moment to tell of
            await asyncio.sleep(0.01)


async def test_replicas_make_good_what_a_failover_loses(tmp_path: Path) -> None:
    """Two replicas under load: nothing is paid for twice, no picture is lost, the books are true.

    Every order was sent once. What the new primary had not heard of is written again, of calls in
    progress and of those that were just answered, and retries find their pictures.
    """
    WatchedJournal.restored.clear()
    with run_watched(tmp_path, down_after_ms=DOWN_AFTER_MS) as watched:
        async with AsyncExitStack() as stack:
            callers = []
            for name in ("replica1", "replica2"):
                store = await stack.enter_async_context(Store(watched.url, timeout_ms=TIMEOUT_MS))
                opened = open_house(store, owner=name, journal=WatchedJournal)
                callers.append(Callers(await stack.enter_async_context(opened)))
            async with asyncio.TaskGroup() as group:
                for each in callers:
                    each.start(group)
                await until_delivered(callers, 10)
                await asyncio.sleep(0.3)  # replication takes a millisecond
                watched.replica.run("REPLICAOF", "127.0.0.1", 1)
                await until_delivered(callers, 10)
                watched.primary.kill()
                await until_delivered(callers, 10)
                for each in callers:
                    each.over = True
            for each in callers:
                await each.house.engine.reconciler.compare(HOUSE_TEAM.id)
                await each.house.shelf.flush()

            store = callers[0].house.store
            delivered = {task: out for each in callers for task, out in each.delivered.items()}
            lost = WatchedJournal.restored
            audit = await verify(RedisBooks(store), HOUSE_TEAM.id)
            posted = sum(len(each.house.provider.keys) for each in callers)
            counted = sum(each.house.renders("completed") for each in callers)
            joined = [
                await called(callers[0].house, f"{task}r", Call(f"call_{task}", "later", count=1))
                for task in sorted(lost)[:5]
            ]

            assert 10 < len(lost)
            assert lost <= delivered.keys()
            assert all(len(outcome.delivered) == 1 for outcome in delivered.values())
            assert len(delivered) == posted == counted
            assert (len(delivered) * PRICE, 0) == await callers[0].house.money()
            assert () == audit.findings
            assert sorted(lost)[:5] == [ticket.task for ticket in joined]


async def test_nothing_is_ordered_that_only_the_primary_knows_of(tmp_path: Path) -> None:
    """Where that is asked for: without a replica orders wait, and with one they go out."""
    with run_watched(tmp_path) as watched:
        asked = Acknowledgement(replicas=1, within_ms=200)
        async with (
            Store(watched.url, timeout_ms=TIMEOUT_MS) as store,
            open_house(store, acknowledgement=asked) as house,
        ):
            watched.replica.stop()
            try:
                live = await house.admit()
                await asyncio.sleep(0.5)
                posted = len(house.provider.keys)
            finally:
                watched.replica.cont()
            await house.poller.poll()
            outcome = await asyncio.shield(live.done)
            told = watched.replica.run("HGET", task_key(HOUSE_TEAM.id, live.task.id), "0:tries")

    assert (0, 1, 1) == (posted, len(house.provider.keys), len(outcome.delivered))
    assert b"1" == told
