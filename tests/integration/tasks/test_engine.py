from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from prometheus_client import CollectorRegistry

from gateway.assets.interface import (
    AssetUnavailableError,
    LinkDeadError,
    LinkUnavailableError,
    StoredPicture,
)
from gateway.background import Background, SystemClock
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.catalog import Offer
from gateway.domain.errors import InternalError, StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import Picture, PictureFormat, TokenUsage
from gateway.domain.limits import Budget, Period
from gateway.domain.task import FailureKind, SubmitOrder, Task
from gateway.providers.interface import (
    Accepted,
    Failed,
    Finished,
    Missing,
    NotSent,
    PollFailed,
    PollOutcome,
    Rejected,
    Running,
    SubmitOutcome,
    Unknown,
)
from gateway.store.client import Store
from gateway.tasks.accounting import Accounting
from gateway.tasks.engine import Chance, Engine, EngineSettings
from gateway.tasks.interface import Admission
from gateway.tasks.live import Delivered, Ended, LiveTask
from gateway.tasks.poller import Poller, PollStep
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.shelf import Shelf
from gateway.telemetry.metrics import Metrics
from tests.support.factories import an_offer

TEAM = Team(
    id=TeamId("design"),
    models=("*",),
    budgets=(Budget(name="month", limit_microusd=1_000_000, per=Period.MONTH),),
)
HOLD = 10_000
DONE = Finished(
    links=("https://files.evolink.ai/x_0.png",),
    usage=TokenUsage(text_input=4, image_output=272),
    credits_used=Fraction("0.533"),
)
COST = 7_838  # 0.533 credits at 68 per dollar


class ShiftedClock(SystemClock):
    """The machine's clocks, moved forward by hand."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def monotonic_s(self) -> float:
        """Return the monotonic time plus the shift."""
        return super().monotonic_s() + self.shift_s


@dataclass
class ScriptedProvider:
    """An upstream that answers what it is told to, in order; the last answer repeats."""

    submits: list[SubmitOutcome]
    polls: list[PollOutcome]
    keys: list[str] = field(default_factory=list)
    orders: list[SubmitOrder] = field(default_factory=list)
    before_submit: Callable[[], Coroutine[object, object, None]] | None = None
    name: str = "evolink"
    min_poll_interval_s: float = 0.0

    def compose(self, offer: Offer, picture: Picture) -> SubmitOrder:
        """Never asked: the tests bring their orders."""
        raise AssertionError(offer, picture)

    async def submit(self, order: SubmitOrder, *, idempotency_key: str) -> SubmitOutcome:
        """Answer the next submit."""
        self.orders.append(order)
        self.keys.append(idempotency_key)
        if self.before_submit is not None:
            await self.before_submit()
        return self.submits.pop(0) if len(self.submits) > 1 else self.submits[0]

    async def poll(self, upstream_id: str) -> PollOutcome:
        """Answer the next poll."""
        assert upstream_id == "up-1"
        return self.polls.pop(0) if len(self.polls) > 1 else self.polls[0]


@dataclass
class ScriptedFetcher:
    """Stores a picture, after failing as often as it is told to."""

    failures: list[Exception] = field(default_factory=list)
    fetched: list[tuple[str, str]] = field(default_factory=list)

    async def ingest(self, link: str, key: str) -> StoredPicture:
        """Fail once for each failure, then succeed."""
        self.fetched.append((link, key))
        if self.failures:
            raise self.failures.pop(0)
        return StoredPicture(key=key, size_bytes=3, format=PictureFormat.PNG)


class HandPoller(Poller):
    """Collects polls, for the test to run when it likes."""

    def __init__(self, clock: SystemClock, background: Background) -> None:
        super().__init__(clock, background, max_concurrent=1)
        self.waiting: list[tuple[float, PollStep]] = []

    def schedule(self, provider: str, delay_s: float, step: PollStep) -> None:
        """Keep the poll."""
        assert provider == "evolink"
        self.waiting.append((delay_s, step))

    async def poll_once(self) -> float:
        """Run the only waiting poll; return the delay it was scheduled with."""
        for _ in range(200):
            if self.waiting:
                break
            await asyncio.sleep(0.01)
        [(delay_s, step)] = self.waiting
        self.waiting.clear()
        await step()
        return delay_s


@dataclass
class House:
    """An engine on the real store, between a scripted upstream and a scripted fetcher."""

    engine: Engine
    provider: ScriptedProvider
    fetcher: ScriptedFetcher
    poller: HandPoller
    shelf: Shelf
    clock: ShiftedClock
    store: Store
    metrics: Metrics

    async def admit(self) -> LiveTask:
        """Admit the one task of a test."""
        admission = Admission(
            id=TaskId("task1"),
            caller=Caller(team=TEAM, key=ApiKey("ci")),
            user="",
            images=1,
            model="gpt-image-1.5",
            size="1024x1024",
            quality="low",
            hold_microusd=HOLD,
            order=SubmitOrder("evolink", "evolink:1", {"prompt": "a red fox"}),
        )
        return await self.engine.admit(admission, an_offer())

    async def money(self) -> tuple[int, int]:
        """Return what is spent and held."""
        keys = await self.store.command("KEYS", "{t:design}:budget:*")
        assert isinstance(keys, list)
        reply = await self.store.command("HMGET", keys[0], "spent", "held")  # type: ignore[arg-type]
        assert isinstance(reply, list)
        spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
        return spent, held

    def sample(self, name: str, **labels: str) -> float:
        """Return a metric's value, zero when it never moved."""
        return self.metrics.registry.get_sample_value(f"gateway_{name}", labels) or 0.0


