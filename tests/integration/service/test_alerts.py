from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import httpx
import orjson
from pydantic import SecretStr

from gateway.background import SystemClock
from gateway.domain.clock import Clock
from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Period, Scope
from gateway.ledger.alerts import Alert, Claim
from gateway.ledger.holds import ScopedBudget, Standing, state_of
from gateway.ledger.redis_alerts import RedisAlertMarks
from gateway.network.clients import build_submit_client
from gateway.service.alerts import Alerts, AlertTimes, text_of
from gateway.service.webhook import Webhook
from gateway.store.client import Store
from tests.support.clock import NOON_MS, FixedClock
from tests.support.sockets import RawServer, Script, answer, in_turn, raw_server, silent
from tests.support.valkey import ValkeyProcess

TEAM = TeamId("design")
QUICK = AlertTimes(lease_s=60.0, first_retry_s=0.01, longest_retry_s=0.01)


def _standing(
    spent: int, *, owner: str = "", per: Period = Period.MONTH, now_ms: int | None = None
) -> Standing:
    """Return a budget of a dollar as it stands, announced by halves."""
    budget = Budget(per.value, 1_000_000, per, alert_percents=(50, 100))
    scoped = ScopedBudget(TEAM, Scope.KEY if owner else Scope.TEAM, owner, budget)
    window = scoped.candidates(SystemClock().now_ms() if now_ms is None else now_ms)[0]
    return Standing(TEAM, budget, window, state_of(window, spent, 20_000))


@dataclass
class Replica:
    """One process's announcer and what it counted."""

    alerts: Alerts
    outcomes: list[str]


@asynccontextmanager
async def _replica(
    store: Store,
    client: httpx.AsyncClient,
    url: str,
    *,
    name: str,
    times: AlertTimes = QUICK,
    clock: Clock | None = None,
) -> AsyncIterator[Replica]:
    """Run an announcer as the product does, until the block ends."""
    outcomes: list[str] = []
    alerts = Alerts(
        RedisAlertMarks(store, replica=name),
        Webhook(client, SecretStr(url)),
        clock or SystemClock(),
        outcomes.append,
        times,
    )
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(alerts.run())
        try:
            yield Replica(alerts, outcomes)
        finally:
            loop.cancel()


@dataclass
class World:
    """A receiver and two replicas that announce to it."""

    receiver: RawServer
    replicas: tuple[Replica, Replica]

    def see(self, *standings: Standing) -> None:
        """Let both replicas see the same."""
        for replica in self.replicas:
            replica.alerts.see(standings)

    @property
    def texts(self) -> list[str]:
        """What people were told, in order."""
        return [orjson.loads(seen.body)["text"] for seen in self.receiver.requests]

    @property
    def outcomes(self) -> list[str]:
        """What both replicas have counted."""
        return [outcome for replica in self.replicas for outcome in replica.outcomes]

    async def until(self, happened: Callable[[], bool], *standings: Standing) -> None:
        """Let both see these again and again until something has happened."""
        async with asyncio.timeout(20):
            while not happened():
                self.see(*standings)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def _world(store: Store, script: Script, times: AlertTimes = QUICK) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(raw_server(script))
        client = await stack.enter_async_context(build_submit_client())
        one, two = [
            await stack.enter_async_context(
                _replica(store, client, receiver.url, name=name, times=times)
            )
            for name in ("one", "two")
        ]
        yield World(receiver, (one, two))


async def test_each_part_is_announced_once_over_all_replicas(store: Store) -> None:
    """However often both see it; a part that is reached later is announced then."""
    async with _world(store, answer()) as world:
        half = [_standing(500_000), _standing(600_000, owner="ci")]
        await world.until(lambda: len(world.texts) == 2, *half)
        for _ in range(5):
            world.see(*half)
            await asyncio.sleep(0.02)
        after_half = len(world.texts)
        await world.until(lambda: len(world.texts) == 3, _standing(1_000_000), half[1])
        await asyncio.sleep(0.05)
    claims = [
        await RedisAlertMarks(store, replica="three").claim(Alert(each, 50), lease_ms=1)
        for each in half
    ]

    assert (2, 3) == (after_half, len(world.texts))
    assert [(Claim.DELIVERED, 0)] * 2 == claims
    assert [True, True, False] == ["has reached 50%" in text for text in world.texts]
    assert "has reached 100%" in world.texts[2]
    assert ["delivered"] * 3 == world.outcomes


