"""A task while this process runs it: what only memory knows of it and of its renders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.domain.catalog import Offer
from gateway.domain.errors import BudgetState, InternalError
from gateway.domain.images import Size, StoredPicture
from gateway.domain.latency import Forecast, LatencyClass, size_class
from gateway.domain.task import Render, Task
from gateway.ledger.quotas import RateState
from gateway.tasks.interface import Call
from gateway.tasks.poller import Due
from gateway.tasks.price_books import Prices
from gateway.telemetry.traces import NO_SPAN, Span


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task as it can be answered: its renders with their results, and its budgets after them.

    `retry_after_s` is what the upstream asked for when it took nothing. `revised_prompts` are by
    render, and known only where the task has run: prompts are not kept.
    """

    task: Task
    budgets: tuple[BudgetState, ...] = ()
    retry_after_s: float | None = None
    revised_prompts: Mapping[int, str] = field(default_factory=dict, repr=False)

    @property
    def delivered(self) -> tuple[Render, ...]:
        """The renders whose picture is in the store."""
        return tuple(
            render
            for render in self.task.renders
            if render.result is not None and render.result.stored is not None
        )

    @property
    def cost_microusd(self) -> int:
        """What all renders cost together, so far."""
        return sum(
            render.result.cost_microusd for render in self.task.renders if render.result is not None
        )


class MovedError(Exception):
    """This process does not run the task any more; somebody else does."""


@dataclass(slots=True, eq=False)
class LiveRender:
    """One render while this process runs it; times are monotonic seconds.

    `asked_s` is when it was last polled, `forecasts` what the upstream said of its end, `called_s`
    when a callback came that no poll has belied yet (0: none did).

    `upstream_s` is how long it was the upstream's turn, in all tries.
    `passed_on` is its picture as the result link gives it, while the store does not take it.
    `revised_prompt` is what it was made of, where the upstream has refined that.
    `account` is who it was submitted as from here (`Provider.account`); empty where it was not.
    `stirred` is set when there is news: a callback (its claim in `candidate`), a cancellation.
    `span` is the render in its trace, `stage` the phase it is in below that.
    """

    live: LiveTask
    render: Render
    queued_s: float
    submitted_s: float = 0.0
    last_pending_s: float = 0.0
    asked_s: float = 0.0
    called_s: float = 0.0
    polls: int = 0
    upstream_s: float = 0.0
    forecasts: tuple[Forecast, ...] = ()
    candidate: str = ""
    account: str = ""
    due: Due | None = None
    passed_on: StoredPicture | None = None
    revised_prompt: str = field(default="", repr=False)
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    span: Span = NO_SPAN
    stage: Span = NO_SPAN

    @property
    def held_microusd(self) -> int:
        """What is held for it."""
        return self.live.task.hold.amount_microusd + self.render.raised_microusd

    @property
    def id(self) -> str:
        """The render's name among all, the same for every replica."""
        return f"{self.live.task.id}:{self.render.index}"

    @property
    def index(self) -> int:
        """Which picture of the task it is."""
        return self.render.index

    @property
    def has_news(self) -> bool:
        """Tell whether a callback came since it was last asked about."""
        return self.called_s > (self.asked_s if self.polls else 0.0)

    @property
    def at_hand(self) -> Render:
        """The render as it is answered: stored, or passed on from its link."""
        result = self.render.result
        if result is None or result.settled or self.passed_on is None:
            return self.render
        return replace(self.render, result=replace(result, stored=self.passed_on))

    def stir(self, candidate: str = "") -> None:
        """Look at it now; `candidate` is an upstream id that was claimed for it."""
        self.candidate = candidate or self.candidate
        self.stirred.set()
        if self.due is not None:
            self.due.hurry()


@dataclass(slots=True, eq=False)
class LiveTask:
    """What the engine knows of a task it runs; times are monotonic seconds.

    `offer` is None when the catalogue no longer has it. `prices` are what it is settled by, None
    until a task that was taken over has need of them. `phases_s` collects how long each phase
    took. `adopted` tasks were begun by another process: nothing is learned from their times.
    `call` is who waits for it, None where that is not known here; `left` when it does not any
    more, and `delivered` when its answer has left.
    `news` is set, and replaced, when a render has come to its end, when its picture can be passed
    on, and when the task has.
    """

    task: Task
    offer: Offer | None
    admitted_s: float
    budgets: tuple[BudgetState, ...]
    done: asyncio.Future[Outcome]
    prices: Prices | None = None
    rates: tuple[RateState, ...] = ()
    renders: list[LiveRender] = field(default_factory=list)
    phases_s: dict[str, float] = field(default_factory=dict)
    watchers: tuple[str, ...] = ()
    retry_after_s: float | None = None
    adopted: bool = False
    cancelled: bool = False
    call: Call | None = None
    left: bool = False
    delivered: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def add_renders(self, now_s: float) -> None:
        """Begin to run every render of the task."""
        self.renders = [LiveRender(self, render, queued_s=now_s) for render in self.task.renders]

    @property
    def current(self) -> Task:
        """The task with its renders as they are now."""
        return replace(self.task, renders=tuple(one.render for one in self.renders))

    @property
    def upstream_s(self) -> float:
        """How long the upstream was waited for: renders run side by side, the longest counts."""
        return max((one.upstream_s for one in self.renders), default=0.0)

    @property
    def outcome(self) -> Outcome:
        """What could be answered now."""
        at_hand = replace(self.task, renders=tuple(one.at_hand for one in self.renders))
        revised = {one.index: one.revised_prompt for one in self.renders if one.revised_prompt}
        return Outcome(at_hand, self.budgets, self.retry_after_s, revised)

    @property
    def latency_class(self) -> LatencyClass:
        """What is learned about how long it takes is learned together with these."""
        return LatencyClass(
            provider=self.task.order.provider,
            model=str(self.task.order.body.get("model", self.task.model)),
            operation=self.task.operation,
            quality=self.task.quality,
            size_class=size_class(Size.parse(self.task.size)),
        )

    @property
    def over(self) -> bool:
        """Tell whether nothing more will come."""
        return all(one.render.settled for one in self.renders)

    def pass_on(self, one: LiveRender, picture: StoredPicture) -> None:
        """Let a picture be had from its link, and tell who waits."""
        one.passed_on = picture
        self.tell()

    def tell(self) -> None:
        """Tell everybody who waits that there is news."""
        self.news.set()
        self.news = asyncio.Event()

    def resolve(self) -> None:
        """Tell everybody who waits that it is over."""
        if not self.done.done():
            self.done.set_result(self.outcome)
            self.tell()

    def break_off(self, error: InternalError | MovedError) -> None:
        """Tell everybody who waits that the end will not be seen here."""
        if not self.done.done():
            self.done.set_exception(error)
            # Seen here, so that a task nobody waits for is no warning.
            self.done.exception()
            self.tell()
