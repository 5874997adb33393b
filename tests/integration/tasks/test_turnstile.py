"""Two replicas at one account, on a real server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import pytest

from gateway.background import Background, SystemClock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.store.client import Store
from gateway.store.keyspace import permits_key, turns_key
from gateway.tasks.gate import Capacity, Granted, Permit
from gateway.tasks.permits import RedisPermits
from gateway.tasks.turnstile import Turnstile
from tests.support.valkey import ValkeyProcess

A, B = TeamId("a"), TeamId("b")
ACCOUNT = "evolink"
CAP = 5
LONG_S = 60.0


class World:
    """What really goes on upstream, seen by nobody but the test."""

    def __init__(self) -> None:
        self.live: set[str] = set()
        self.running: set[str] = set()
        self.most = 0
        self.order: list[str] = []
        self.started_s: list[float] = []

    async def is_live(self, permits: Sequence[Permit]) -> Collection[str]:
        """Tell what is not over, as the records of tasks would."""
        await asyncio.sleep(0)
        return self.live & {permit.render_id for permit in permits}

    def start(self, render_id: str) -> None:
        """Let a render be in flight."""
        self.running.add(render_id)
        self.order.append(render_id)
        self.started_s.append(time.monotonic())
        self.most = max(self.most, len(self.running))

    def end(self, render_id: str) -> None:
        """Let it be over."""
        self.running.remove(render_id)
        self.live.discard(render_id)


class Replica:
    """One gateway's turnstile, and renders that go through it."""

    def __init__(self, turnstile: Turnstile, world: World, background: Background) -> None:
        self.turnstile = turnstile
        self._world = world
        self._background = background

    def wait(self, team: TeamId, render_id: str) -> None:
        """Let a render wait for its turn, start, and stay in flight."""
        self._world.live.add(render_id)
        self._background.step("render", self._enter(team, render_id))

    async def _enter(self, team: TeamId, render_id: str) -> None:
        await self.turnstile.enter(ACCOUNT, team, render_id, LONG_S)
        self._world.start(render_id)

    async def render(self, team: TeamId, render_id: str, takes_s: float) -> None:
        """Wait, start, and end after a while."""
        self._world.live.add(render_id)
        await self._enter(team, render_id)
        await asyncio.sleep(takes_s)
        self.end(render_id)

    def end(self, render_id: str) -> None:
        """End a render and make room."""
        self._world.end(render_id)
        self.turnstile.leave(ACCOUNT, render_id)


@pytest.fixture
def world() -> World:
    """Begin with nothing in flight."""
    return World()


@asynccontextmanager
async def _replica(
    store: Store, world: World, name: str, capacity: Capacity, permits: RedisPermits | None = None
) -> AsyncIterator[Replica]:
    """Run a replica until the block ends; then it is dead, and has given nothing back."""
    turnstile = Turnstile(
        {ACCOUNT: capacity},
        permits=permits or RedisPermits(store, replica=name),
        is_live=world.is_live,
        clock=SystemClock(),
        reconcile_every_s=LONG_S,
    )
    async with Background(grace_s=0.0) as background:
        background.loop("turnstile", turnstile.run)
        yield Replica(turnstile, world, background)
        assert background.dead_loops == ()


@asynccontextmanager
async def _pair(
    store: Store, world: World, capacity: Capacity
) -> AsyncIterator[tuple[Replica, Replica]]:
    async with (
        _replica(store, world, "one", capacity) as one,
        _replica(store, world, "two", capacity) as two,
    ):
        yield one, two


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110 - what is waited for is another server's state
            await asyncio.sleep(0.005)


async def _watch(store: Store, seen: list[int]) -> None:
    """Look from outside, as an operator would, how many permits there are."""
    while True:
        held = await store.command("HLEN", permits_key(ACCOUNT))
        assert isinstance(held, int)
        seen.append(held)
        await asyncio.sleep(0.001)


async def test_never_more_than_the_cap(store: Store, world: World) -> None:
    """Three hundred renders of random length on two replicas: all run, five at a time."""
    chance = random.Random(5)
    seen: list[int] = []
    async with _pair(store, world, Capacity(CAP, 0)) as replicas:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(store, seen))
            async with asyncio.TaskGroup() as renders:
                for number in range(300):
                    replica = replicas[number % 2]
                    team = chance.choice([A, B])
                    takes_s = chance.uniform(0.0, 0.01)
                    renders.create_task(replica.render(team, f"r{number}", takes_s))
            watching.cancel()
        for replica in replicas:
            await replica.turnstile.flush()

    assert (300, CAP, CAP) == (len(world.order), world.most, max(seen))
    assert await store.command("EXISTS", permits_key(ACCOUNT)) == 0


