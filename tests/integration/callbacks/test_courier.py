from __future__ import annotations

import asyncio
import secrets as randomness
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from gateway.background import Background, SystemClock
from gateway.callbacks.courier import Courier, CourierSettings
from gateway.callbacks.deliveries import Deliveries
from gateway.callbacks.interface import Callback, CallbackEvent, DeliveryState, DeliveryStatus
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.domain.clock import Clock
from gateway.domain.destinations import parse_allowed
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.network.clients import build_guarded_client
from gateway.network.guard import Guard
from gateway.store.client import Store
from tests.support.clock import FixedClock
from tests.support.couriers import stuck_courier
from tests.support.receiver import Names, make_authority, tls_server
from tests.support.sockets import (
    RawServer,
    Script,
    answer,
    closed_port,
    in_turn,
    raw_server,
    reset,
    silent,
)
from tests.support.valkey import ValkeyProcess

TEAM = TeamId("design")
LOCAL = Guard([parse_allowed("127.0.0.1")], lookup=Names({}))
SETTINGS = CourierSettings()


@dataclass
class Post:
    """A courier with everything around it."""

    courier: Courier
    deliveries: Deliveries
    background: Background
    told: list[str] = field(default_factory=list)

    async def send(self, url: str, *, team: TeamId = TEAM, task: str = "t1") -> None:
        """Write a callback down and wake the courier, as a settlement does."""
        await self.deliveries.enqueue(callback(url, team=team, task=task))
        self.courier.wake(team)

    async def round(self) -> None:
        """Do what is due now, to its end."""
        await self.courier.visit_due(teams)
        while self.background._steps:
            await asyncio.wait(set(self.background._steps))

    async def state(self, task: str = "t1") -> DeliveryState:
        """Return how far the callback of a task is."""
        (told,) = await self.deliveries.of_task(TEAM, TaskId(task))
        return told

    async def until_over(self, *tasks: str) -> None:
        """Wait until these callbacks are over."""

        async def over() -> bool:
            states = [await self.state(task) for task in tasks]
            return all(told.status is not DeliveryStatus.PENDING for told in states)

        await until(over)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds, for a minute at most."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.01)


def callback(url: str, *, team: TeamId = TEAM, task: str = "t1") -> Callback:
    """Return a callback to this URL."""
    body = f'{{"id":"{task}","status":"completed"}}'.encode()
    return Callback(team, TaskId(task), CallbackEvent.COMPLETED, url, body)


async def teams() -> Iterable[TeamId]:
    """Return the teams there are."""
    return (TEAM, TeamId("other"))


@asynccontextmanager
async def post_office(
    store: Store,
    clock: Clock,
    *,
    settings: CourierSettings = SETTINGS,
    guard: Guard = LOCAL,
    ca_file: str = "",
) -> AsyncIterator[Post]:
    """Open a courier on a store; leaving cuts off what it has in hand, as a kill does."""
    async with (
        build_guarded_client(guard, ca_file=ca_file) as client,
        Background(grace_s=0.0) as background,
    ):
        told: list[str] = []
        deliveries = Deliveries(store, clock)
        courier = Courier(
            deliveries=deliveries,
            secrets=TeamSecrets(store, clock, randomness.token_bytes),
            client=client,
            background=background,
            clock=clock,
            random_bytes=randomness.token_bytes,
            observe=told.append,
            settings=settings,
        )
        yield Post(courier, deliveries, background, told)


def ids(server: RawServer) -> list[str]:
    """Return the webhook-ids that a server saw."""
    return [seen.headers["webhook-id"] for seen in server.requests]


@pytest.fixture
def clock() -> FixedClock:
    """Stand still at noon."""
    return FixedClock()


@pytest.mark.parametrize("status", [200, 202, 204, 299])
async def test_any_2xx_is_a_success(store: Store, clock: FixedClock, status: int) -> None:
    """One POST of exactly the body, as JSON, and it is over."""
    script = answer(status, b"")
    async with raw_server(script) as server, post_office(store, clock) as post:
        await post.send(f"{server.url}/done?token=a")
        await post.round()
        clock.advance(100)
        await post.round()
        ended = await post.state()

    (seen,) = server.requests
    assert ("POST", "/done?token=a") == (seen.method, seen.target)
    assert b'{"id":"t1","status":"completed"}' == seen.body
    assert "application/json" == seen.headers["content-type"]
    assert "evt_t1_completed" == seen.headers["webhook-id"]
    assert (DeliveryStatus.DELIVERED, 1, str(status)) == (ended.status, ended.tries, ended.last)
    assert ["delivered"] == post.told


