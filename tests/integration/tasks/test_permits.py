"""The scripts that all replicas share; every assertion is on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.domain.ids import TeamId
from gateway.store.client import Store
from gateway.store.keyspace import pace_key, permits_key, turns_key
from gateway.tasks.gate import Capacity, Permit
from gateway.tasks.permits import RedisPermits

ACCOUNT = "evolink"
DESIGN, OPS = TeamId("design"), TeamId("ops")
#: Room for three, at any pace.
THREE = Capacity(max_in_flight=3, max_submits_per_second=0)


def _renders(*numbers: int, team: TeamId = DESIGN) -> list[Permit]:
    return [Permit(f"render{number}", team) for number in numbers]


def _ids(*numbers: int) -> frozenset[str]:
    return frozenset(f"render{number}" for number in numbers)


def _paced(per_second: int) -> Capacity:
    return Capacity(max_in_flight=1000, max_submits_per_second=per_second)


@pytest.fixture
def permits(store: Store) -> RedisPermits:
    """Ask as one replica."""
    return RedisPermits(store, replica="replica_1")


@pytest.fixture
def others(store: Store) -> RedisPermits:
    """Ask as another replica."""
    return RedisPermits(store, replica="replica_2")


async def _holders(permits: RedisPermits) -> frozenset[str]:
    return frozenset(permit.render_id for permit in await permits.holders(ACCOUNT))


async def test_as_many_as_there_is_room_for(permits: RedisPermits) -> None:
    """Those in front are granted; the others are told to come again for room."""
    granted = await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3, 4, 5))

    assert (_ids(1, 2, 3), True) == (granted.render_ids, granted.full)
    assert 0 < granted.wait_s <= 1
    assert _ids(1, 2, 3) == await _holders(permits)


async def test_with_room_nobody_waits(permits: RedisPermits) -> None:
    """All are granted in one answer, and none has a turn to keep."""
    granted = await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3))

    assert (_ids(1, 2, 3), 0.0, False) == (granted.render_ids, granted.wait_s, granted.full)


async def test_repeating_changes_nothing(permits: RedisPermits, store: Store) -> None:
    """An answer that was lost is given again: no second place, and no second submit."""
    capacity = _paced(2)
    first = await permits.acquire(ACCOUNT, capacity, _renders(1, 2))
    pace = await store.command("HGETALL", pace_key(ACCOUNT))
    second = await permits.acquire(ACCOUNT, capacity, _renders(1, 2))

    assert (first.render_ids, first.wait_s) == (second.render_ids, second.wait_s)
    assert pace == await store.command("HGETALL", pace_key(ACCOUNT))
    assert _ids(1, 2) == await _holders(permits)


async def test_a_held_permit_is_found_behind_others(permits: RedisPermits) -> None:
    """Who holds one is told so although there is no room for those in front."""
    await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3))
    granted = await permits.acquire(ACCOUNT, THREE, _renders(4, 5, 3))

    assert (_ids(3), True) == (granted.render_ids, granted.full)


async def test_what_is_given_back_is_free(permits: RedisPermits) -> None:
    """Once, however often it is given back; what nobody holds does not matter."""
    await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3))
    for _ in range(2):
        await permits.release(ACCOUNT, ["render1", "render99"])
    granted = await permits.acquire(ACCOUNT, THREE, _renders(4, 5))

    assert _ids(4) == granted.render_ids
    assert _ids(2, 3, 4) == await _holders(permits)


async def test_registered_renders_count_above_the_cap(permits: RedisPermits) -> None:
    """What is in flight is in flight: it takes room, even more than there is."""
    await permits.register(ACCOUNT, _renders(1, 2, 3, 4, team=OPS))
    await permits.release(ACCOUNT, ["render1"])
    granted = await permits.acquire(ACCOUNT, THREE, _renders(5))

    assert granted.full
    assert sorted(_renders(2, 3, 4, team=OPS), key=str) == sorted(
        await permits.holders(ACCOUNT), key=str
    )


async def test_accounts_are_apart(permits: RedisPermits) -> None:
    """A full account says nothing of another."""
    await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3))
    granted = await permits.acquire("other", THREE, _renders(4))

    assert _ids(4) == granted.render_ids


class TestTurns:
    """Replicas that wait for the same account."""

    async def test_who_waits_is_served_before_who_comes_back(
        self, permits: RedisPermits, others: RedisPermits
    ) -> None:
        """A replica with a long queue leaves the next free place to the other one."""
        queue = _renders(*range(10, 500))[:200]
        await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3))
        await permits.acquire(ACCOUNT, THREE, queue)
        single = await others.acquire(ACCOUNT, THREE, _renders(900, team=OPS))
        assert single.full

        await permits.release(ACCOUNT, ["render1"])
        first = await permits.acquire(ACCOUNT, THREE, queue)
        await permits.release(ACCOUNT, ["render2"])
        second = await permits.acquire(ACCOUNT, THREE, queue)
        served = await others.acquire(ACCOUNT, THREE, _renders(900, team=OPS))

        # Its turn was older: it got the first place, and leaves the second one.
        assert _ids(10) == first.render_ids
        assert (_ids(10), True) == (second.render_ids, second.full)
        assert _ids(900) == served.render_ids

    async def test_asking_again_does_not_lose_the_turn(
        self, permits: RedisPermits, others: RedisPermits
    ) -> None:
        """It counts since when a replica waits, not when it last asked."""
        await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3))
        await others.acquire(ACCOUNT, THREE, _renders(900))
        await permits.acquire(ACCOUNT, THREE, _renders(4))
        await others.acquire(ACCOUNT, THREE, _renders(900))
        await permits.release(ACCOUNT, ["render1"])
        early = await permits.acquire(ACCOUNT, THREE, _renders(4))
        served = await others.acquire(ACCOUNT, THREE, _renders(900))

        assert (frozenset(), _ids(900)) == (early.render_ids, served.render_ids)

    async def test_turns_hold_for_the_pace_too(
        self, permits: RedisPermits, others: RedisPermits, store: Store
    ) -> None:
        """The next submit is left for the replica that waits longer."""
        capacity = _paced(2)
        await permits.acquire(ACCOUNT, capacity, _renders(1, 2))
        await others.acquire(ACCOUNT, capacity, _renders(900))
        await store.command("HINCRBYFLOAT", pace_key(ACCOUNT), "tat", -500)
        early = await permits.acquire(ACCOUNT, capacity, _renders(3))
        served = await others.acquire(ACCOUNT, capacity, _renders(900))

        assert (frozenset(), _ids(900)) == (early.render_ids, served.render_ids)
        assert not early.full

    async def test_room_beyond_the_turns_is_for_anybody(
        self, permits: RedisPermits, others: RedisPermits
    ) -> None:
        """One place is kept for each that waits longer, and no more."""
        await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3))
        await others.acquire(ACCOUNT, THREE, _renders(900, 901))
        await permits.release(ACCOUNT, ["render1", "render2"])
        granted = await permits.acquire(ACCOUNT, THREE, _renders(4, 5))

        assert (_ids(4), True) == (granted.render_ids, granted.full)

    async def test_who_was_served_waits_no_more(
        self, permits: RedisPermits, others: RedisPermits, store: Store
    ) -> None:
        """Its turn is gone with its last render."""
        await permits.acquire(ACCOUNT, THREE, _renders(1, 2, 3))
        await others.acquire(ACCOUNT, THREE, _renders(900))
        await permits.release(ACCOUNT, ["render1"])
        await others.acquire(ACCOUNT, THREE, _renders(900))

        assert await store.command("EXISTS", turns_key(ACCOUNT)) == 0

    async def test_a_dead_replica_loses_its_turn(self, permits: RedisPermits, store: Store) -> None:
        """The place that was kept for it is free once it has not asked for three seconds."""
        await permits.acquire(ACCOUNT, THREE, _renders(1, 2))
        reply = await store.command("TIME")
        assert isinstance(reply, list | tuple)
        now_us = int(reply[0]) * 1_000_000  # type: ignore[arg-type] - integers, by redis-py
        await store.command(
            "HSET", turns_key(ACCOUNT), "dead", f"{now_us - 9_000_000} {now_us - 5_000_000}"
        )
        await store.command(
            "HSET", turns_key(ACCOUNT), "alive", f"{now_us - 9_000_000} {now_us - 1_000_000}"
        )
        refused = await permits.acquire(ACCOUNT, THREE, _renders(3))
        await store.command("HDEL", turns_key(ACCOUNT), "alive")
        granted = await permits.acquire(ACCOUNT, THREE, _renders(3))

        assert (frozenset(), _ids(3)) == (refused.render_ids, granted.render_ids)
        assert await store.command("HEXISTS", turns_key(ACCOUNT), "dead") == 0


class TestPace:
    """How fast renders are let through."""

    @pytest.mark.parametrize(("per_second", "at_once"), [(1, 1), (2, 2), (20, 20)])
    async def test_a_second_at_once(
        self, permits: RedisPermits, per_second: int, at_once: int
    ) -> None:
        """What fits into a second may go together; the next has to wait its part of one."""
        granted = await permits.acquire(ACCOUNT, _paced(per_second), _renders(*range(50)))

        assert _ids(*range(at_once)) == granted.render_ids
        assert not granted.full
        assert 0.5 / per_second < granted.wait_s <= 1 / per_second

    async def test_the_wait_is_true(self, permits: RedisPermits) -> None:
        """After the time it was told, and not before, one more goes."""
        capacity = _paced(2)
        first = await permits.acquire(ACCOUNT, capacity, _renders(*range(20)))
        early = await permits.acquire(ACCOUNT, capacity, _renders(*range(10, 20)))
        await asyncio.sleep(early.wait_s + 0.002)
        late = await permits.acquire(ACCOUNT, capacity, _renders(*range(10, 20)))

        assert (2, 0, 1) == (
            len(first.render_ids),
            len(early.render_ids),
            len(late.render_ids),
        )

    async def test_an_account_at_rest_keeps_no_key(
        self, permits: RedisPermits, store: Store
    ) -> None:
        """Its pace ends by itself."""
        await permits.acquire(ACCOUNT, _paced(2), _renders(1))
        ttl_ms = await store.command("PTTL", pace_key(ACCOUNT))
        assert isinstance(ttl_ms, int)

        assert 0 < ttl_ms <= 900_000

    async def test_without_a_pace_nothing_is_counted(
        self, permits: RedisPermits, store: Store
    ) -> None:
        """An account without one costs no key."""
        granted = await permits.acquire(ACCOUNT, _paced(0), _renders(*range(500)))

        assert len(granted.render_ids) == 500
        assert await store.command("EXISTS", pace_key(ACCOUNT)) == 0


class TestSlowingDown:
    """What a 429 of the upstream does, on every replica."""

    @staticmethod
    async def _back_date(store: Store, elapsed_ms: int) -> None:
        """Let this much time have passed since the pace was lowered."""
        for field in ("lowered_ms", "resume_ms"):
            await store.command("HINCRBY", pace_key(ACCOUNT), field, -elapsed_ms)
        await store.command("HDEL", pace_key(ACCOUNT), "tat")

    async def _at_once(self, permits: RedisPermits, capacity: Capacity) -> int:
        """Return how many of many would go in this moment."""
        granted = await permits.acquire(ACCOUNT, capacity, _renders(*range(2000, 2100)))
        await permits.release(ACCOUNT, sorted(granted.render_ids))
        return len(granted.render_ids)

    async def test_the_pace_is_halved_for_all(
        self, permits: RedisPermits, others: RedisPermits, store: Store
    ) -> None:
        """Not only for the replica that was refused."""
        capacity = _paced(20)
        granted = await permits.acquire(ACCOUNT, capacity, _renders(1))
        await permits.slow_down(ACCOUNT, capacity, pace_version=granted.pace_version, pause_s=0)
        await self._back_date(store, 200)

        assert await self._at_once(others, capacity) == 10

    async def test_one_burst_lowers_it_once(
        self, permits: RedisPermits, others: RedisPermits, store: Store
    ) -> None:
        """Refusals of submits that were made at the same pace say the same thing."""
        capacity = _paced(20)
        granted = await permits.acquire(ACCOUNT, capacity, _renders(1, 2, 3))
        for replica in (permits, others, permits):
            await replica.slow_down(ACCOUNT, capacity, pace_version=granted.pace_version, pause_s=0)
        await self._back_date(store, 200)

        assert await self._at_once(permits, capacity) == 10

    async def test_a_refusal_at_the_lower_pace_lowers_it_again(
        self, permits: RedisPermits, store: Store
    ) -> None:
        """Down to one in two seconds, whatever comes."""
        capacity = _paced(20)
        versions, at_once = [], []
        for _ in range(8):
            granted = await permits.acquire(ACCOUNT, capacity, [])
            versions.append(granted.pace_version)
            await permits.slow_down(ACCOUNT, capacity, pace_version=versions[-1], pause_s=0)
            to = await store.command("HGET", pace_key(ACCOUNT), "lowered_to")
            at_once.append(float(to))  # type: ignore[arg-type] - bytes

        assert sorted(set(versions)) == versions
        assert [10, 5, 2.5, 1.25, 0.625, 0.5, 0.5, 0.5] == pytest.approx(at_once, rel=0.01)
        await self._back_date(store, 2_001)
        assert await self._at_once(permits, capacity) == 1

    async def test_a_pace_below_the_floor_stays(self, permits: RedisPermits, store: Store) -> None:
        """A recovery never leads above what is configured."""
        capacity = _paced(1)
        await permits.slow_down(ACCOUNT, capacity, pace_version=0, pause_s=0)
        await self._back_date(store, 3_000_000)

        assert await self._at_once(permits, capacity) == 1

    @pytest.mark.parametrize(
        ("elapsed_s", "at_once"),
        # By a 300th of the whole pace each second: 20/s from 10/s.
        [(1, 10), (75, 15), (149, 19), (150, 20), (800, 20)],
    )
    async def test_it_recovers_slowly(
        self, permits: RedisPermits, store: Store, elapsed_s: int, at_once: int
    ) -> None:
        """By the same amount every second, up to what is configured."""
        capacity = _paced(20)
        await permits.slow_down(ACCOUNT, capacity, pace_version=0, pause_s=0)
        await self._back_date(store, elapsed_s * 1000)

        assert await self._at_once(permits, capacity) == at_once

    async def test_an_account_without_a_pace_gets_one(
        self, permits: RedisPermits, store: Store
    ) -> None:
        """From twenty in a second, until it has recovered."""
        capacity = _paced(0)
        await permits.slow_down(ACCOUNT, capacity, pace_version=0, pause_s=0)
        await self._back_date(store, 500)
        lowered = await self._at_once(permits, capacity)
        await self._back_date(store, 150_000)

        assert (10, 100) == (lowered, await self._at_once(permits, capacity))

    async def test_what_the_upstream_asks_for_holds(
        self, permits: RedisPermits, others: RedisPermits, store: Store
    ) -> None:
        """Nothing goes before, also from a pace that was lowered already; a shorter one is moot."""
        capacity = _paced(20)
        await permits.slow_down(ACCOUNT, capacity, pace_version=0, pause_s=30)
        await others.slow_down(ACCOUNT, capacity, pace_version=0, pause_s=60)
        await others.slow_down(ACCOUNT, capacity, pace_version=0, pause_s=1)
        refused = await permits.acquire(ACCOUNT, capacity, _renders(1))
        await self._back_date(store, 59_000)
        still = await permits.acquire(ACCOUNT, capacity, _renders(1))
        await self._back_date(store, 1_001)
        granted = await permits.acquire(ACCOUNT, capacity, _renders(1))

        assert (frozenset(), 1.0, False) == (refused.render_ids, refused.wait_s, refused.full)
        assert (frozenset(), _ids(1)) == (still.render_ids, granted.render_ids)

    async def test_without_a_wish_it_pauses_for_one_interval(self, permits: RedisPermits) -> None:
        """The very next submit is not sent into the same wall."""
        capacity = _paced(4)
        await permits.slow_down(ACCOUNT, capacity, pace_version=0, pause_s=0)
        granted = await permits.acquire(ACCOUNT, capacity, _renders(1))

        assert (frozenset(), False) == (granted.render_ids, granted.full)
        assert 0.4 < granted.wait_s <= 0.5

    async def test_it_is_forgotten_after_a_while(self, permits: RedisPermits, store: Store) -> None:
        """The key ends by itself, after the recovery."""
        await permits.slow_down(ACCOUNT, _paced(20), pace_version=0, pause_s=0)
        ttl_ms = await store.command("PTTL", pace_key(ACCOUNT))
        assert isinstance(ttl_ms, int)

        assert 600_000 < ttl_ms <= 900_000


async def test_many_replicas_never_exceed_the_room(store: Store) -> None:
    """A hundred asking at once over five replicas for overlapping renders: three hold, no more."""
    replicas = [RedisPermits(store, replica=f"replica_{number}") for number in range(5)]

    async def ask(number: int) -> Sequence[str]:
        wanted = _renders(number, number + 1, number + 2)
        return sorted((await replicas[number % 5].acquire(ACCOUNT, THREE, wanted)).render_ids)

    granted = await asyncio.gather(*(ask(number) for number in range(100)))

    assert {one for ids in granted for one in ids} <= await _holders(replicas[0])
    assert await store.command("HLEN", permits_key(ACCOUNT)) == 3