async def test_a_burst_and_a_single_on_one_replica(store: Store, world: World) -> None:
    """Five hundred of one team wait; the other team's one is let through at the next place."""
    async with _replica(store, world, "one", Capacity(CAP, 0)) as replica:
        for number in range(500):
            replica.wait(A, f"a{number}")
        await _until(lambda: len(world.running) == CAP)
        replica.wait(B, "b")
        for ended in range(2):
            replica.end(f"a{ended}")
            await _until(lambda: len(world.running) == CAP)

        assert "b" in world.order[CAP : CAP + 2]
        assert replica.turnstile.queue_length(ACCOUNT) == 500 + 1 - CAP - 2


async def test_a_burst_and_a_single_on_two_replicas(store: Store, world: World) -> None:
    """The same when the burst is somewhere else, and holds everything."""
    async with _pair(store, world, Capacity(CAP, 0)) as (one, two):
        for number in range(500):
            one.wait(A, f"a{number}")
        await _until(lambda: len(world.running) == CAP)
        two.wait(B, "b")
        while await store.command("HEXISTS", turns_key(ACCOUNT), "two") == 0:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        for ended in range(3):
            one.end(f"a{ended}")
            await _until(lambda: len(world.running) == CAP)

        assert "b" in world.order[CAP : CAP + 2]


async def test_429_slows_both_replicas(store: Store, world: World) -> None:
    """One of them is refused; neither submits before the pause is over, nor as fast as before."""
    async with _pair(store, world, Capacity(1000, 20)) as (one, two):
        one.wait(A, "a0")
        await _until(lambda: world.order == ["a0"])
        slowed_s = time.monotonic()
        one.turnstile.slow_down(ACCOUNT, "a0", 1.0)
        await one.turnstile.flush()
        for number in range(1, 9):
            one.wait(A, f"a{number}")
            two.wait(B, f"b{number}")
        await _until(lambda: len(world.order) == 17)

        _, *later_s = (started_s - slowed_s for started_s in world.started_s)
        assert min(later_s) > 0.98
        # Of twenty in a second ten are left: so many go at once, and six in six tenths.
        assert max(later_s) > 1.0 + 0.55


async def test_a_dead_replica_gives_back_by_the_records(store: Store, world: World) -> None:
    """What it had in flight is over or taken over; the rest of its permits are taken."""
    async with _replica(store, world, "one", Capacity(CAP, 0)) as one:
        for number in range(CAP + 3):
            one.wait(A, f"a{number}")
        await _until(lambda: len(world.running) == CAP)
    assert await store.command("HLEN", permits_key(ACCOUNT)) == CAP

    world.live = {"a0", "a1"}
    async with _replica(store, world, "two", Capacity(CAP, 0)) as two:
        two.turnstile.adopt(ACCOUNT, A, "a0")
        for number in range(9):
            two.wait(B, f"b{number}")
        await two.turnstile.reconcile(ACCOUNT)
        await _until(lambda: len(world.order) == CAP + 3)
        # a1 was let through and not submitted: whoever owns it now still has its permit.
        two.wait(A, "a1")
        await _until(lambda: world.order.count("a1") == 2)
        await asyncio.sleep(0.3)

        assert world.order[CAP:] == ["b0", "b1", "b2", "a1"]
        assert await store.command("HLEN", permits_key(ACCOUNT)) == CAP


class Lossy(RedisPermits):
    """Speaks to the real server and loses one answer in three after the script ran."""

    def __init__(self, store: Store, *, replica: str) -> None:
        super().__init__(store, replica=replica)
        self._chance = random.Random(3)
        self.lost = 0

    async def acquire(self, account: str, capacity: Capacity, wanted: Sequence[Permit]) -> Granted:
        """Acquire, and perhaps let nobody hear of it."""
        granted = await super().acquire(account, capacity, wanted)
        if self._chance.random() < 1 / 3:
            self.lost += 1
            raise StoreUnavailable
        return granted


async def test_lost_answers_change_nothing(store: Store, world: World) -> None:
    """Asking again finds what was granted: no place is lost, none is taken twice."""
    permits = Lossy(store, replica="one")
    async with _replica(store, world, "one", Capacity(CAP, 0), permits) as replica:
        async with asyncio.TaskGroup() as renders:
            for number in range(60):
                renders.create_task(replica.render(A, f"r{number:02}", 0.001))
        await replica.turnstile.flush()

    assert permits.lost > 0
    assert [f"r{number:02}" for number in range(60)] == world.order
    assert world.most == CAP
    assert await store.command("EXISTS", permits_key(ACCOUNT)) == 0


async def test_a_stalled_store_is_waited_for(
    store: Store, world: World, valkey_process: ValkeyProcess
) -> None:
    """Renders wait while it hangs, and go on when it is back."""
    async with (
        Store(valkey_process.url, timeout_ms=100) as hasty,
        _replica(hasty, world, "one", Capacity(CAP, 0)) as replica,
    ):
        valkey_process.stop()
        try:
            replica.wait(A, "a0")
            await asyncio.sleep(0.35)
            assert world.order == []
        finally:
            valkey_process.cont()
        await _until(lambda: world.order == ["a0"])

    assert await store.command("HLEN", permits_key(ACCOUNT)) == 1