@pytest.fixture
async def house(store: Store) -> AsyncIterator[House]:
    """Build the engine; by default the upstream accepts and is done at the first poll."""
    clock = ShiftedClock()
    metrics = Metrics(CollectorRegistry(), version="test")
    provider = ScriptedProvider(submits=[Accepted("up-1")], polls=[DONE])
    fetcher = ScriptedFetcher()
    tasks = RedisTaskStore(store, clock, owner="replica_1", keep_ms=60_000)
    shelf = Shelf(tasks)
    async with Background(grace_s=2.0) as background:
        poller = HandPoller(clock, background)
        engine = Engine(
            store=tasks,
            providers={"evolink": provider},
            fetchers={"evolink": fetcher},
            poller=poller,
            shelf=shelf,
            background=background,
            clock=clock,
            accounting=Accounting(metrics),
            settings=EngineSettings(deadline_s=600.0, abandon_after_s=86_400.0),
            chance=Chance(random_bytes=os.urandom, fraction=lambda: 0.0),
        )
        yield House(engine, provider, fetcher, poller, shelf, clock, store, metrics)


async def ended(live: LiveTask) -> Ended:
    """Return how a task without a picture ended."""
    outcome = await live.wait(5.0)
    assert isinstance(outcome, Ended)
    return outcome


async def test_a_picture_is_held_submitted_polled_settled_and_stored(house: House) -> None:
    """The whole way: one submit under a key of its own, the true cost, the picture in the store."""
    live = await house.admit()
    assert (0, HOLD) == await house.money()
    await house.poller.poll_once()
    outcome = await live.wait(5.0)

    assert isinstance(outcome, Delivered)
    assert (COST, "design/task1/0") == (outcome.charge.total_microusd, outcome.picture.key)
    assert (COST, 0) == await house.money()
    [key] = house.provider.keys
    assert key.startswith("run_")
    assert [("https://files.evolink.ai/x_0.png", "design/task1/0")] == house.fetcher.fetched
    assert {"admit", "queue", "submit", "render", "fetch"} == live.phases_s.keys()
    assert 1 == house.sample(
        "renders_total", provider="evolink", model="gpt-image-1.5", outcome="completed"
    )
    assert 0 == house.sample("tasks_in_flight", provider="evolink")
    await house.shelf.flush()
    assert 0 == await house.store.command("ZCARD", "{t:design}:live")


async def test_the_journal_says_submitting_while_the_post_is_on_its_way(house: House) -> None:
    """Whoever reads the record during the POST sees that it must not be posted again."""
    seen: list[bytes] = []

    async def look() -> None:
        reply = await house.store.command("HGET", "{t:design}:task:task1", "state")
        assert isinstance(reply, bytes)
        seen.append(reply)

    house.provider.before_submit = look
    await house.admit()
    await house.poller.poll_once()

    assert [b"submitting"] == seen


