"""What was paid for and nobody has fetched, through everything that may happen to a task."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gateway.domain.task import Task
from gateway.store.client import Store
from gateway.store.keyspace import task_key
from gateway.tasks.interface import Ending, Joined, ShelfNote
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.replica import Attendance
from gateway.tasks.unfetched import Unfetched
from tests.support.factories import TEAM_ID, a_call, an_admission
from tests.support.journal import (
    KEEPING,
    LaterClock,
    a_journal,
    admitted,
    failed,
    finished,
    keys_in,
    submitted,
)

PLACE = a_call().fingerprint
LEASE_MS = 10_000


@dataclass
class Roll:
    """The replicas that may still be alive; nobody can tell while there is none."""

    present: frozenset[str] | None = None

    def __call__(self) -> Attendance | None:
        """Tell them as `Replica.attendance` does."""
        return None if self.present is None else Attendance(self.present, LEASE_MS)


@dataclass
class House:
    """A journal and its readings."""

    clock: LaterClock
    tasks: RedisTaskStore
    unfetched: Unfetched
    roll: Roll = field(default_factory=Roll)

    async def a_new(self, task: str = "task1", *, images: int = 1, detached: bool = False) -> Task:
        """Return a task that was just admitted."""
        call = a_call(task, fingerprint=PLACE, detached=detached)
        return (await admitted(self.tasks, an_admission(task, images=images, call=call))).task

    async def ends(self, task: Task, *endings: Ending) -> None:
        """End renders of a task, from its first on."""
        for index, ending in enumerate(endings):
            render = await submitted(self.tasks, task, index)
            for _ in range(2):
                await self.tasks.conclude(task, render, ending)

    async def leaves(self, task: Task, waiter: str = "") -> None:
        """Let the request that waits for a task go away."""
        for _ in range(2):
            await self.tasks.leave(TEAM_ID, task.id, place=PLACE, waiter=waiter or task.id)

    async def microusd(self) -> int:
        """Return what nobody has fetched."""
        return await self.unfetched.microusd(TEAM_ID)

    async def seen(self, *present: str, after_ms: int = LEASE_MS) -> int:
        """Return it after some time, as read by a replica that knows who may still be alive."""
        self.clock.advance(after_ms / 1000)
        self.roll.present = frozenset(present)
        return await self.microusd()


@pytest.fixture
def house(store: Store) -> House:
    """Keep tasks in the real server."""
    clock, roll = LaterClock(), Roll()
    return House(clock, a_journal(store, clock=clock), Unfetched(store, clock, roll), roll)


async def test_a_picture_that_is_waited_for_is_not_counted(house: House) -> None:
    """Its answer is on its way."""
    await house.ends(await house.a_new(), finished(30))

    assert 0 == await house.microusd()


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_a_request_that_left_leaves_its_pictures(house: House, leaves_first: bool) -> None:
    """Before or after they are paid; each picture counts once however often it was told."""
    task = await house.a_new(images=2)
    if leaves_first:
        await house.leaves(task)
    await house.ends(task, finished(30), finished(12))
    if not leaves_first:
        await house.leaves(task)

    assert 42 == await house.microusd()


async def test_a_request_that_leaves_between_two_pictures(house: House) -> None:
    """What was paid before it went away and what was paid after add up."""
    task = await house.a_new(images=2)
    await house.ends(task, finished(30))
    await house.leaves(task)
    before = await house.microusd()
    await house.tasks.conclude(task, await submitted(house.tasks, task, 1), finished(12))

    assert (30, 42) == (before, await house.microusd())


async def test_what_is_no_picture_is_not_counted(house: House) -> None:
    """Nobody can fetch what failed, charged or not, nor what was free."""
    task = await house.a_new(images=3)
    await house.leaves(task)
    await house.ends(task, failed(30), failed(), finished(0))

    assert 0 == await house.microusd()


async def test_a_task_that_nobody_waits_for_is_counted_until_it_is_fetched(house: House) -> None:
    """Asynchronous calls have their pictures fetched by another call, or not at all."""
    first, second = await house.a_new("task1", detached=True), await house.a_new("task2")
    await house.leaves(second)
    for task in (first, second):
        await house.ends(task, finished(30))
    readings = [await house.microusd()]
    for note in (
        ShelfNote(fetched={0}),
        ShelfNote(fetched={0}),
        ShelfNote(stored={"0": "png 3"}),
    ):
        await house.tasks.shelve(TEAM_ID, {first.id: note})
        readings.append(await house.microusd())

    assert [60, 30, 30, 30] == readings


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_pictures_are_fetched_one_by_one(house: House, leaves_first: bool) -> None:
    """By their links, each once however often it is opened; what is made later still counts."""
    task = await house.a_new(images=3)
    if leaves_first:
        await house.leaves(task)
    await house.ends(task, finished(30), finished(12))
    readings = []
    for fetched in ({0}, {0}, {0, 1}):
        await house.tasks.shelve(TEAM_ID, {task.id: ShelfNote(fetched=fetched)})
        readings.append(await house.microusd())
    await house.tasks.conclude(task, await submitted(house.tasks, task, 2), finished(7))
    if not leaves_first:
        await house.leaves(task)
    readings.append(await house.microusd())

    assert readings == ([12, 12, 0, 7] if leaves_first else [0, 0, 0, 7])


async def test_a_retry_that_was_answered_has_fetched_it(house: House) -> None:
    """Coming back is not enough: the answer must have left."""
    task = await house.a_new()
    await house.leaves(task)
    await house.ends(task, finished(30))
    retry = await house.tasks.admit(an_admission("task2", call=a_call("again", count=1)))
    waiting = await house.microusd()
    await house.tasks.shelve(TEAM_ID, {task.id: ShelfNote(delivered=True)})

    assert (Joined(task.id), 30, 0) == (retry, waiting, await house.microusd())


async def test_a_request_that_is_not_the_last_to_wait_leaves_nothing(house: House) -> None:
    """Its retry waits already."""
    task = await house.a_new()
    await house.tasks.admit(an_admission("task2", call=a_call("again", count=1)))
    await house.ends(task, finished(30))
    await house.leaves(task)

    assert 0 == await house.microusd()


async def test_a_task_that_changed_hands_is_counted(house: House, store: Store) -> None:
    """Nobody knows whether the request that waited for it is still there."""
    task = await house.a_new()
    other = a_journal(store, owner="replica_2", clock=house.clock)
    taken = await other.take(TEAM_ID, task.id, owner="replica_1")
    assert taken is not None
    await other.conclude(taken, await submitted(other, taken), finished(30))

    assert 30 == await house.microusd()


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_replica_that_died_takes_no_answer_to_anybody(
    house: House, store: Store, is_stored: bool
) -> None:
    """What was paid for there counts a lease later, until its retry has it."""
    task = await house.a_new()
    await house.ends(task, finished(30))
    if is_stored:
        await house.tasks.shelve(TEAM_ID, {task.id: ShelfNote(stored={"0": "png 3"})})
    readings = [
        await house.seen("replica_2", after_ms=LEASE_MS - 1_000),
        await house.seen("replica_1", "replica_2"),
        *[await house.seen("replica_2") for _ in range(2)],
    ]
    assert [] == await keys_in(store, "*:unfetched:awaited")
    await house.tasks.shelve(TEAM_ID, {task.id: ShelfNote(delivered=True)})

    assert [0, 0, 30, 30, 0] == [*readings, await house.seen("replica_2")]


async def test_nobody_is_taken_for_dead_by_one_who_cannot_tell(house: House) -> None:
    """A replica that has just come says nothing of the others."""
    await house.ends(await house.a_new(), finished(30))
    house.clock.advance(LEASE_MS / 1000)

    assert 0 == await house.microusd()


@pytest.mark.parametrize("how", ["delivered", "fetched", "forgotten"])
async def test_who_had_the_picture_has_lost_nothing(house: House, store: Store, how: str) -> None:
    """An answer that has left is no loss when its replica dies after it."""
    task = await house.a_new()
    await house.ends(task, finished(30))
    note = ShelfNote(fetched={0}) if how == "fetched" else ShelfNote(delivered=True)
    if how == "forgotten":
        await store.command("DEL", task_key(TEAM_ID, task.id))
    else:
        await house.tasks.shelve(TEAM_ID, {task.id: note})

    assert 0 == await house.seen("replica_2")
    assert [] == await keys_in(store, "*:unfetched*")


async def test_a_task_is_counted_when_all_of_its_pictures_are_paid(house: House) -> None:
    """While it runs nobody knows how long what it has already will be kept."""
    task = await house.a_new(images=2)
    await house.ends(task, finished(30))
    before = await house.seen("replica_2")
    await house.tasks.conclude(task, await submitted(house.tasks, task, 1), finished(12))

    assert (0, 42) == (before, await house.seen("replica_2"))


async def test_what_comes_after_the_answer_does_not_count_what_left_with_it(house: House) -> None:
    """At its deadline a call is answered with what there is."""
    task = await house.a_new(images=2)
    await house.ends(task, finished(30))
    await house.tasks.shelve(TEAM_ID, {task.id: ShelfNote(delivered=True)})
    await house.tasks.conclude(task, await submitted(house.tasks, task, 1), finished(12))

    assert 0 == await house.seen("replica_2")


async def test_a_retry_waits_where_it_came(house: House, store: Store) -> None:
    """The death of the replica of its first try is not its own; that of its own is."""
    task = await house.a_new()
    other = a_journal(store, owner="replica_2", clock=house.clock)
    await other.admit(an_admission("task2", call=a_call("again", count=1)))
    await house.ends(task, finished(30))
    readings = [await house.seen("replica_2"), await house.seen("replica_1")]

    assert [0, 30] == readings


async def test_pictures_that_are_gone_cannot_be_fetched(house: House, store: Store) -> None:
    """Each is dropped when its keep is over, and nothing stays when all are."""
    for task in (await house.a_new("task1"), await house.a_new("task2")):
        await house.leaves(task)
        await house.ends(task, finished(30))
        house.clock.advance(KEEPING.record_ms / 2000)
    readings = [await house.microusd()]
    house.clock.advance(KEEPING.record_ms / 2000)
    readings.append(await house.microusd())

    assert [30, 0] == readings
    [counts] = await keys_in(store, "*:unfetched")
    assert 0 < int(await store.command("PTTL", counts)) <= KEEPING.record_ms  # type: ignore[arg-type]
