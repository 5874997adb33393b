from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from gateway.background import SystemClock
from gateway.store.client import Store
from gateway.store.keyspace import poll_rate_key
from gateway.tasks.poll_rate import FRESH_S, HORIZON_S, Lease, PollRates
from tests.support.clock import FixedClock, LoopClock, in_virtual_time

#: Nothing listens there: a store that does not answer.
NOWHERE = "redis://127.0.0.1:1"


def _rates(store: Store, replica: str = "a", *, per_second: float = 50.0) -> PollRates:
    return PollRates(
        store, SystemClock(), replica=replica, polls_per_second={"evolink": per_second, "free": 0}
    )


async def test_a_lease_gives_what_is_wanted(store: Store) -> None:
    """An idle account gives as many as asked for, the first at once, and then in a row."""
    rates = _rates(store)
    first = await rates.lease("evolink", wanted=10, rate=50.0)
    second = await rates.lease("evolink", wanted=10, rate=50.0)

    assert Lease(10, 0.0, 1) == first
    assert (10, 1) == (second.polls, second.replicas)
    assert 0.1 < second.first_in_s <= 0.2


async def test_a_small_part_does_not_block(store: Store) -> None:
    """One that asked for little beside one that asked for much soon gets its turn again."""
    rates = _rates(store, "a")
    await rates.lease("evolink", wanted=0, rate=5_000.0)
    await _rates(store, "greedy").lease("evolink", wanted=10**6, rate=5_000.0)
    began_s = time.monotonic()
    given = 0
    while time.monotonic() - began_s < HORIZON_S + 0.5:
        given += (await rates.lease("evolink", wanted=1, rate=5_000.0)).polls
        await asyncio.sleep(0.05)

    assert given >= 2


async def test_no_more_than_the_horizon_is_given_away(store: Store) -> None:
    """However much is asked, in whatever pieces, a second ahead is all there is."""
    rates = _rates(store)
    began_s = time.monotonic()
    given = sum([(await rates.lease("evolink", wanted=7, rate=50.0)).polls for _ in range(30)])
    took_s = time.monotonic() - began_s

    assert 50 <= given <= 50 * (HORIZON_S + took_s) + 1


async def test_an_account_may_be_slower_than_its_horizon(store: Store) -> None:
    """Less than one poll in a second is possible, and still one at a time."""
    rates = _rates(store)
    leases = [await rates.lease("evolink", wanted=5, rate=0.5) for _ in range(3)]

    assert [1, 0, 0] == [lease.polls for lease in leases]


async def test_replicas_share_by_what_they_want(store: Store) -> None:
    """One that wants three times as much gets three times as much; together it is the rate."""
    large, small = _rates(store, "a"), _rates(store, "b")
    await large.lease("evolink", wanted=0, rate=400.0)
    given = {"a": 0, "b": (await small.lease("evolink", wanted=100, rate=400.0)).polls}
    began_s = time.monotonic()
    while (took_s := time.monotonic() - began_s) < 1.5:
        given["a"] += (await large.lease("evolink", wanted=300, rate=400.0)).polls
        given["b"] += (await small.lease("evolink", wanted=100, rate=400.0)).polls
        await asyncio.sleep(0.01)

    assert 2.5 < given["a"] / given["b"] < 3.5
    assert given["a"] + given["b"] <= 400 * (took_s + HORIZON_S + 1.0)


async def test_a_replica_that_says_nothing_no_longer_counts(store: Store) -> None:
    """One that died leaves its part to the others."""
    key = poll_rate_key("evolink")
    rates = _rates(store, "a")
    await _rates(store, "dead").lease("evolink", wanted=1_000, rate=50.0)
    assert 2 == (await rates.lease("evolink", wanted=1, rate=50.0)).replicas
    await store.command("HINCRBYFLOAT", key, "at:dead", str(-1000 * FRESH_S))
    await store.command("HDEL", key, "next_ms", "next:a")
    lease = await rates.lease("evolink", wanted=10, rate=50.0)

    assert (1, 10) == (lease.replicas, lease.polls)
    assert 0 == await store.command("HEXISTS", key, "want:dead")
    assert 0 < int(str(await store.command("PTTL", key))) <= 60_000


