"""An engine on the real store, between an upstream and a fetcher that do what they are told.

Polls wait until a test runs them; clocks are the machine's, moved by hand.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeVar

from prometheus_client import CollectorRegistry

from gateway.assets.chunks import only
from gateway.assets.interface import Ingested, LinkDeadError, OpenPicture, PictureCutError
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.assets.straight import StraightAssets
from gateway.background import Background
from gateway.domain.catalog import Offer
from gateway.domain.ids import TeamId
from gateway.domain.images import (
    PLAIN_PNG,
    Output,
    Picture,
    References,
    StoredPicture,
    TokenUsage,
)
from gateway.domain.limits import Budget, Period
from gateway.domain.task import FailureKind, RenderState, SubmitOrder, Task
from gateway.ledger.catch_up import CatchUp
from gateway.ledger.organization import Organization
from gateway.ledger.outbox import Outbox
from gateway.providers.interface import Accepted, Finished, PollOutcome, SubmitOutcome
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from gateway.tasks.accounting import Accounting
from gateway.tasks.engine import Engine, Ticket
from gateway.tasks.gate import Capacity
from gateway.tasks.interface import Call
from gateway.tasks.latencies import Latencies, PollingLimits
from gateway.tasks.live import LiveTask, Outcome
from gateway.tasks.permits import RedisPermits
from gateway.tasks.poller import Due, Poller, PollStep
from gateway.tasks.price_books import PriceBooks
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.reference_links import ReferenceLinks
from gateway.tasks.replica import Replica
from gateway.tasks.shelf import Shelf
from gateway.tasks.steps import Chance, Patience, Surroundings
from gateway.tasks.turnstile import Turnstile
from gateway.tasks.wake import Wake
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.traces import NO_TRACER, Tracer
from tests.support.factories import a_team, an_admission, an_offer
from tests.support.journal import (
    KEEPING,
    LINK,
    LaterClock,
    a_journal,
    admitted,
    budgets_in,
    left_in,
)

T = TypeVar("T")

TEAM = a_team(budgets=(Budget(name="month", limit_microusd=1_000_000, per=Period.MONTH),))
OFFER = an_offer()
HOLD = 10_000
DONE = Finished(
    links=(LINK,),
    usage=TokenUsage(text_input=4, image_output=272),
    credits_used=Fraction("0.533"),
)
COST = 7_838  # 0.533 credits at 68 per dollar

#: How long the engine waits: to submit; for a submitted render; for one that is perhaps ordered.
PATIENCE = Patience(deadline_s=600.0, abandon_after_s=86_400.0, unknown_s=300.0)

#: So long a step may take on a busy machine before a test gives up on it.
SOON_S = 30.0


async def until(happened: Callable[[], bool]) -> None:
    """Return when it has happened; TimeoutError when it does not soon."""
    async with asyncio.timeout(SOON_S):
        while not happened():  # noqa: ASYNC110 - what is looked at sets no event
            await asyncio.sleep(0.005)


async def eventually(ask: Callable[[], Awaitable[T]]) -> T:
    """Return the first answer that is not empty; TimeoutError when there is none soon."""
    async with asyncio.timeout(SOON_S):
        while not (answer := await ask()):  # noqa: ASYNC110 - the store sets no event
            await asyncio.sleep(0.005)
    return answer


async def over(live: LiveTask) -> Outcome:
    """Return how a task ended; TimeoutError when it does not soon."""
    async with asyncio.timeout(SOON_S):
        return await asyncio.shield(live.done)


async def over_when_stirred(live: LiveTask) -> Outcome:
    """Return how a task ended, and let its renders look for news until then."""

    def settled() -> bool:
        for one in live.renders:
            one.stir()
        return live.done.done()

    await until(settled)
    return live.done.result()


@dataclass
class ScriptedProvider:
    """An upstream that answers what it is told to, in order; the last answer repeats.

    Without answers to submits it accepts them as up-1, up-2 and so on. `polls_of` are the answers
    about one task of it, where they are not those of `polls`.
    """

    submits: list[SubmitOutcome] = field(default_factory=list)
    polls: list[PollOutcome] = field(default_factory=lambda: [DONE])
    polls_of: dict[str, list[PollOutcome]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    orders: list[SubmitOrder] = field(default_factory=list)
    polled: list[str] = field(default_factory=list)
    before_submit: Callable[[], Coroutine[object, object, None]] | None = None
    during_poll: Callable[[], None] | None = None
    name: str = "evolink"
    min_poll_interval_s: float = 0.0
    proves_idempotency: bool = False
    account: str = "evolink:1"

    def use_key(self, api_key: str) -> None:
        """Never told: the tests say who asks by `account`."""
        raise AssertionError(api_key)

    def compose(self, offer: Offer, picture: Picture) -> SubmitOrder:
        """Never asked: the tests bring their orders."""
        raise AssertionError(offer, picture)

    def with_callback(self, order: SubmitOrder, url: str) -> SubmitOrder:
        """Name the address in the body."""
        return replace(order, body=order.body | {"callback_url": url})

    def with_references(self, order: SubmitOrder, urls: Sequence[str]) -> SubmitOrder:
        """Name the links in the body."""
        return replace(order, body=order.body | {"image_urls": [*urls]})

    async def submit(self, order: SubmitOrder, *, idempotency_key: str) -> SubmitOutcome:
        """Answer the next submit."""
        self.orders.append(order)
        self.keys.append(idempotency_key)
        number = len(self.keys)
        if self.before_submit is not None:
            await self.before_submit()
        return _next(self.submits) if self.submits else Accepted(f"up-{number}")

    async def poll(self, upstream_id: str) -> PollOutcome:
        """Answer the next poll."""
        self.polled.append(upstream_id)
        if self.during_poll is not None:
            self.during_poll()
        return _next(self.polls_of.get(upstream_id, self.polls))


def _next(answers: list[T]) -> T:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@dataclass
class ScriptedFetcher:
    """Stores pictures, after failing as often as it is told to."""

    failures: list[Exception] = field(default_factory=list)
    fetched: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    dead_links: bool = False
    before_fetch: Callable[[], None] | None = None
    #: How much each of the next copies brings of a picture that is cut off.
    cuts: list[int] = field(default_factory=list)
    beaten: list[int] = field(default_factory=list)

    async def ingest(
        self, link: str, key: str, output: Output, *, beats_bytes: int = -1
    ) -> Ingested:
        """Fail once for each failure, bring a part for each cut, then all of it."""
        self.outputs.append(output)
        self.fetched.append((link, key))
        if self.before_fetch is not None:
            self.before_fetch()
        if self.failures:
            raise self.failures.pop(0)
        self.beaten.append(beats_bytes)
        cut_bytes = self.cuts.pop(0) if self.cuts else None
        if cut_bytes is not None and cut_bytes <= beats_bytes:
            raise PictureCutError
        size_bytes = 3 if cut_bytes is None else cut_bytes
        picture = StoredPicture(key=key, size_bytes=size_bytes, format=output.format)
        return Ingested(picture, fetch_s=0.0, store_s=0.0, cut_bytes=cut_bytes)

    async def open(self, link: str, output: Output, *, chunk_bytes: int) -> OpenPicture:
        """Give the picture of a link that works; three bytes."""
        self.opened.append(link)
        if self.dead_links:
            raise LinkDeadError("HTTP 404")
        return OpenPicture(output.format, 3, only(b"abc"))


@dataclass
class ScriptedLinks:
    """Links to references: each answer once, or a name for each where there are no answers."""

    answers: list[Exception] = field(default_factory=list)
    asked: int = 0
    forgotten: list[SubmitOrder] = field(default_factory=list)
    dropped: list[References] = field(default_factory=list)

    async def urls(self, team: TeamId, order: SubmitOrder) -> tuple[str, ...]:
        """Fail once for each answer, then name a link for each reference."""
        self.asked += 1
        if self.answers:
            raise self.answers.pop(0)
        return tuple(f"https://files/{number}" for number in range(len(order.references.all)))

    async def forget(self, team: TeamId, order: SubmitOrder) -> None:
        """Note it."""
        self.forgotten.append(order)

    async def drop(self, team: TeamId, references: References) -> None:
        """Note it."""
        self.dropped.append(references)


class HandPoller(Poller):
    """Keeps polls, for the test to run when it likes."""

    def __init__(self, clock: LaterClock, background: Background) -> None:
        super().__init__(clock, background, max_concurrent=1)
        self._kept: list[tuple[float, Due]] = []

    def schedule(self, provider: str, delay_s: float, step: PollStep) -> Due:
        """Keep a poll."""
        due = Due(self._clock.monotonic_s() + delay_s, step, self._keep_anew)
        self._kept.append((delay_s, due))
        return due

    def _keep_anew(self, due: Due) -> None:
        self._kept = [kept for kept in self._kept if kept[1] is not due]
        self._kept.append((0.0, due))

    @property
    def delays_s(self) -> list[float]:
        """In how many seconds each poll was to be, when it was scheduled; in that order."""
        return [delay_s for delay_s, due in self._kept if due.waiting]

    async def poll(self, count: int = 1) -> list[float]:
        """Run the polls that wait, exactly so many; return the delays they were scheduled with.

        Raises what one of them raises, when all have run.
        """
        await until(lambda: len(self.delays_s) >= count)
        kept, self._kept = self._kept, []
        waiting = [(delay_s, due) for delay_s, due in kept if due.waiting]
        assert count == len(waiting)
        errors = []
        for _, due in waiting:
            due.waiting = False
            try:
                await due.step()
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]
        return [delay_s for delay_s, _ in waiting]


@dataclass
class House:
    """A replica as far as its engine, and what is around it."""

    engine: Engine
    provider: ScriptedProvider
    fetcher: ScriptedFetcher
    poller: HandPoller
    shelf: Shelf
    replica: Replica
    turnstile: Turnstile
    latencies: Latencies
    clock: LaterClock
    store: Store
    journal: RedisTaskStore
    outbox: Outbox
    background: Background
    metrics: Metrics
    #: The points where a crash would matter, in the order in which they were reached.
    points: list[str]

    async def call(
        self, task: str = "task1", *, images: int = 1, call: Call | None = None, trace: str = ""
    ) -> Ticket:
        """Make a call for low squares."""
        admission = an_admission(task, team=TEAM, images=images, hold_microusd=HOLD, call=call)
        return await self.engine.admit(replace(admission, trace=trace), OFFER)

    async def admit(self, task: str = "task1", *, images: int = 1) -> LiveTask:
        """Admit a call that becomes a task here."""
        ticket = await self.call(task, images=images)
        assert ticket.live is not None
        return ticket.live

    async def left_behind(
        self,
        *states: RenderState,
        task: str = "task1",
        output: Output = PLAIN_PNG,
        trace: str = "",
    ) -> Task:
        """Return a task whose replica died when its renders were in these states."""
        dead = a_journal(self.store, owner="replica_0", clock=self.clock)
        admission = replace(
            an_admission(task, team=TEAM, images=len(states), hold_microusd=HOLD),
            output=output,
            trace=trace,
        )
        left = (await admitted(dead, admission)).task
        for index, state in enumerate(states):
            left = await left_in(dead, left, state, index)
        return left

    async def take(self, task: Task) -> LiveTask:
        """Take a task over, and go on with it."""
        taken = await self.journal.take(task.team, task.id, owner=task.owner)
        assert taken is not None
        self.engine.adopt(taken)
        live = self.engine.running[task.id]
        # Its renders begin now, and not after the test has moved the clock.
        await asyncio.sleep(0)
        return live

    async def adopt(self, *states: RenderState) -> LiveTask:
        """Go on with a task whose replica died when its renders were in these states."""
        return await self.take(await self.left_behind(*states))

    async def picture(self, task: str = "task1") -> Outcome:
        """Admit a call, let its one render be polled once, and return how it ended."""
        live = await self.admit(task)
        await self.poller.poll()
        return await over(live)

    async def later(self, seconds: float) -> None:
        """Let this much time pass, and keep our place among the replicas."""
        self.clock.advance(seconds)
        await self.replica.renew()

    async def money(self) -> tuple[int, int]:
        """Return what is spent and held."""
        return (await budgets_in(self.store))["month"]

    async def written(self, task: str = "task1") -> Task:
        """Return a task as the journal tells it."""
        read = await self.journal.read(TEAM.id, an_admission(task).id)
        assert read is not None
        return read

    async def until_in(self, *states: RenderState, task: str = "task1") -> Task:
        """Return a task once the journal has its renders in these states."""

        async def reached() -> Task | None:
            read = await self.journal.read(TEAM.id, an_admission(task).id)
            if read is None or states != tuple(render.state for render in read.renders):
                return None
            return read

        found = await eventually(reached)
        assert found is not None
        return found

    def sample(self, name: str, **labels: str) -> float:
        """Return a metric's value, zero when it never moved."""
        return self.metrics.registry.get_sample_value(f"gateway_{name}", labels) or 0.0

    def called_in_vain(self, why: str) -> float:
        """Return how many callbacks told nothing new, for this reason."""
        return self.sample("callbacks_total", direction="in", outcome=why)

    def renders(self, outcome: str) -> float:
        """Return how many renders are counted with this outcome."""
        return self.sample(
            "renders_total", provider="evolink", model="gpt-image-1.5", outcome=outcome
        )

    @property
    def pictures_cut(self) -> float:
        """How many pictures were kept though they are cut off."""
        return self.sample("pictures_cut_total", provider="evolink")


