"""Tasks that are taken out of the journal before their time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.task import Task
from gateway.store.client import Store
from gateway.tasks import forgetting
from gateway.tasks.forgetting import Forgetting
from gateway.tasks.interface import Joined, OwnershipLostError, ShelfNote
from tests.support.engine import open_house, over
from tests.support.factories import a_call, an_admission
from tests.support.journal import a_journal, admitted, finished, keys_in, submitted

ADA, BOB = "a" * 32, "b" * 32


async def ended(
    store: Store, task: str = "task1", *, subject: str = "", stored: bool = True
) -> Task:
    """Admit a call and end it with a picture, or before that is stored."""
    journal = a_journal(store)
    admission = replace(an_admission(task, call=a_call(fingerprint="same")), subject=subject)
    written = (await admitted(journal, admission)).task
    await journal.conclude(written, await submitted(journal, written), finished())
    if stored:
        await journal.shelve(written.team, {written.id: ShelfNote({"0": "png 3"})})
    read = await journal.read(written.team, written.id)
    assert read is not None
    return read


async def test_a_task_that_is_over_is_forgotten_and_what_it_cost_is_not(store: Store) -> None:
    """Nothing names it any more but the books."""
    task = await ended(store)

    assert await Forgetting(store).forget(task)
    assert await a_journal(store).read(task.team, task.id) is None
    left = {
        key.rpartition("}:")[2].partition(":")[0] for key in await keys_in(store, "{t:design}*")
    }
    assert left <= {"ledger", "rollup", "spent", "budget", "rate", "owners", "deleted"}
    assert await Forgetting(store).forget(task)


async def test_a_task_that_may_come_to_something_stays(store: Store) -> None:
    """Before its end, and before its picture is stored."""
    kept, journal = Forgetting(store), a_journal(store)
    running = (await admitted(journal, an_admission("running"))).task
    unstored = await ended(store, "unstored", stored=False)

    for task in (running, unstored):
        assert not await kept.forget(task)
        assert await journal.read(task.team, task.id) is not None


async def test_a_retry_of_what_was_forgotten_is_a_call_of_its_own(store: Store) -> None:
    """It is attached to nothing that is gone."""
    task, journal = await ended(store), a_journal(store)
    retry = an_admission("task2", call=a_call("req_2", fingerprint="same", count=1))
    await Forgetting(store).forget(task)

    assert not isinstance(await journal.admit(retry), Joined)


async def test_tasks_of_an_end_user_are_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of theirs and nobody else's, however many there are to look through."""
    monkeypatch.setattr(forgetting, "LOOK_AT", 2)
    journal = a_journal(store)
    for number in range(6):
        subject = ADA if number % 2 else BOB
        await admitted(journal, replace(an_admission(f"task{number}"), subject=subject))
    team = an_admission().caller.team.id

    assert ["task1", "task3", "task5"] == await Forgetting(store).tasks_of(team, ADA)
    assert [] == await Forgetting(store).tasks_of(team, "c" * 32)


async def test_whoever_remembers_a_task_does_not_write_it_again(store: Store) -> None:
    """It is no record that the store has lost: its money would be booked a second time."""
    async with open_house(store) as house:
        live = await house.admit()
        await house.poller.poll()
        await over(live)
        await house.shelf.flush()
        money = await house.money()
        assert await Forgetting(store).forget(await house.written())
        await house.engine.reconciler.compare(live.task.team)
        await house.shelf.flush()

        assert await house.journal.read(live.task.team, live.task.id) is None
        assert money == await house.money()
        with pytest.raises(OwnershipLostError):
            await house.journal.restore(live.current, live.call)
