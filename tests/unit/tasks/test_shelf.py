import asyncio
from collections.abc import Mapping
from copy import deepcopy
from typing import cast

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.tasks.interface import CALLBACK, ShelfNote, TaskStore
from gateway.tasks.shelf import FLUSH_EVERY_S, MAX_PER_CALL, Shelf
from tests.support.clock import in_virtual_time
from tests.support.factories import a_picture_in_store

DESIGN, OPS = TeamId("design"), TeamId("ops")
PNG = a_picture_in_store(size_bytes=3)
Notes = dict[TaskId, ShelfNote]


class Shelved:
    """Takes notes, or does not answer."""

    def __init__(self, *, down: bool = False) -> None:
        self.down = down
        self.calls: list[tuple[TeamId, Notes]] = []

    async def shelve(self, team: TeamId, notes: Mapping[TaskId, ShelfNote]) -> None:
        """Take a batch of notes."""
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable
        self.calls.append((team, deepcopy(dict(notes))))

    def tasks(self) -> list[tuple[TeamId, list[str]]]:
        """Return the teams and tasks of each call."""
        return [(team, sorted(notes)) for team, notes in self.calls]


def _shelf(store: Shelved) -> Shelf:
    return Shelf(cast("TaskStore", store))


def _ids(count: int) -> list[TaskId]:
    return [TaskId(f"imgtask_{number:04}") for number in range(count)]


A, B, C = TaskId("a"), TaskId("b"), TaskId("c")


async def test_notes_go_out_together() -> None:
    """All that is known of a task is one note, those of a team one call; teams never mix."""
    store = Shelved()
    shelf = _shelf(store)
    shelf.stored(DESIGN, A, 0, PNG)
    shelf.delivered(DESIGN, B)
    shelf.stored(DESIGN, A, 2, None)
    shelf.delivered(DESIGN, A)
    shelf.stored(OPS, C, 0, PNG)
    shelf.called_back(OPS, C)
    await shelf.flush()

    assert store.calls == [
        (
            DESIGN,
            {
                A: ShelfNote(stored={"0": "png 3", "2": "lost"}, delivered=True),
                B: ShelfNote(delivered=True),
            },
        ),
        (OPS, {C: ShelfNote(stored={"0": "png 3", CALLBACK: "queued"})}),
    ]


async def test_notes_go_out_once() -> None:
    """What was written down is forgotten."""
    store = Shelved()
    shelf = _shelf(store)
    shelf.delivered(DESIGN, A)
    await shelf.flush()
    await shelf.flush()

    assert store.tasks() == [(DESIGN, ["a"])]
    assert not shelf._pending


async def test_it_is_known_what_has_not_been_written_down() -> None:
    """Whoever asks for a task sees whether the journal lags behind, and asking leaves no trace."""
    shelf = _shelf(Shelved())
    shelf.stored(DESIGN, A, 0, PNG)
    before = [shelf.holds(DESIGN, A), shelf.holds(DESIGN, B), shelf.holds(OPS, A)]
    await shelf.flush()

    assert ([True, False, False], False) == (before, shelf.holds(DESIGN, A))
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
        shelf.delivered(DESIGN, task)
    await shelf.flush()

    assert sizes == [len(notes) for _, notes in store.calls]
    assert _ids(count) == sorted(task for _, notes in store.calls for task in notes)


async def test_what_the_store_did_not_take_stays() -> None:
    """A store that is down loses no note."""
    store = Shelved(down=True)
    shelf = _shelf(store)
    shelf.stored(DESIGN, A, 0, PNG)
    with pytest.raises(StoreUnavailable):
        await shelf.flush()
    held = shelf.holds(DESIGN, A)
    store.down = False
    await shelf.flush()

    assert held
    assert store.calls == [(DESIGN, {A: ShelfNote(stored={"0": "png 3"})})]


async def test_what_is_noted_while_the_store_fails_is_put_together() -> None:
    """A note that comes back meets the newer one of the same task, and neither is lost."""
    store = Shelved(down=True)
    shelf = _shelf(store)
    shelf.stored(DESIGN, A, 0, PNG)
    shelf.delivered(DESIGN, A)
    shelf.fetched(DESIGN, A, [0])
    async with asyncio.TaskGroup() as group:
        flushing = group.create_task(_failing(shelf))
        await asyncio.sleep(0)
        shelf.stored(DESIGN, A, 1, None)
        shelf.fetched(DESIGN, A, [1])
        await flushing
    store.down = False
    await shelf.flush()

    whole = ShelfNote(stored={"0": "png 3", "1": "lost"}, delivered=True, fetched={0, 1})
    assert store.calls == [(DESIGN, {A: whole})]


async def _failing(shelf: Shelf) -> None:
    with pytest.raises(StoreUnavailable):
        await shelf.flush()


async def test_notes_made_during_a_flush_are_not_lost() -> None:
    """A note that comes while the store works goes out as well."""
    store = Shelved()
    shelf = _shelf(store)
    shelf.stored(DESIGN, A, 0, PNG)
    async with asyncio.TaskGroup() as group:
        group.create_task(shelf.flush())
        await asyncio.sleep(0)
        shelf.delivered(DESIGN, A)
        shelf.delivered(DESIGN, B)

    assert store.calls == [
        (DESIGN, {A: ShelfNote(stored={"0": "png 3"})}),
        (DESIGN, {A: ShelfNote(delivered=True), B: ShelfNote(delivered=True)}),
    ]


async def test_a_flush_waits_for_what_another_has_in_hand() -> None:
    """Whoever flushes before telling others of a task may do so when it returns."""
    store = Shelved()
    shelf = _shelf(store)
    shelf.stored(DESIGN, A, 0, PNG)
    async with asyncio.TaskGroup() as group:
        group.create_task(shelf.flush())
        await asyncio.sleep(0)
        assert store.calls == []
        await shelf.flush()

        assert store.tasks() == [(DESIGN, ["a"])]


def test_the_loop_flushes_every_second_and_outlives_the_store() -> None:
    """The loop goes on when the store does not answer, and flushes when it does again."""

    async def scenario() -> list[int]:
        store = Shelved(down=True)
        shelf = _shelf(store)
        shelf.delivered(DESIGN, A)
        counts = []
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(shelf.run())
            await asyncio.sleep(1.5 * FLUSH_EVERY_S)
            counts.append(len(store.calls))
            store.down = False
            await asyncio.sleep(FLUSH_EVERY_S)
            counts.append(len(store.calls))
            shelf.delivered(DESIGN, B)
            await asyncio.sleep(FLUSH_EVERY_S)
            counts.append(len(store.calls))
            loop.cancel()
        return counts

    assert FLUSH_EVERY_S == 1.0
    assert in_virtual_time(scenario()) == [0, 1, 2]