def failures_of(outcome: Outcome) -> list[FailureKind | None]:
    """Return why each render of a task has no picture, in order; None where it has one."""
    return [
        render.result.failure if render.result is not None else None
        for render in outcome.task.renders
    ]


@asynccontextmanager
async def open_house(
    store: Store,
    *,
    owner: str = "replica_1",
    journal: type[RedisTaskStore] = RedisTaskStore,
    provider: ScriptedProvider | None = None,
    offer: Offer | None = OFFER,
    callback_url: Callable[[Task, int], Awaitable[str]] | None = None,
    references: ReferenceLinks | None = None,
    max_in_flight: int = 100,
    grace_s: float = 2.0,
    acknowledgement: Acknowledgement | None = None,
    shared: Sequence[Budget] = (),
    tracer: Tracer = NO_TRACER,
    correct: Callable[[Task, int, int], Awaitable[None]] | None = None,
) -> AsyncIterator[House]:
    """Run a replica's engine; by default the upstream accepts and is done at the first poll.

    `journal` may be one that misbehaves; `offer` is what the catalogue has for tasks of others.
    """
    clock, metrics = LaterClock(), Metrics(CollectorRegistry(), version="test")
    provider, fetcher = provider or ScriptedProvider(), ScriptedFetcher()
    tasks = journal(
        store,
        clock,
        owner=owner,
        keeping=KEEPING,
        tells_organization=bool(shared),
        acknowledgement=acknowledgement,
    )
    replica = Replica(store, clock, id=owner, lease_s=10.0)
    await replica.renew()
    turnstile = Turnstile(
        {"evolink": Capacity(max_in_flight, 0)},
        permits=RedisPermits(store, replica=owner),
        is_live=tasks.which_live,
        clock=clock,
    )
    limits = PollingLimits({"evolink": 0.0}, budget=6.0)
    latencies = Latencies(store, clock, limits=limits, priors=lambda _: None)
    organization = Organization(store, clock, shared)
    outbox = Outbox(store, organization, clock)
    points: list[str] = []
    async with Background(grace_s=grace_s) as background:
        background.loop("turnstile", turnstile.run)
        poller, shelf = HandPoller(clock, background), Shelf(tasks)
        straight = StraightAssets(
            ObjectAssetStore.open(AssetPlace("memory:")), {"evolink": fetcher}
        )
        house = Surroundings(
            store=tasks,
            providers={"evolink": provider},
            fetchers={"evolink": fetcher},
            straight=straight,
            poller=poller,
            organization=organization,
            catch_up=CatchUp(store, organization, outbox, tasks.teams),
            outbox=outbox,
            turnstile=turnstile,
            latencies=latencies,
            shelf=shelf,
            replica=replica,
            background=background,
            clock=clock,
            accounting=Accounting(metrics),
            patience=PATIENCE,
            chance=Chance(random_bytes=os.urandom, fraction=lambda: 0.0),
            references=references or ScriptedLinks(),
            price_books=PriceBooks(tasks.book),
            callback_url=callback_url,
            correct=correct,
            reached=points.append,
            tracer=tracer,
        )
        wake = Wake(store, id=owner)
        engine = Engine(house, wake, lambda _: offer)
        wake.listen(engine.hear)
        yield House(
            engine=engine,
            provider=provider,
            fetcher=fetcher,
            poller=poller,
            shelf=shelf,
            replica=replica,
            turnstile=turnstile,
            latencies=latencies,
            clock=clock,
            store=store,
            journal=tasks,
            outbox=outbox,
            background=background,
            metrics=metrics,
            points=points,
        )