async def test_not_sent_is_tried_again_under_a_new_key(house: House) -> None:
    """A proven non-connection is repeated; the upstream hears of one submission."""
    house.provider.submits = [NotSent("refused"), Accepted("up-1")]
    live = await house.admit()
    await house.poller.poll_once()

    assert isinstance(await live.wait(5.0), Delivered)
    assert 2 == len(set(house.provider.keys)) == len(house.provider.keys)


async def test_a_submit_that_won_its_turn_too_long_ago_is_not_posted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store took longer than five seconds to say yes, the attempt is given back."""
    tasks = house.engine._store
    begin = tasks.begin_submit
    slow = iter([True, False])

    async def begin_slowly(task: Task, attempt_id: str) -> Task:
        won = await begin(task, attempt_id)
        house.clock.shift_s += 6.0 if next(slow) else 0.0
        return won

    monkeypatch.setattr(tasks, "begin_submit", begin_slowly)
    live = await house.admit()
    await house.poller.poll_once()

    assert isinstance(await live.wait(5.0), Delivered)
    assert 1 == len(house.provider.keys)


@pytest.mark.parametrize(
    ("outcome", "failure", "spent", "tries"),
    [
        (NotSent("refused"), FailureKind.UPSTREAM_DOWN, 0, 3),
        (Rejected(FailureKind.MODERATION, "content_filter"), FailureKind.MODERATION, 0, 1),
        (Rejected(FailureKind.RATE_LIMITED, "slow", 7.0), FailureKind.RATE_LIMITED, 0, 1),
        (Unknown("no answer"), FailureKind.SUBMIT_UNKNOWN, HOLD, 1),
    ],
)
async def test_submits_that_bring_no_task(
    house: House, outcome: SubmitOutcome, failure: FailureKind, spent: int, tries: int
) -> None:
    """What was not created costs nothing; what nobody knows costs the hold and is not repeated."""
    house.provider.submits = [outcome]
    result = await ended(await house.admit())

    assert (failure, False) == (result.failure, result.submitted)
    assert (spent, 0) == await house.money()
    assert tries == len(house.provider.keys)
    assert spent / 1e6 == house.sample("possible_charge_usd_total", provider="evolink")
    assert getattr(outcome, "retry_after_s", None) == result.retry_after_s


async def test_deadline_ends_what_was_not_submitted(house: House) -> None:
    """A render that could not be sent within the deadline is released."""

    async def ten_minutes() -> None:
        house.clock.shift_s += 601.0

    house.provider.submits = [NotSent("refused")]
    house.provider.before_submit = ten_minutes
    result = await ended(await house.admit())

    assert FailureKind.DEADLINE == result.failure
    assert (0, 0) == await house.money()


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [
        (Running(progress=50), 1.0),
        (PollFailed("HTTP 500"), 1.0),
        (PollFailed("HTTP 429", retry_after_s=7.0), 7.0),
        (Missing(), 1.0),
    ],
)
async def test_answers_that_keep_polling(house: House, answer: PollOutcome, pause_s: float) -> None:
    """A task that runs, a question that failed, and a task not known yet are asked about again."""
    house.provider.polls = [answer, DONE]
    live = await house.admit()
    await house.poller.poll_once()
    delay_s = await house.poller.poll_once()

    assert isinstance(await live.wait(5.0), Delivered)
    assert pause_s == pytest.approx(delay_s, abs=0.2)
    assert 2 == live.polls


@pytest.mark.parametrize(
    ("answer", "after_s"), [(Missing(), 121.0), (Running(), 86_401.0), (PollFailed("x"), 86_401.0)]
)
async def test_tasks_that_cannot_be_found_again_count_as_spent(
    house: House, answer: PollOutcome, after_s: float
) -> None:
    """Missing for longer than two minutes, or unfinished after a day: lost, and perhaps charged."""
    house.provider.polls = [answer]
    live = await house.admit()
    await house.poller.poll_once()
    assert not live.outcome.done()
    house.clock.shift_s += after_s
    await house.poller.poll_once()
    result = await ended(live)

    assert (FailureKind.RESULT_LOST, True) == (result.failure, result.submitted)
    assert (HOLD, 0) == await house.money()


@pytest.mark.parametrize(
    ("credits_used", "spent"), [(None, 0), (Fraction(0), 0), (Fraction("0.533"), COST)]
)
async def test_a_failure_costs_what_the_upstream_says_it_billed(
    house: House, credits_used: Fraction | None, spent: int
) -> None:
    """Failures are free, unless the upstream reports a charge for one."""
    house.provider.polls = [Failed(FailureKind.GENERATION_FAILED, "it broke", credits_used)]
    live = await house.admit()
    await house.poller.poll_once()
    result = await ended(live)

    assert (FailureKind.GENERATION_FAILED, True) == (result.failure, result.submitted)
    assert (spent, 0) == await house.money()


async def test_completed_and_empty_is_charged_and_fails(house: House) -> None:
    """No picture in a completed task is a failure that costs money."""
    house.provider.polls = [Finished(links=(), usage=None, credits_used=Fraction("0.533"))]
    live = await house.admit()
    await house.poller.poll_once()

    assert FailureKind.GENERATION_FAILED == (await ended(live)).failure
    assert (COST, 0) == await house.money()


async def test_settlement_above_the_hold_is_booked_and_counted(house: House) -> None:
    """The upstream's truth is booked even when the hold was too small."""
    house.provider.polls = [Finished(DONE.links, DONE.usage, Fraction("0.816"))]
    live = await house.admit()
    await house.poller.poll_once()
    await live.wait(5.0)

    assert (12_000, 0) == await house.money()
    assert 0.002 == house.sample("hold_overrun_usd_total", team="design")


