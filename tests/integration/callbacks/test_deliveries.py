from __future__ import annotations

import pytest

from gateway.callbacks.deliveries import KEEP_MS, Claimed, Deliveries, Verdict
from gateway.callbacks.interface import (
    Callback,
    CallbackEvent,
    DeliveryState,
    DeliveryStatus,
)
from gateway.callbacks.orders import delivery_keys
from gateway.domain.ids import TaskId, TeamId
from gateway.store.client import Store
from gateway.store.keyspace import callback_key, callbacks_key
from tests.support.clock import NOON_MS, FixedClock

TEAM, TASK = TeamId("design"), TaskId("imgtask_1")
CALLBACK = Callback(
    TEAM, TASK, CallbackEvent.COMPLETED, "https://a.example/?t=s", '{"p":"größer\\n☃"}'.encode()
)
LEASE_MS = 20_000
DELIVERED = Verdict(DeliveryStatus.DELIVERED, "204")
FAILED = Verdict(DeliveryStatus.FAILED, "500")


@pytest.fixture
def clock() -> FixedClock:
    """Stand still at noon."""
    return FixedClock()


@pytest.fixture
async def deliveries(store: Store, clock: FixedClock) -> Deliveries:
    """Keep deliveries in the session's server."""
    return Deliveries(store, clock)


async def claimed(deliveries: Deliveries, claim: str = "one") -> Claimed:
    """Claim the callback, which must be due."""
    found = await deliveries.claim(TEAM, CALLBACK.id, claim, lease_ms=LEASE_MS)
    assert found is not None
    return found


def state(
    status: DeliveryStatus,
    *,
    tries: int = 0,
    last: str = "",
    next_try_ms: int | None = None,
    ended_ms: int | None = None,
) -> DeliveryState:
    """Return how far the callback is."""
    return DeliveryState(
        CALLBACK.id, CallbackEvent.COMPLETED, status, tries, last, next_try_ms, ended_ms
    )


async def test_a_callback_is_written_down_once(deliveries: Deliveries, clock: FixedClock) -> None:
    """It is pending and due at once; a repetition, whatever it says, changes nothing."""
    other = Callback(TEAM, TASK, CallbackEvent.COMPLETED, "https://b.example/", b"other")
    first = await deliveries.enqueue(CALLBACK)
    clock.advance(5)
    again = await deliveries.enqueue(other)

    assert (True, False) == (first, again)
    assert [(CALLBACK.id, NOON_MS)] == await deliveries.earliest(TEAM, count=9)
    assert (state(DeliveryStatus.PENDING, next_try_ms=NOON_MS),) == await deliveries.of_task(
        TEAM, TASK
    )
    assert CALLBACK.body == (await claimed(deliveries)).body


async def test_each_end_of_a_task_is_a_callback_of_its_own(deliveries: Deliveries) -> None:
    """Told in the order of the events; a task without any has none."""
    failed = Callback(TEAM, TASK, CallbackEvent.FAILED, CALLBACK.url, b"{}")
    await deliveries.enqueue(failed)
    await deliveries.enqueue(CALLBACK)

    told = await deliveries.of_task(TEAM, TASK)
    assert [CallbackEvent.COMPLETED, CallbackEvent.FAILED] == [entry.event for entry in told]
    assert () == await deliveries.of_task(TEAM, TaskId("imgtask_2"))


async def test_the_earliest_come_first(deliveries: Deliveries, clock: FixedClock) -> None:
    """In the order in which they are due, no more than asked for."""
    for number in range(3):
        await deliveries.enqueue(
            Callback(TEAM, TaskId(f"t{3 - number}"), CallbackEvent.FAILED, "https://a.ex/", b"{}")
        )
        clock.advance(1)

    assert [("evt_t3_failed", NOON_MS), ("evt_t2_failed", NOON_MS + 1000)] == (
        await deliveries.earliest(TEAM, count=2)
    )


async def test_a_claim_is_exclusive_until_its_lease_ends(
    deliveries: Deliveries, clock: FixedClock
) -> None:
    """Nobody else gets it meanwhile; then whoever asks, with everything in it."""
    await deliveries.enqueue(CALLBACK)
    first = await claimed(deliveries)
    clock.advance(19.999)
    early = await deliveries.claim(TEAM, CALLBACK.id, "two", lease_ms=LEASE_MS)
    clock.advance(0.001)
    second = await claimed(deliveries, "two")

    assert (CALLBACK.url, CALLBACK.body, 0) == (first.url, first.body, first.tries)
    assert early is None
    assert (first.id, first.body, "two") == (second.id, second.body, second.claim)


async def test_a_claim_may_be_repeated(deliveries: Deliveries, clock: FixedClock) -> None:
    """Asked again because the answer was lost, it is answered and not prolonged."""
    await deliveries.enqueue(CALLBACK)
    first = await claimed(deliveries)
    clock.advance(5)

    assert first == await claimed(deliveries)
    assert [(CALLBACK.id, NOON_MS + LEASE_MS)] == await deliveries.earliest(TEAM, count=1)