async def test_a_receiver_that_is_down_gets_it_once_it_is_up(store: Store) -> None:
    """Tries are counted, the announcement is delivered once."""
    script = in_turn(answer(500), answer(503), answer(200), answer(200))
    async with _world(store, script) as world:
        await world.until(lambda: "delivered" in world.outcomes, _standing(500_000))
        for _ in range(5):
            world.see(_standing(500_000))
            await asyncio.sleep(0.02)

    assert ["delivered", "failed", "failed"] == sorted(world.outcomes)
    assert 3 == len(world.texts)


async def test_tries_are_farther_and_farther_apart(store: Store) -> None:
    """What failed is left alone until its pause is over."""
    times = replace(QUICK, first_retry_s=600.0, longest_retry_s=600.0)
    async with _world(store, answer(500), times) as world:
        await world.until(lambda: bool(world.outcomes), _standing(500_000))
        for _ in range(5):
            world.see(_standing(500_000))
            await asyncio.sleep(0.02)

    assert (["failed"], 1) == (world.outcomes, len(world.texts))


async def test_a_replica_that_dies_in_between_loses_it_to_another(store: Store) -> None:
    """Its claim runs out; a hanging receiver keeps nobody else from trying again."""
    times = replace(QUICK, lease_s=0.2)
    async with raw_server(in_turn(silent, answer())) as receiver, build_submit_client() as client:
        async with _replica(store, client, receiver.url, name="one", times=times) as one:
            one.alerts.see([_standing(500_000)])
            await receiver.asked.wait()
        async with (
            _replica(store, client, receiver.url, name="two", times=times) as two,
            asyncio.timeout(20),
        ):
            while not two.outcomes:
                two.alerts.see([_standing(500_000)])
                await asyncio.sleep(0.02)

    assert ([], ["delivered"], 2) == (one.outcomes, two.outcomes, len(receiver.requests))


async def test_a_window_that_is_over_is_announced_no_more(store: Store) -> None:
    """Nobody can do anything about it."""
    clock = FixedClock()
    day = _standing(1_000_000, per=Period.DAY, now_ms=NOON_MS)
    clock.advance(86_400)
    async with (
        raw_server(answer()) as receiver,
        build_submit_client() as client,
        _replica(store, client, receiver.url, name="one", clock=clock) as one,
    ):
        await one.alerts.announce([day])

    assert [] == receiver.requests


async def test_the_loop_outlives_the_store(store: Store, valkey_process: ValkeyProcess) -> None:
    """What is due while the store hangs is announced once it is back."""
    async with (
        Store(valkey_process.url, timeout_ms=100) as hasty,
        _world(hasty, answer()) as world,
    ):
        valkey_process.stop()
        try:
            world.see(_standing(500_000))
            await asyncio.sleep(0.3)
        finally:
            valkey_process.cont()
        before = list(world.texts)
        await world.until(lambda: bool(world.texts), _standing(500_000))

    assert ([], 1) == (before, len(world.texts))


def test_what_people_are_told() -> None:
    """Team, scope, budget, figures and the window's end, for people."""
    day = _standing(512_345, per=Period.DAY, now_ms=NOON_MS)
    total = _standing(990_000, owner="ci", per=Period.TOTAL)

    assert (
        "Team 'design': the 'day' budget of the team has reached 50%: $0.512345 of $1.00 (day) is"
        " spent (51%), $0.02 is held by calls in progress. It resets at 2026-11-24T00:00:00Z."
    ) == text_of(Alert(day, 50))
    assert (
        "Team 'design': a call did not fit into the 'total' budget of key 'ci': $0.99 of $1.00"
        " (total) is spent (99%), $0.02 is held by calls in progress. It does not reset."
    ) == text_of(Alert(total, 100, refused=True))