@pytest.mark.parametrize("error", [LinkUnavailableError(), AssetUnavailableError()])
async def test_storing_is_tried_until_it_works(house: House, error: Exception) -> None:
    """A paid picture is not given up because a link or a disk stumbles."""
    house.fetcher.failures = [error]
    live = await house.admit()
    await house.poller.poll_once()

    assert isinstance(await live.wait(5.0), Delivered)
    assert 2 == len(house.fetcher.fetched)


async def test_a_dead_link_loses_the_picture_and_keeps_the_charge(house: House) -> None:
    """What cannot be fetched is told as lost; the money is spent."""
    house.fetcher.failures = [LinkDeadError("HTTP 404")]
    live = await house.admit()
    await house.poller.poll_once()

    assert FailureKind.RESULT_LOST == (await ended(live)).failure
    assert (COST, 0) == await house.money()
    await house.shelf.flush()
    assert 0 == await house.store.command("ZCARD", "{t:design}:live")


async def test_a_record_the_store_lost_is_written_again_and_settled(house: House) -> None:
    """When the store comes back empty in the middle of a render, the books still get its cost."""
    live = await house.admit()
    for _ in range(200):
        if house.poller.waiting:
            break
        await asyncio.sleep(0.01)
    await house.store.command_everywhere("FLUSHALL")
    await house.poller.poll_once()

    assert isinstance(await live.wait(5.0), Delivered)
    assert (COST, 0) == await house.money()


async def test_waiting_ends_at_once_when_a_defect_breaks_the_task(house: House) -> None:
    """Nobody waits out the whole time for a step that broke; its hold is left for recovery."""
    house.provider.polls = []
    live = await house.admit()
    await asyncio.sleep(0.05)
    with pytest.raises(IndexError):
        await house.poller.poll_once()
    with pytest.raises(InternalError):
        await live.wait(5.0)

    assert (0, HOLD) == await house.money()
    assert 0 == house.sample("tasks_in_flight", provider="evolink")


async def test_a_caller_that_leaves_during_admission_leaves_the_task_running(
    house: House,
) -> None:
    """Cancelling the request cannot tear admission and submission apart."""
    admitting = asyncio.get_running_loop().create_task(house.admit())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    admitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await admitting
    await house.poller.poll_once()
    for _ in range(100):
        if await house.store.command("HGET", "{t:design}:task:task1", "state") == b"completed":
            break
        await asyncio.sleep(0.01)

    assert (COST, 0) == await house.money()


async def test_an_admission_nobody_heard_of_is_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store ran the admission and its answer was lost, the hold is released."""
    tasks = house.engine._store
    admit = tasks.admit

    async def admit_and_lose_the_answer(admission: Admission) -> None:
        await admit(admission)
        raise StoreUnavailable

    monkeypatch.setattr(tasks, "admit", admit_and_lose_the_answer)
    with pytest.raises(StoreUnavailable):
        await house.admit()
    for _ in range(100):
        if await house.money() == (0, 0):
            break
        await asyncio.sleep(0.01)

    assert (0, 0) == await house.money()
    assert [] == house.provider.keys
