"""What nobody sees to is taken over, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import gateway.tasks.recovery
from gateway.domain.task import RenderState
from gateway.store.client import Store
from gateway.tasks.interface import Joined
from gateway.tasks.recovery import AUDIT_EVERY_S, Recovery
from gateway.tasks.wake import Kind, Message
from tests.support.engine import House, until
from tests.support.factories import an_admission
from tests.support.journal import a_journal, admitted, record_in, seen_to_by


class Watched(Recovery):
    """Tells how often it has looked, and hears of a hand-over in the middle of a look."""

    looks = 0
    hears_in: int | None = None

    async def _look(self) -> int:
        teams = await super()._look()
        self.looks += 1
        if self.looks == self.hears_in:
            self.hear(Message(Kind.HANDED_OVER))
        return teams


def recovery_of(house: House) -> Watched:
    """Return what looks after tasks for the engine of a house."""
    return Watched(house.journal, house.engine, house.replica, house.shelf, house.clock)


@asynccontextmanager
async def looking(recovery: Watched) -> AsyncIterator[None]:
    """Let it look until the block ends, once before the block begins."""
    task = asyncio.get_running_loop().create_task(recovery.run())
    before = recovery.looks
    try:
        await until(lambda: recovery.looks > before)
        yield
    finally:
        task.cancel()


async def looked(recovery: Watched) -> None:
    """Let it look once, and stop it."""
    async with looking(recovery):
        pass


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no second look come by itself."""
    monkeypatch.setattr(gateway.tasks.recovery, "EVERY_S", 3600.0)


async def test_tasks_that_were_handed_over_are_taken_at_once(house: House, store: Store) -> None:
    """Nobody owns them, so nobody has to be missed first."""
    left = a_journal(store, owner="left")
    task = (await admitted(left, an_admission("task1"))).task
    await left.hand_over(task)
    await looked(recovery_of(house))

    await until(lambda: bool(house.provider.keys))
    assert house.replica.id == (await record_in(store))["owner"]
    assert [] == await seen_to_by(store, "")


async def test_tasks_of_a_replica_that_lives_are_left_alone(house: House, store: Store) -> None:
    """And of one that has not been missed for long enough."""
    await admitted(a_journal(store, owner="other"), an_admission("task1"))
    await looked(recovery_of(house))

    assert {} == house.engine.running
    assert "other" == (await record_in(store))["owner"]


async def test_a_stopped_recovery_takes_nothing(house: House, store: Store) -> None:
    """A process that is about to end would only have to hand it over again."""
    left = a_journal(store, owner="left")
    task = (await admitted(left, an_admission("task1"))).task
    await left.hand_over(task)
    recovery = recovery_of(house)
    recovery.stop()
    await looked(recovery)

    assert {} == house.engine.running
    assert [task.id] == await seen_to_by(store, "")


async def test_tasks_of_ours_that_we_do_not_run_are_found_by_an_audit(
    house: House, store: Store
) -> None:
    """An admission that ran without our hearing of it: seen twice, a while apart, it is run."""
    answer = await house.journal.admit(an_admission("task1"))
    assert not isinstance(answer, Joined)
    recovery = recovery_of(house)
    house.clock.advance(AUDIT_EVERY_S)
    await house.replica.renew()
    await looked(recovery)
    once = dict(house.engine.running)
    house.clock.advance(AUDIT_EVERY_S)
    await house.replica.renew()
    await looked(recovery)
    await until(lambda: bool(house.provider.keys))

    assert {} == once
    assert RenderState.QUEUED != (await record_in(store))["0:state"]


async def test_word_of_a_hand_over_ends_the_pause(house: House, store: Store, seldom: None) -> None:
    """Tasks that another replica gives up wait for nothing."""
    recovery = recovery_of(house)
    left = a_journal(store, owner="left")
    async with looking(recovery):
        task = (await admitted(left, an_admission("task1"))).task
        await left.hand_over(task)
        recovery.hear(Message(Kind.HANDED_OVER))
        await until(lambda: recovery.looks == 2)

    assert house.replica.id == (await record_in(store))["owner"]


async def test_word_that_comes_during_a_look_is_not_lost(house: House, seldom: None) -> None:
    """It may be of a team that this look has passed already: another one follows at once."""
    recovery = recovery_of(house)
    recovery.hears_in = 1
    async with looking(recovery):
        await until(lambda: recovery.looks == 2)


async def test_a_record_of_a_later_release_is_left_to_it(house: House, store: Store) -> None:
    """What cannot be read is not touched, and does not keep the others from being taken."""
    left = a_journal(store, owner="left")
    for name in ("task1", "task2"):
        task = (await admitted(left, an_admission(name))).task
        await left.hand_over(task)
    await store.command("HSET", "{t:design}:task:task1", "schema", "3")
    await looked(recovery_of(house))

    assert house.replica.id == (await record_in(store, "task2"))["owner"]