async def test_three_retries_after_1_2_and_4_seconds(store: Store, clock: FixedClock) -> None:
    """Each exactly then, with the same id and body and its own time; then it has failed."""
    posted_at_s = []
    async with raw_server(answer(500)) as server, post_office(store, clock) as post:
        await post.send(server.url)
        for half_seconds in range(60):
            before = len(server.requests)
            await post.round()
            if len(server.requests) > before:
                posted_at_s.append(half_seconds / 2)
            clock.advance(0.5)
        ended = await post.state()

    assert [0, 1, 3, 7] == posted_at_s
    assert ["evt_t1_completed"] * 4 == ids(server)
    assert 1 == len({seen.body for seen in server.requests})
    stamps = [int(seen.headers["webhook-timestamp"]) for seen in server.requests]
    assert [0, 1, 3, 7] == [stamp - stamps[0] for stamp in stamps]
    assert (DeliveryStatus.FAILED, 4, "500") == (ended.status, ended.tries, ended.last)
    assert ["retried", "retried", "retried", "failed"] == post.told


async def test_a_receiver_that_recovers_gets_it(store: Store, clock: FixedClock) -> None:
    """5xx, then 200: delivered at the second attempt."""
    script = in_turn(answer(503), answer(200))
    async with raw_server(script) as server, post_office(store, clock) as post:
        await post.send(server.url)
        await post.round()
        waiting = await post.state()
        clock.advance(1)
        await post.round()
        ended = await post.state()

    assert (DeliveryStatus.PENDING, 1, "503") == (waiting.status, waiting.tries, waiting.last)
    assert clock.now_ms() == waiting.next_try_ms
    assert (DeliveryStatus.DELIVERED, 2, "200") == (ended.status, ended.tries, ended.last)
    assert ["retried", "delivered"] == post.told


@pytest.mark.parametrize(
    ("script", "last"),
    [
        (silent, "timeout"),
        (reset, "no_answer"),
        (answer(404), "404"),
        (answer(301, headers={"Location": "http://127.0.0.1:1/"}), "301"),
    ],
)
async def test_whatever_is_no_2xx_is_tried_again(
    store: Store, clock: FixedClock, script: Script, last: str
) -> None:
    """Silence beyond the limit, a reset, an error and a redirect are told as what they are."""
    patience = replace(SETTINGS, timeout_s=0.2)
    async with (
        raw_server(script) as server,
        post_office(store, clock, settings=patience) as post,
    ):
        await post.send(server.url)
        await post.round()
        told = await post.state()

    assert 1 == server.connections
    assert (DeliveryStatus.PENDING, 1, last) == (told.status, told.tries, told.last)


def test_the_limit_of_an_attempt_is_ten_seconds() -> None:
    """protocols/evolink.md §6; and the lease is longer than an attempt can be."""
    assert 10.0 == SETTINGS.timeout_s
    assert SETTINGS.lease_margin_s > 0


@pytest.mark.parametrize(
    ("url", "last"),
    [
        ("http://127.0.0.1:{closed}/", "unreachable"),
        ("https://unknown.example/", "unreachable"),
        ("https://10.0.0.1/", "refused"),
        ("http://hooks.example/", "refused"),
    ],
)
async def test_what_cannot_be_reached_is_told(
    store: Store, clock: FixedClock, url: str, last: str
) -> None:
    """Nobody there, no such name, or refused by the guard at the attempt."""
    async with post_office(store, clock) as post:
        await post.send(url.format(closed=closed_port()))
        await post.round()

        assert last == (await post.state()).last


async def test_a_redirect_is_not_followed(store: Store, clock: FixedClock) -> None:
    """The place it leads to never hears of the task."""
    async with raw_server(answer()) as other:
        away = answer(308, headers={"Location": other.url})
        async with raw_server(away) as server, post_office(store, clock) as post:
            await post.send(server.url)
            await post.round()

    assert 1 == len(server.requests)
    assert 0 == other.connections


async def test_a_name_that_turned_inwards_is_not_called(store: Store, clock: FixedClock) -> None:
    """Good when the task was taken, local when it is told: refused at the attempt."""
    names = Names({"hooks.example": [["93.184.215.14"], ["127.0.0.1"]]})
    guard = Guard(lookup=names)
    async with raw_server(answer()) as inside, post_office(store, clock, guard=guard) as post:
        await guard.resolve("hooks.example", inside.port)
        await post.send(f"https://hooks.example:{inside.port}/")
        await post.round()
        told = await post.state()

    assert 0 == inside.connections
    assert "refused" == told.last