async def test_a_delivered_callback_is_over(
    deliveries: Deliveries, clock: FixedClock, store: Store
) -> None:
    """It leaves the queue, forgets address and body, and can be seen for a day."""
    await deliveries.enqueue(CALLBACK)
    attempt = await claimed(deliveries)
    clock.advance(1)

    assert await deliveries.record(attempt, DELIVERED)
    assert await deliveries.record(attempt, DELIVERED)
    assert [] == await deliveries.earliest(TEAM, count=1)
    assert await deliveries.claim(TEAM, CALLBACK.id, "two", lease_ms=1) is None
    ended = state(DeliveryStatus.DELIVERED, tries=1, last="204", ended_ms=NOON_MS + 1000)
    assert (ended,) == await deliveries.of_task(TEAM, TASK)
    key = callback_key(TEAM, CALLBACK.id)
    assert [None, None] == await store.command("HMGET", key, "url", "body")
    left_ms = await store.command("PTTL", key)
    assert isinstance(left_ms, int)
    assert KEEP_MS - 5_000 < left_ms <= KEEP_MS
    assert not await deliveries.enqueue(CALLBACK)


async def test_a_retry_is_due_when_it_was_said(deliveries: Deliveries, clock: FixedClock) -> None:
    """The attempt counts once, however often it is recorded, and then it is anybody's."""
    await deliveries.enqueue(CALLBACK)
    attempt = await claimed(deliveries)
    retry = Verdict(DeliveryStatus.PENDING, "timeout", due_ms=NOON_MS + 1000)

    assert await deliveries.record(attempt, retry)
    assert await deliveries.record(attempt, retry)
    told = state(DeliveryStatus.PENDING, tries=1, last="timeout", next_try_ms=NOON_MS + 1000)
    assert (told,) == await deliveries.of_task(TEAM, TASK)
    for claim in (attempt.claim, "two"):
        assert await deliveries.claim(TEAM, CALLBACK.id, claim, lease_ms=1) is None
    clock.advance(1)
    assert 1 == (await claimed(deliveries, "two")).tries


async def test_giving_up_is_an_end_too(deliveries: Deliveries) -> None:
    """A failed callback is seen with its last outcome and is not tried again."""
    await deliveries.enqueue(CALLBACK)

    assert await deliveries.record(await claimed(deliveries), FAILED)
    assert (state(DeliveryStatus.FAILED, tries=1, last="500", ended_ms=NOON_MS),) == (
        await deliveries.of_task(TEAM, TASK)
    )
    assert [] == await deliveries.earliest(TEAM, count=1)


@pytest.mark.parametrize("verdict", [FAILED, Verdict(DeliveryStatus.PENDING, "500", due_ms=1)])
async def test_who_lost_the_claim_decides_nothing(
    deliveries: Deliveries, clock: FixedClock, verdict: Verdict
) -> None:
    """An attempt longer than its lease ends neither the callback nor another's lease."""
    await deliveries.enqueue(CALLBACK)
    slow = await claimed(deliveries)
    clock.advance(20)
    await claimed(deliveries, "two")

    assert not await deliveries.record(slow, verdict)
    assert (state(DeliveryStatus.PENDING, next_try_ms=NOON_MS + 2 * LEASE_MS),) == (
        await deliveries.of_task(TEAM, TASK)
    )


async def test_a_delivery_is_a_fact_from_anybody(deliveries: Deliveries, clock: FixedClock) -> None:
    """What arrived has arrived, also after the lease; another's failure comes too late."""
    await deliveries.enqueue(CALLBACK)
    slow = await claimed(deliveries)
    clock.advance(20)
    other = await claimed(deliveries, "two")

    assert await deliveries.record(slow, DELIVERED)
    assert not await deliveries.record(other, FAILED)
    (told,) = await deliveries.of_task(TEAM, TASK)
    assert (DeliveryStatus.DELIVERED, 1) == (told.status, told.tries)


@pytest.mark.parametrize("first", [DELIVERED, FAILED])
async def test_an_end_is_final(deliveries: Deliveries, clock: FixedClock, first: Verdict) -> None:
    """What another attempt brings after it is not counted, a second delivery included."""
    await deliveries.enqueue(CALLBACK)
    slow = await claimed(deliveries)
    clock.advance(20)
    assert await deliveries.record(await claimed(deliveries, "two"), first)
    ended = await deliveries.of_task(TEAM, TASK)

    assert not await deliveries.record(slow, DELIVERED)
    assert ended == await deliveries.of_task(TEAM, TASK)


async def test_what_the_store_has_lost_is_dropped(deliveries: Deliveries, store: Store) -> None:
    """An entry of the queue without its record leaves the queue; recording for it is refused."""
    await deliveries.enqueue(CALLBACK)
    attempt = await claimed(deliveries)
    await store.command("DEL", callback_key(TEAM, CALLBACK.id))

    assert not await deliveries.record(attempt, DELIVERED)
    assert await deliveries.claim(TEAM, CALLBACK.id, "two", lease_ms=1) is None
    assert 0 == await store.command("ZCARD", callbacks_key(TEAM))


async def test_every_key_is_in_the_teams_slot(deliveries: Deliveries, store: Store) -> None:
    """Nothing is written elsewhere."""
    await deliveries.enqueue(CALLBACK)
    await claimed(deliveries)
    keys = await store.command("KEYS", "*")

    assert isinstance(keys, list)
    assert {key.encode() for key in delivery_keys(TEAM, CALLBACK.id)} == set(keys)
