"""Places among replicas on the real store; time is moved by hand."""

from __future__ import annotations

from gateway.domain.clock import Clock
from gateway.store.client import Store
from gateway.store.keyspace import replicas_key
from gateway.tasks.replica import Attendance, Replica
from tests.support.clock import FixedClock
from tests.support.journal import LaterClock
from tests.support.valkey import ValkeyProcess

LEASE_S = 10.0


def a_replica(store: Store, name: str, clock: Clock) -> Replica:
    """Return a replica that has not renewed yet."""
    return Replica(store, clock, id=name, lease_s=LEASE_S)


async def run_out(store: Store, name: str) -> None:
    """Let a replica's place be of long ago."""
    await store.command("ZADD", replicas_key(), "XX", 1, name)


async def test_replicas_see_each_other(store: Store) -> None:
    """Who renews is there for the others until it leaves."""
    one, two = (a_replica(store, name, LaterClock()) for name in ("one", "two"))
    await one.renew()
    await two.renew()
    await one.renew()

    assert ({"two"}, {"one"}) == (one.others, two.others)

    await two.leave()
    await one.renew()

    assert frozenset() == one.others


async def test_nothing_is_submitted_without_a_fresh_place(store: Store) -> None:
    """Before the first renewal, and when the last one is 70 % of a lease ago."""
    clock = LaterClock()
    replica = a_replica(store, "one", clock)
    at_start = replica.may_submit()
    await replica.renew()
    renewed = replica.may_submit()
    clock.advance(0.71 * LEASE_S)

    assert (False, True, False) == (at_start, renewed, replica.may_submit())


async def test_a_replica_is_gone_after_it_was_missed_for_a_lease(store: Store) -> None:
    """Its place runs out in the store, and is then missed for as long again."""
    clock = FixedClock()
    one, two = a_replica(store, "one", clock), a_replica(store, "two", clock)
    await two.renew()
    await one.renew()
    seen = one.is_gone("two")
    await run_out(store, "two")
    for _ in range(2):
        clock.advance(0.45 * LEASE_S)
        await one.renew()
        missed = one.is_gone("two")
    clock.advance(0.2 * LEASE_S)
    await one.renew()

    assert (False, False, True) == (seen, missed, one.is_gone("two"))


async def test_a_stalled_store_makes_nobody_gone(
    store: Store, valkey_process: ValkeyProcess
) -> None:
    """Every place has run out when the store comes back; nobody is missed until we are steady."""
    clock = FixedClock()
    async with Store(valkey_process.url, timeout_ms=1_500) as impatient:
        one, two = a_replica(impatient, "one", clock), a_replica(store, "two", clock)
        await two.renew()
        await one.renew()
        valkey_process.stop()
        try:
            clock.advance(LEASE_S)
            await one.renew()
        finally:
            valkey_process.cont()
        stalled = one.may_submit()
        await run_out(store, "two")
        for _ in range(2):
            clock.advance(0.4 * LEASE_S)
            await one.renew()
            after = one.is_gone("two")
        await two.renew()
        clock.advance(0.4 * LEASE_S)
        await one.renew()

        assert not stalled
        assert (False, False) == (after, one.is_gone("two"))
        assert {"two"} == one.others


async def test_a_replica_that_has_just_come_is_not_gone(store: Store) -> None:
    """It renewed its place after we last looked, and has a task that we see."""
    clock = LaterClock()
    one, two = a_replica(store, "one", clock), a_replica(store, "two", clock)
    await one.renew()
    clock.advance(5)
    await one.renew()
    clock.advance(5)
    await one.renew()
    clock.advance(1)
    await two.renew()

    assert not one.is_gone("two")
    await one.renew()
    assert not one.is_gone("two")


async def test_who_is_present_is_told_when_it_can_be(store: Store) -> None:
    """After a lease of good renewals; who was seen in this lease may still be there."""
    clock = LaterClock()
    one, two = a_replica(store, "one", clock), a_replica(store, "two", clock)
    await two.renew()
    await one.renew()
    early = one.attendance()
    for _ in range(2):
        clock.advance(5)
        await one.renew()
    steady = one.attendance()
    await two.leave()
    await one.renew()
    left = one.attendance()
    for _ in range(2):
        clock.advance(5)
        await one.renew()
    alone = one.attendance()
    clock.advance(7.1)
    stale = one.attendance()

    both, self_only = (Attendance(frozenset(names), 10_000) for names in (["one", "two"], ["one"]))
    assert [None, both, both, self_only, None] == [early, steady, left, alone, stale]


async def test_a_stranger_is_missed_from_our_first_renewal_on(store: Store) -> None:
    """A process that starts waits a whole lease before it takes anything over."""
    clock = LaterClock()
    one = a_replica(store, "one", clock)
    await one.renew()
    clock.advance(5)
    for _ in range(2):
        await one.renew()
        early = one.is_gone("stranger")
    clock.advance(5)
    await one.renew()

    assert (False, True) == (early, one.is_gone("stranger"))