async def test_an_https_receiver_verifies_it(store: Store, tmp_path: Path) -> None:
    """Over TLS, by name, and its signature holds with both secrets while they rotate."""
    authority = make_authority(tmp_path)
    guard = Guard(
        [parse_allowed("hooks.internal")], lookup=Names({"hooks.internal": [["127.0.0.1"]]})
    )
    clock = SystemClock()
    kept = TeamSecrets(store, clock, randomness.token_bytes)
    await kept.of_team(TEAM)
    rotated = await kept.rotate(TEAM, grace_ms=60_000, who="test")
    async with (
        tls_server(authority, answer(), "hooks.internal") as server,
        post_office(store, clock, guard=guard, ca_file=authority.ca_file) as post,
    ):
        await post.send(f"https://hooks.internal:{server.seen.port}/")
        await post.round()
        ended = await post.state()

    (seen,) = server.seen.requests
    assert DeliveryStatus.DELIVERED is ended.status
    assert 2 == len(rotated.all)
    for secret in rotated.all:
        assert "t1" == Webhook(secret).verify(seen.body, seen.headers)["id"]


async def test_a_claim_of_a_dead_worker_holds_as_long_as_its_lease(
    store: Store, clock: FixedClock
) -> None:
    """Not before and not later than that, another posts."""
    async with raw_server(answer()) as server, post_office(store, clock) as post:
        await post.deliveries.enqueue(callback(server.url))
        await post.deliveries.claim(TEAM, "evt_t1_completed", "dead", lease_ms=20_000)
        for _ in range(4):
            await post.round()
            clock.advance(5)
        too_early = len(server.requests)
        await post.round()
        ended = await post.state()

    assert 0 == too_early
    assert ["evt_t1_completed"] == ids(server)
    assert DeliveryStatus.DELIVERED is ended.status


async def test_a_killed_workers_callback_is_taken_over(
    store: Store, valkey_process: ValkeyProcess
) -> None:
    """A process killed between its claim and the post: another delivers, under the same id."""
    names = Names({"hooks.internal": [["127.0.0.1"]]})
    guard = Guard([parse_allowed("hooks.internal")], lookup=names)
    after_the_lease = FixedClock(now_ms=SystemClock().now_ms() + 60_000)
    async with (
        raw_server(answer()) as server,
        post_office(store, after_the_lease, guard=guard) as post,
    ):
        await Deliveries(store, SystemClock()).enqueue(
            callback(f"http://hooks.internal:{server.port}/")
        )
        async with stuck_courier(valkey_process.url, TEAM) as process:
            process.kill()
            await process.wait()
        killed = await post.state()
        await post.round()
        ended = await post.state()

    assert (DeliveryStatus.PENDING, 0) == (killed.status, killed.tries)
    assert killed.next_try_ms is not None
    assert SystemClock().now_ms() < killed.next_try_ms
    assert ["evt_t1_completed"] == ids(server)
    assert DeliveryStatus.DELIVERED is ended.status


async def test_a_worker_killed_while_it_posts_is_followed_by_another(
    store: Store, clock: FixedClock
) -> None:
    """What may have arrived is told again under the same id: at least once."""
    async with raw_server(in_turn(silent, answer())) as server:
        async with post_office(store, clock) as killed:
            await killed.send(server.url)
            await killed.courier.visit_due(teams)
            await server.asked.wait()
        clock.advance(SETTINGS.timeout_s + SETTINGS.lease_margin_s)
        async with post_office(store, clock) as post:
            await post.round()
            ended = await post.state()

    assert ["evt_t1_completed"] * 2 == ids(server)
    assert (DeliveryStatus.DELIVERED, 1) == (ended.status, ended.tries)


async def test_replicas_share_the_work(store: Store) -> None:
    """Two run on one store, woken alike: every callback is posted once."""
    names = [f"t{number}" for number in range(40)]
    clock = SystemClock()
    async with (
        raw_server(answer()) as server,
        post_office(store, clock) as one,
        post_office(store, clock) as two,
    ):
        one.background.loop("one", lambda: one.courier.run(teams))
        two.background.loop("two", lambda: two.courier.run(teams))
        for name in names:
            await one.send(server.url, task=name)
            two.courier.wake(TEAM)
        await one.until_over(*names)

    assert sorted(f"evt_{name}_completed" for name in names) == sorted(ids(server))
    assert 40 == len(one.told) + len(two.told)


async def test_the_loop_keeps_its_times(store: Store) -> None:
    """Retries come when they are due, long before the next sweep, and nobody has to wake it."""
    quick = replace(SETTINGS, retry_after_s=(0.05, 0.05, 0.05), sweep_s=60.0)
    script = in_turn(answer(500), answer(500), answer(200))
    clock = SystemClock()
    async with raw_server(script) as server, post_office(store, clock, settings=quick) as post:
        await post.deliveries.enqueue(callback(server.url))
        post.background.loop("courier", lambda: post.courier.run(teams))
        await post.until_over("t1")

        assert ("courier",) == post.background.running_loops

    assert 3 == len(server.requests)