async def test_polls_take_turns_at_the_rate(store: Store) -> None:
    """Two replicas with one account start no more polls than it allows, all of them."""
    replicas = [_rates(store, name) for name in "ab"]
    started_s: list[float] = []

    async def poll(rates: PollRates) -> None:
        await rates.take("evolink")
        started_s.append(time.monotonic())

    async with asyncio.TaskGroup() as group:
        loops = [group.create_task(rates.run()) for rates in replicas]
        began_s = time.monotonic()
        polls = [group.create_task(poll(rates)) for rates in replicas for _ in range(20)]
        await asyncio.wait(polls)
        for loop in loops:
            loop.cancel()

    assert 40 == len(started_s)
    assert max(started_s) - began_s >= 39 / 50 - 0.05


async def test_an_account_without_a_cap_never_waits(store: Store) -> None:
    """Neither the loop nor the store is needed for it."""
    rates = _rates(store)
    async with asyncio.timeout(1.0):
        await rates.take("free")
        await rates.take("unheard of")

    assert 0 == await store.command("DBSIZE")


@pytest.mark.parametrize(("replicas", "interval_s"), [(1, 0.5), (3, 1.5)])
def test_polls_go_on_when_the_store_does_not_answer(replicas: int, interval_s: float) -> None:
    """A replica keeps to its even part of the cap by itself, evenly spaced."""

    async def scenario() -> list[float]:
        async with Store(NOWHERE, timeout_ms=200) as down:
            clock = LoopClock()
            rates = PollRates(down, clock, replica="a", polls_per_second={"evolink": 2.0})
            rates._lanes["evolink"].replicas = replicas
            started_s: list[float] = []

            async def poll() -> None:
                await rates.take("evolink")
                started_s.append(clock.monotonic_s())

            async with asyncio.TaskGroup() as group:
                loop = group.create_task(rates.run())
                await asyncio.wait([group.create_task(poll()) for _ in range(6)])
                loop.cancel()
        return started_s

    started_s = in_virtual_time(scenario())
    gaps_s = [after - before for before, after in itertools.pairwise(started_s)]

    assert all(interval_s - 1e-6 <= gap_s < interval_s + 0.25 for gap_s in gaps_s)


def test_a_stop_lets_polls_go() -> None:
    """Whoever waits for a turn when the loop is stopped goes ahead, and so does who comes later."""

    async def scenario() -> bool:
        async with Store(NOWHERE, timeout_ms=200) as down:
            rates = PollRates(down, LoopClock(), replica="a", polls_per_second={"evolink": 0.001})
            async with asyncio.TaskGroup() as group:
                loop = group.create_task(rates.run())
                polls = [group.create_task(rates.take("evolink")) for _ in range(3)]
                await asyncio.sleep(5)
                waiting = sum(not poll.done() for poll in polls)
                loop.cancel()
                await asyncio.wait(polls, timeout=1)
                await rates.take("evolink")
        return waiting == 2 and all(poll.done() for poll in polls)

    assert in_virtual_time(scenario())


async def test_who_went_away_leaves_the_turn(store: Store) -> None:
    """A poll that was cancelled while it waited costs no turn."""
    clock = FixedClock()
    rates = PollRates(store, clock, replica="a", polls_per_second={"evolink": 50.0})
    lane = rates._lanes["evolink"]
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(rates.take("evolink"))
        stays = group.create_task(rates.take("evolink"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        lane.times_s.append(clock.monotonic_s())
        rates._hand_out(clock.monotonic_s() + 1)
        await asyncio.wait([stays], timeout=1)

    assert stays.done()
    assert 0 == len(lane.times_s)


@pytest.mark.parametrize(("late_s", "kept"), [(0.9 * HORIZON_S, 1), (1.1 * HORIZON_S, 0)])
async def test_times_do_not_pile_up(store: Store, late_s: float, kept: int) -> None:
    """A time nobody used is given up, so that idle moments never become a burst."""
    clock = FixedClock()
    rates = PollRates(store, clock, replica="a", polls_per_second={"evolink": 50.0})
    rates._lanes["evolink"].times_s.append(clock.monotonic_s() - late_s)
    rates._hand_out(clock.monotonic_s() + 1)

    assert kept == len(rates._lanes["evolink"].times_s)
