"""What every step of a render shares: the journal, its patience with the store, and the log.

A step is written down before the next one may happen. When the store stalls, a step waits for it
and repeats its script; scripts are idempotent, and the counters move after the script was heard to
have run, so each moves once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from gateway.assets.interface import PictureFetcher
from gateway.assets.straight import StraightAssets
from gateway.background import Background
from gateway.domain.clock import Clock
from gateway.domain.errors import InternalError
from gateway.domain.pricing import NO_CHARGE, Charge
from gateway.domain.task import Event, FailureKind, Render, Task
from gateway.ledger.catch_up import CatchUp
from gateway.ledger.organization import Organization
from gateway.ledger.outbox import Outbox
from gateway.providers.interface import Provider
from gateway.tasks.accounting import Accounting
from gateway.tasks.interface import (
    Ending,
    OwnershipLostError,
    RecordMissingError,
    TaskStore,
)
from gateway.tasks.latencies import Latencies
from gateway.tasks.live import LiveRender, LiveTask, MovedError
from gateway.tasks.patience import until_stored
from gateway.tasks.poller import Poller
from gateway.tasks.price_books import PriceBooks, Prices
from gateway.tasks.reference_links import ReferenceLinks
from gateway.tasks.replica import Replica
from gateway.tasks.restoring import Restoring
from gateway.tasks.shelf import Shelf
from gateway.tasks.tracing import Tracing
from gateway.tasks.turnstile import Turnstile
from gateway.telemetry.traces import NO_TRACER, Tracer, trace_id_of

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: A verb of the journal that moves a render on.
Verb = Callable[[Task, Render], Awaitable[Render]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a render is waited for, in seconds.

    To be submitted; to end once it was; to turn up when nobody knows what became of it.
    """

    deadline_s: float
    abandon_after_s: float
    unknown_s: float


