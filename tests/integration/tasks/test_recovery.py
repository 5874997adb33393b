"""What nobody sees to is taken over, and nothing else."""

from __future__ import annotations

import asyncio

from gateway.domain.task import RenderState
from gateway.store.client import Store
from gateway.tasks.interface import Joined
from gateway.tasks.recovery import AUDIT_EVERY_S, Recovery
from gateway.tasks.wake import Kind, Message
from tests.support.engine import House, until
from tests.support.factories import an_admission
from tests.support.journal import a_journal, admitted, record_in, seen_to_by


def recovery_of(house: House) -> Recovery:
    """Return what looks after tasks for the engine of a house."""
    return Recovery(house.journal, house.engine, house.replica, house.shelf, house.clock)


async def looked(recovery: Recovery, *, for_s: float = 0.3) -> None:
    """Let it look once, and stop it."""
    try:
        async with asyncio.timeout(for_s):
            await recovery.run()
    except TimeoutError:
        pass


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


async def test_word_of_a_hand_over_ends_the_pause(house: House, store: Store) -> None:
    """Tasks that another replica gives up wait for nothing."""
    recovery = recovery_of(house)
    left = a_journal(store, owner="left")

    async def hand_over() -> None:
        await asyncio.sleep(0.1)
        task = (await admitted(left, an_admission("task1"))).task
        await left.hand_over(task)
        recovery.hear(Message(Kind.HANDED_OVER))

    async with asyncio.TaskGroup() as group:
        group.create_task(hand_over())
        await looked(recovery, for_s=0.8)

    assert house.replica.id == (await record_in(store))["owner"]


async def test_a_record_of_a_later_release_is_left_to_it(house: House, store: Store) -> None:
    """What cannot be read is not touched, and does not keep the others from being taken."""
    left = a_journal(store, owner="left")
    for name in ("task1", "task2"):
        task = (await admitted(left, an_admission(name))).task
        await left.hand_over(task)
    await store.command("HSET", "{t:design}:task:task1", "schema", "3")
    await looked(recovery_of(house))

    assert house.replica.id == (await record_in(store, "task2"))["owner"]
