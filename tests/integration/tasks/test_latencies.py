from __future__ import annotations

import asyncio
import math
from bisect import bisect_right

import pytest

from gateway.background import SystemClock
from gateway.domain.catalog import Catalog
from gateway.domain.errors import StoreUnavailable
from gateway.domain.images import Operation
from gateway.domain.latency import (
    LATENCY_GRID,
    Forecast,
    ForecastKind,
    LatencyClass,
    Lognormal,
)
from gateway.domain.schedule import PollLimits
from gateway.store.client import Store
from gateway.store.keyspace import latency_key
from gateway.tasks.heralds import LOOKED_AT, PROVEN_BY
from gateway.tasks.latencies import (
    ANY_LATENCY,
    FORGET_AFTER_S,
    HALF_LIFE_MS,
    HERALDED_BUDGET,
    KEEP_MS,
    MAX_WEIGHT,
    REFRESH_EVERY_S,
    Latencies,
    PollingLimits,
    Priors,
    priors_of,
)
from gateway.tasks.latencies import PROVEN_BY as PROVED_BY
from tests.support.clock import FixedClock, LoopClock, in_virtual_time
from tests.support.factories import a_model, an_offer

LOW = LatencyClass("evolink", "gpt-image-1.5", Operation.GENERATION, "low", "1k")
HIGH = LatencyClass("evolink", "gpt-image-1.5", Operation.GENERATION, "high", "1k")
LIMITS = PollingLimits({"evolink": 1.0}, budget=6.0)
BELIEF = Lognormal(8.7, 0.33)


def _now_ms() -> int:
    """Return the store's time: it runs on this machine."""
    return SystemClock().now_ms()


def _replica(store: Store, *, priors: Priors = lambda _: BELIEF) -> Latencies:
    """Open one replica's latencies, its clock at the store's time."""
    return Latencies(store, FixedClock(now_ms=_now_ms()), limits=LIMITS, priors=priors)


async def _weights(store: Store, name: str, renders: LatencyClass = LOW) -> list[float]:
    text = await store.command("HGET", latency_key(renders.name), name)
    assert isinstance(text, bytes)
    return [float(word) for word in text.split(b",")]


def _see(latencies: Latencies, count: int, *, pending_s: float, end_s: float) -> None:
    for _ in range(count):
        latencies.observe(LOW, pending_s, end_s)


def test_the_catalogue_is_asked_by_offer_and_quality() -> None:
    """A belief is found by provider, upstream model, operation and quality; others have none."""
    offer = an_offer()
    object.__setattr__(offer, "latency", {"low": BELIEF})
    priors = priors_of(Catalog({"gpt-image-1.5": a_model(offers=(offer,))}))

    assert BELIEF == priors(LOW)
    assert None is priors(HIGH)
    assert None is priors(LatencyClass("evolink", "gpt-image-1.5", Operation.EDIT, "low", "1k"))


async def test_before_anything_is_learned_the_catalogue_speaks(store: Store) -> None:
    """Schedule and quantiles are the belief's, without a word to the store."""
    latencies = _replica(store)
    schedule = latencies.schedule_for(LOW)
    p95_s = latencies.quantile(LOW, 0.95)

    assert p95_s == pytest.approx(8.7 * math.exp(0.33 * 1.645), rel=0.03)
    assert 3.0 < schedule.plan.points_s[schedule.plan.first] < 9.0
    assert 1.0 == schedule.delay_s(0.0, polls=0, jitter=0.5)
    assert 0 == await store.command("DBSIZE")


async def test_of_an_unknown_class_nothing_is_told(store: Store) -> None:
    """Where no catalogue and no render says anything, there is a schedule but no quantile."""
    latencies = _replica(store, priors=lambda _: None)

    assert None is latencies.quantile(LOW, 0.95)
    assert 15.0 == ANY_LATENCY.median
    assert 15.0 == pytest.approx(latencies.schedule_for(LOW).latencies.quantile(0.5), rel=0.03)
    _see(latencies, 3, pending_s=3.9, end_s=4.0)
    await latencies.refresh()
    assert latencies.quantile(LOW, 0.95) is not None


async def test_what_one_replica_sees_all_learn(store: Store) -> None:
    """Observations of one replica move the schedule of another, in the class they belong to."""
    one, other = _replica(store), _replica(store)
    before = other.schedule_for(LOW)
    _see(one, 200, pending_s=39.0, end_s=41.0)
    await one.refresh()
    await other.refresh()

    assert 40.0 == pytest.approx(one.quantile(LOW, 0.5), rel=0.05)
    assert 40.0 == pytest.approx(other.quantile(LOW, 0.5), rel=0.05)
    assert before is not other.schedule_for(LOW)
    assert 35.0 < other.schedule_for(LOW).delay_s(0.0, polls=0, jitter=0.5) < 42.0
    assert 8.7 == pytest.approx(other.quantile(HIGH, 0.5), rel=0.03)


