import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.tasks.interface import TaskStore
from gateway.tasks.shelf import FLUSH_EVERY_S, MAX_PER_CALL, Shelf
from tests.support.clock import in_virtual_time

DESIGN, OPS = TeamId("design"), TeamId("ops")


class Shelved:
    """Takes notes, or does not answer."""

    def __init__(self, *, down: bool = False) -> None:
        self.down = down
        self.calls: list[tuple[TeamId, list[TaskId]]] = []

    async def shelve(self, team: TeamId, tasks: Sequence[TaskId]) -> None:
        """Take a batch of notes."""
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable
        self.calls.append((team, sorted(tasks)))


def _shelf(store: Shelved) -> Shelf:
    return Shelf(cast("TaskStore", store))


def _ids(count: int) -> list[TaskId]:
    return [TaskId(f"imgtask_{number:04}") for number in range(count)]


async def test_notes_go_out_together() -> None:
    """Notes of one team are one call, each task once; teams are never mixed."""
    store = Shelved()
    shelf = _shelf(store)
    for task in ("b", "a", "b"):
        shelf.note(DESIGN, TaskId(task))
    shelf.note(OPS, TaskId("c"))
    await shelf.flush()

    assert store.calls == [(DESIGN, ["a", "b"]), (OPS, ["c"])]


async def test_notes_go_out_once() -> None:
    """What was written down is forgotten."""
    store = Shelved()
    shelf = _shelf(store)
    shelf.note(DESIGN, TaskId("a"))
    await shelf.flush()
    await shelf.flush()

    assert store.calls == [(DESIGN, ["a"])]
    assert not shelf._pending


async def test_nothing_noted_nothing_sent() -> None:
    """An idle shelf leaves the store in peace."""
    store = Shelved()
    await _shelf(store).flush()

    assert store.calls == []


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (MAX_PER_CALL, [MAX_PER_CALL]),
        (MAX_PER_CALL + 1, [MAX_PER_CALL, 1]),
        (2 * MAX_PER_CALL, [MAX_PER_CALL, MAX_PER_CALL]),
    ],
)
async def test_batches_are_bounded(count: int, sizes: list[int]) -> None:
    """A script never gets more than its share, and every note arrives."""
    store = Shelved()
    shelf = _shelf(store)
    for task in _ids(count):
        shelf.note(DESIGN, task)
    await shelf.flush()

    assert sizes == [len(tasks) for _, tasks in store.calls]
    assert _ids(count) == sorted(task for _, tasks in store.calls for task in tasks)


async def test_what_the_store_did_not_take_stays() -> None:
    """A store that is down loses no note."""
    store = Shelved(down=True)
    shelf = _shelf(store)
    shelf.note(DESIGN, TaskId("a"))
    with pytest.raises(StoreUnavailable):
        await shelf.flush()
    store.down = False
    await shelf.flush()

    assert store.calls == [(DESIGN, ["a"])]


async def test_notes_made_during_a_flush_are_not_lost() -> None:
    """A note that comes while the store works goes out as well."""
    store = Shelved()
    shelf = _shelf(store)
    shelf.note(DESIGN, TaskId("a"))
    async with asyncio.TaskGroup() as group:
        group.create_task(shelf.flush())
        await asyncio.sleep(0)
        shelf.note(DESIGN, TaskId("b"))

    assert store.calls == [(DESIGN, ["a"]), (DESIGN, ["b"])]


def test_the_loop_flushes_every_second_and_outlives_the_store() -> None:
    """The loop goes on when the store does not answer, and flushes when it does again."""

    async def scenario() -> list[int]:
        store = Shelved(down=True)
        shelf = _shelf(store)
        shelf.note(DESIGN, TaskId("a"))
        counts = []
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(shelf.run())
            await asyncio.sleep(1.5 * FLUSH_EVERY_S)
            counts.append(len(store.calls))
            store.down = False
            await asyncio.sleep(FLUSH_EVERY_S)
            counts.append(len(store.calls))
            shelf.note(DESIGN, TaskId("b"))
            await asyncio.sleep(FLUSH_EVERY_S)
            counts.append(len(store.calls))
            loop.cancel()
        return counts

    assert FLUSH_EVERY_S == 1.0
    assert in_virtual_time(scenario()) == [0, 1, 2]