@dataclass(frozen=True, slots=True)
class Chance:
    """Where the engine's randomness comes from: bytes for ids, and numbers in [0, 1)."""

    random_bytes: Callable[[int], bytes]
    fraction: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a render needs of the house."""

    store: TaskStore
    providers: Mapping[str, Provider]
    fetchers: Mapping[str, PictureFetcher]
    straight: StraightAssets
    poller: Poller
    organization: Organization
    catch_up: CatchUp
    outbox: Outbox
    turnstile: Turnstile
    latencies: Latencies
    shelf: Shelf
    replica: Replica
    background: Background
    clock: Clock
    accounting: Accounting
    patience: Patience
    chance: Chance
    references: ReferenceLinks
    price_books: PriceBooks
    #: Where the upstream is to call back about a render; None where it cannot reach us. May raise
    #: StoreUnavailable.
    callback_url: Callable[[Task, int], Awaitable[str]] | None = None
    #: Writes down what a client is to be told; may raise StoreUnavailable.
    call_back: Callable[[Task], Awaitable[None]] | None = None
    #: Adds micro-dollars (or takes them back) to what was booked for a render, once.
    correct: Callable[[Task, int, int], Awaitable[None]] | None = None
    #: Whether the log may tell prompts apart, by their hashes.
    logs_prompt_hashes: bool = False
    #: Told where a render is, at every point where a crash would matter; for tests.
    reached: Callable[[str], None] = lambda _: None
    tracer: Tracer = NO_TRACER


class Steps:
    """The house as the steps of renders see it.

    `on_settled` hears of each render that nothing more will come of, `on_left` of tasks whose end
    will not be seen here.
    """

    def __init__(
        self,
        house: Surroundings,
        on_settled: Callable[[LiveTask], None],
        on_left: Callable[[LiveTask, InternalError | MovedError], None],
    ) -> None:
        self.house = house
        self.store = house.store
        self.clock = house.clock
        self.accounting = house.accounting
        self.tracing = Tracing(house.tracer)
        self.restoring = Restoring(house.store, house.organization, house.outbox, house.shelf)
        self._on_settled = on_settled
        self._on_left = on_left

    def start(self, one: LiveRender, name: str, work: Coroutine[object, object, None]) -> None:
        """Run a step of a render in the background."""
        self.house.background.step(name, self.guarded(one.live, work))

    async def guarded(self, live: LiveTask, work: Coroutine[object, object, None]) -> None:
        """Run a step; when it breaks, let nobody wait for it here, and leave it to recovery."""
        try:
            await work
        except OwnershipLostError:
            self._on_left(live, MovedError())
            log.info("task_moved", action="task_moved", task=live.task.id, team=live.task.team)
        except Exception:  # whatever broke, requests must not wait for it
            self._on_left(live, InternalError())
            raise

    def settled(self, one: LiveRender) -> None:
        """Say that nothing more will come of a render."""
        self.tracing.settled(one)
        self._on_settled(one.live)

    async def end(
        self, one: LiveRender, event: Event, failure: FailureKind, *, charge: Charge = NO_CHARGE
    ) -> None:
        """End a render without a picture."""
        if failure is FailureKind.BAD_REFERENCE:
            await self.house.references.forget(one.live.task.team, one.live.task.order)
        await self.conclude(one, Ending(event=event, charge=charge, failure=failure))
        self.settled(one)

    async def conclude(self, one: LiveRender, ending: Ending) -> None:
        """Settle or release, then count: each counter moves once however often this was tried."""
        concluded = await self.recorded(
            one.live, lambda: self.store.conclude(one.live.task, one.render, ending)
        )
        one.render = concluded.render
        if self.house.organization.has_budgets:
            self.house.outbox.note(one.live.task.team)
        self.house.turnstile.leave(one.live.task.order.provider, one.id)
        one.live.budgets, one.live.watchers = concluded.budgets, concluded.watchers
        self.accounting.concluded(one, ending)
        self.tracing.concluded(one, ending)
        self.note(
            one,
            "concluded",
            state=one.render.state,
            cost_microusd=ending.charge.total_microusd,
            basis=ending.charge.basis,
        )

    async def move(self, one: LiveRender, verb: Verb) -> None:
        """Write down that a render has moved on. Raises OwnershipLostError."""
        one.render = await self.recorded(one.live, lambda: verb(one.live.task, one.render))

    async def recorded(self, live: LiveTask, call: Callable[[], Awaitable[T]]) -> T:
        """Write a step down, however long the store takes; restore what it has lost (rule 18).

        Raises OwnershipLostError.
        """
        while True:
            try:
                return await until_stored(call)
            except (RecordMissingError, OwnershipLostError) as refusal:
                if not await self.restoring.restore(live):
                    raise OwnershipLostError(live.task.id) from refusal

    def provider(self, one: LiveRender) -> Provider:
        """Return the account that makes this render."""
        return self.house.providers[one.live.task.order.provider]

    async def prices(self, one: LiveRender) -> Prices:
        """Return what a render is settled by, however long the store takes to tell.

        Where those are not the prices its task was quoted by, that is counted and logged, once.
        """
        live = one.live
        if live.prices is None:
            found = await until_stored(partial(self.house.price_books.of, live.task, live.offer))
            # The task's other renders may have asked, too.
            if live.prices is None:
                live.prices = found
                if found.lack is not None:
                    self.accounting.repriced(live)
                    self.note(one, "repriced", lack=found.lack, book=live.task.book)
        return live.prices

    def age_s(self, one: LiveRender) -> float:
        """Return how long ago its task was admitted, by the calendar: others may have begun it."""
        return (self.clock.now_ms() - one.live.task.created_ms) / 1000

    def phase(self, one: LiveRender, phase: str, seconds: float) -> None:
        """Note how long a phase took."""
        self.accounting.render_phase(one, phase, seconds)

    def note(self, one: LiveRender, action: str, **fields: object) -> None:
        """Write a line about a render."""
        event = f"task_{action}"
        task = one.live.task
        if task.trace:
            fields["trace_id"] = trace_id_of(task.trace)
        log.info(
            event,
            action=event,
            task=task.id,
            render=one.index,
            team=task.team,
            provider=task.order.provider,
            **fields,
        )