async def test_batches_of_replicas_add_up(store: Store) -> None:
    """Each observation weighs one, and is handed in once."""
    one, other = _replica(store), _replica(store)
    _see(one, 2, pending_s=9.0, end_s=11.0)
    _see(other, 3, pending_s=0.0, end_s=10.0)
    for _ in range(3):
        await one.refresh()
        await other.refresh()

    written_ms = int(str(await store.command("HGET", latency_key(LOW.name), "at_ms"), "ascii"))
    assert abs(_now_ms() - written_ms) < 60_000
    assert 5.0 == pytest.approx(math.fsum(await _weights(store, "latency.1")), abs=0.01)
    assert LATENCY_GRID.buckets == len(await _weights(store, "latency.1"))


@pytest.mark.parametrize(
    ("pending_s", "end_s"), [(-1.0, 5.0), (5.0, 4.0), (0.0, math.inf), (math.nan, 1.0)]
)
async def test_what_cannot_be_is_not_learned(store: Store, pending_s: float, end_s: float) -> None:
    """An interval that is none is ignored."""
    latencies = _replica(store)
    latencies.observe(LOW, pending_s, end_s)
    await latencies.refresh()

    assert 0 == await store.command("DBSIZE")


async def test_busy_classes_forget_by_what_comes_in(store: Store) -> None:
    """Weights stay bounded, so that a change shows after about as many renders."""
    latencies = _replica(store)
    _see(latencies, 1_000, pending_s=9.9, end_s=10.0)
    await latencies.refresh()
    assert float(MAX_WEIGHT) == pytest.approx(
        math.fsum(await _weights(store, "latency.1")), rel=1e-3
    )
    for _ in range(10):
        _see(latencies, 100, pending_s=29.0, end_s=31.0)
        await latencies.refresh()

    assert float(MAX_WEIGHT) == pytest.approx(
        math.fsum(await _weights(store, "latency.1")), rel=1e-3
    )
    assert 30.0 == pytest.approx(latencies.quantile(LOW, 0.5), rel=0.05)


async def test_quiet_classes_forget_by_the_clock(store: Store) -> None:
    """After a half-life old observations count half, where they are kept and where they are read.

    The clock of the one that reads says how old they are.
    """
    latencies = _replica(store)
    _see(latencies, 100, pending_s=9.9, end_s=10.0)
    await latencies.refresh()
    past_ms = _now_ms() - HALF_LIFE_MS
    await store.command("HSET", latency_key(LOW.name), "at_ms", str(past_ms))
    reader = _replica(store)
    reader.schedule_for(LOW)
    await reader.refresh()
    _see(latencies, 1, pending_s=9.9, end_s=10.0)
    await latencies.refresh()

    believed = 20.0 * 20.0 / (20.0 + 50.0)
    assert 50.0 + believed == pytest.approx(reader.schedule_for(LOW).latencies.total, abs=0.1)
    assert 51.0 == pytest.approx(math.fsum(await _weights(store, "latency.1")), abs=0.1)
    assert (
        KEEP_MS - 60_000 < int(str(await store.command("PTTL", latency_key(LOW.name)))) <= KEEP_MS
    )


async def test_forecasts_are_compared_with_ends(store: Store) -> None:
    """A kind that proves right is in the schedule, one that nobody used is not."""
    latencies = _replica(store)
    told = Forecast(ForecastKind.FROM_40, 10.0)
    for _ in range(100):
        latencies.observe(LOW, 9.9, 10.1, [told])
    await latencies.refresh()
    ratios = latencies.schedule_for(LOW).ratios

    assert {ForecastKind.FROM_40} == set(ratios)
    assert 1.0 == pytest.approx(ratios[ForecastKind.FROM_40].quantile(0.5), abs=0.03)
    assert 1.3 > ratios[ForecastKind.FROM_40].quantile(0.9)


async def test_weights_of_other_releases_stay_as_they_are(store: Store) -> None:
    """A histogram this release does not know ages with the others and is kept."""
    await store.command("HSET", latency_key(LOW.name), "at_ms", str(_now_ms()))
    await store.command("HSET", latency_key(LOW.name), "latency.2", "1,2,3")
    latencies = _replica(store)
    _see(latencies, 1, pending_s=1.0, end_s=2.0)
    await latencies.refresh()

    kept = await _weights(store, "latency.2")
    assert [1.0, 2.0, 3.0] == pytest.approx(kept[:3], rel=1e-3)
    assert 0.0 == math.fsum(kept[3:])


async def test_small_news_leave_the_schedule_alone(store: Store) -> None:
    """Plans are made anew when a share of the observations has moved, not at every refresh."""
    latencies = _replica(store)
    _see(latencies, 300, pending_s=8.0, end_s=10.0)
    await latencies.refresh()
    schedule = latencies.schedule_for(LOW)
    _see(latencies, 1, pending_s=8.0, end_s=10.0)
    await latencies.refresh()
    assert schedule is latencies.schedule_for(LOW)
    _see(latencies, 50, pending_s=18.0, end_s=20.0)
    await latencies.refresh()

    assert schedule is not latencies.schedule_for(LOW)