async def test_a_sweep_finds_what_nobody_told_of(store: Store) -> None:
    """A callback that another replica wrote down is found without a word."""
    swept = replace(SETTINGS, sweep_s=0.05)
    clock = SystemClock()
    async with raw_server(answer()) as server, post_office(store, clock, settings=swept) as post:
        post.background.loop("courier", lambda: post.courier.run(teams))
        await asyncio.sleep(0.02)
        await post.deliveries.enqueue(callback(server.url))
        await post.until_over("t1")

    assert 1 == len(server.requests)


async def test_a_slow_receiver_holds_up_its_own_team_only(store: Store, clock: FixedClock) -> None:
    """A team never has more than its share in hand; the others go on."""
    few = replace(SETTINGS, max_concurrent=3, max_concurrent_per_team=2)
    async with (
        raw_server(silent) as slow,
        raw_server(answer()) as good,
        post_office(store, clock, settings=few) as post,
    ):
        for number in range(4):
            await post.send(slow.url, task=f"slow{number}")
        await post.send(good.url, team=TeamId("other"), task="good")
        await post.courier.visit_due(teams)

        async def both_asked() -> bool:
            return bool(good.requests) and 2 == len(slow.requests)

        await until(both_asked)
        await post.courier.visit_due(teams)
        await asyncio.sleep(0.05)

        assert 2 == slow.connections


async def test_who_found_no_place_is_called_when_there_is_one(store: Store) -> None:
    """With every place taken by another team, the end of an attempt makes room, not the sweep."""
    one = replace(SETTINGS, max_concurrent=1, max_concurrent_per_team=1, sweep_s=60.0)
    other = TeamId("other")
    clock = SystemClock()
    async with raw_server(answer()) as server, post_office(store, clock, settings=one) as post:
        for number in range(3):
            await post.send(server.url, task=f"t{number}")
            await post.send(server.url, team=other, task=f"o{number}")
        post.background.loop("courier", lambda: post.courier.run(teams))

        async def all_told() -> bool:
            return 6 == len(server.requests)

        await until(all_told)

    assert 6 == len(set(ids(server)))


async def test_a_store_that_hangs_ends_nothing(store: Store, valkey_process: ValkeyProcess) -> None:
    """While the store is silent nothing is told and nothing dies; afterwards it goes on."""
    # A claim whose answer was lost may count: its lease must end before the test does.
    swept = replace(SETTINGS, sweep_s=0.05, timeout_s=0.2, lease_margin_s=0.2)

    async def unavailable() -> Iterable[TeamId]:
        raise StoreUnavailable

    async with (
        Store(valkey_process.url, timeout_ms=100) as hasty,
        raw_server(answer()) as server,
        post_office(hasty, SystemClock(), settings=swept) as post,
    ):
        await post.send(server.url)
        await post.courier.visit_due(unavailable)
        valkey_process.stop()
        try:
            post.background.loop("courier", lambda: post.courier.run(teams))
            await asyncio.sleep(0.3)
            silent_meanwhile = not server.requests
        finally:
            valkey_process.cont()
        await post.until_over("t1")

        assert ("courier",) == post.background.running_loops

    assert silent_meanwhile
    assert {"evt_t1_completed"} == set(ids(server))


async def test_an_outcome_is_not_lost_to_a_store_that_stalls(
    store: Store, valkey_process: ValkeyProcess
) -> None:
    """A stall right after the post costs no second post: the outcome is written a moment later."""
    ok = answer()

    async def stall(writer: asyncio.StreamWriter) -> None:
        valkey_process.stop()
        asyncio.get_running_loop().call_later(0.25, valkey_process.cont)
        await ok(writer)

    async with (
        Store(valkey_process.url, timeout_ms=100) as hasty,
        raw_server(stall) as server,
        post_office(hasty, SystemClock()) as post,
    ):
        await post.send(server.url)
        await post.round()
        ended = await post.state()

    assert 1 == len(server.requests)
    assert (DeliveryStatus.DELIVERED, 1) == (ended.status, ended.tries)
    assert ["delivered"] == post.told


async def test_nothing_that_is_logged_tells_the_address(
    store: Store, clock: FixedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Addresses carry tokens in their query; the log names the delivery instead."""
    async with raw_server(answer(500)) as server, post_office(store, clock) as post:
        await post.send(f"{server.url}/?token=secret")
        await post.round()
    printed = capsys.readouterr()

    assert "evt_t1_completed" in printed.out + printed.err
    assert "secret" not in printed.out + printed.err