async def test_other_beliefs_and_limits_may_come(store: Store) -> None:
    """Limits hold at once, a belief from the next refresh on; what was seen stays."""
    latencies = _replica(store)
    before = latencies.schedule_for(LOW)
    fewer = PollingLimits({"evolink": 2.0}, budget=3.0)
    slower = Lognormal(80.0, 0.33)
    latencies.believe(lambda _: slower, fewer)
    at_once = latencies.schedule_for(LOW)
    await latencies.refresh()
    later = latencies.quantile(LOW, 0.5)

    assert before.latencies == at_once.latencies
    assert at_once is not before
    assert at_once._limits == PollLimits(2.0, 3.0)
    assert later is not None
    assert later > 60


async def test_unused_classes_are_forgotten(store: Store) -> None:
    """A class nobody asked for is neither fetched nor kept here."""
    clock = FixedClock(now_ms=_now_ms())
    latencies = Latencies(store, clock, limits=LIMITS, priors=lambda _: BELIEF)
    latencies.schedule_for(LOW)
    clock.advance(FORGET_AFTER_S / 2)
    latencies.schedule_for(HIGH)
    clock.advance(FORGET_AFTER_S / 2 + 1)
    await latencies.refresh()

    assert [HIGH] == list(latencies._known)


async def test_a_batch_is_sent_once_at_most() -> None:
    """What a store that does not answer may have counted is not sent again; schedules go on."""
    async with Store("redis://127.0.0.1:1", timeout_ms=200) as down:
        latencies = Latencies(down, FixedClock(), limits=LIMITS, priors=lambda _: BELIEF)
        _see(latencies, 5, pending_s=8.0, end_s=10.0)
        with pytest.raises(StoreUnavailable):
            await latencies.refresh()

        assert {} == latencies._known[LOW].batch
        assert 0.0 < latencies.schedule_for(LOW).delay_s(0.0, polls=0, jitter=0.5)


def test_the_loop_outlives_the_store() -> None:
    """It tries again at the next time, for ever."""

    async def scenario() -> bool:
        async with Store("redis://127.0.0.1:1", timeout_ms=200) as down:
            latencies = Latencies(down, LoopClock(), limits=LIMITS, priors=lambda _: BELIEF)
            async with asyncio.TaskGroup() as group:
                loop = group.create_task(latencies.run())
                for _ in range(3):
                    _see(latencies, 1, pending_s=8.0, end_s=10.0)
                    await asyncio.sleep(REFRESH_EVERY_S + 1)
                alive = not loop.done() and not latencies._known[LOW].batch
                loop.cancel()
        return alive

    assert in_virtual_time(scenario())


async def test_where_ends_are_announced_polls_are_few(store: Store) -> None:
    """From the eighth callback on, until they stay away; one that was not true stays away, too."""
    latencies = _replica(store)
    before: list[float] = []

    def polls() -> float:
        return latencies.schedule_for(LOW).plan.polls

    for _ in range(2):
        _announced(latencies, PROVEN_BY - 1)
        before.append(polls())
        _announced(latencies, 1)
        before.append(polls())
        for _ in range(LOOKED_AT):
            latencies.misled(LOW)
    _announced(latencies, LOOKED_AT)
    trusted = polls()
    _see(latencies, 4, pending_s=14.0, end_s=15.0)

    assert before[0] > 3 > HERALDED_BUDGET >= before[1]
    assert [before[0]] * 3 == [before[2], before[3], polls()]
    assert trusted == before[1]


async def test_an_announced_end_is_learned_where_it_was(store: Store) -> None:
    """No poll said pending before it, and still it is not spread over all the time since."""
    latencies = _replica(store)
    _announced(latencies, 20, end_s=30.0)
    await latencies.refresh()
    learned = latencies.schedule_for(LOW).latencies

    weights = await _weights(store, "latency.1")
    for weighed in (weights, weights[bisect_right(LATENCY_GRID.edges, 28.0) :]):
        assert sum(weighed) == pytest.approx(20, rel=0.001)
    assert learned.quantile(0.9) == pytest.approx(30.0, rel=0.08)


def _announced(latencies: Latencies, count: int, *, end_s: float = 15.0) -> None:
    for _ in range(count):
        latencies.observe(LOW, 0.0, end_s, called_s=end_s - 0.01)


async def test_what_others_wait_for_is_handed_in_at_once(store: Store) -> None:
    """Of a new class nobody waits for the next exchange once enough was seen to begin with."""
    latencies = _replica(store)
    told = asyncio.Event()
    while not latencies.holds_back(LOW, told.set):
        continue
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(latencies.run())
        await asyncio.sleep(0)
        _see(latencies, PROVED_BY + 1, pending_s=4.0, end_s=5.0)
        async with asyncio.timeout(REFRESH_EVERY_S / 2):
            await told.wait()
        loop.cancel()

    assert not latencies.holds_back(LOW, told.set)
