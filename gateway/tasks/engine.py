"""Carries a task from its hold to its picture. The only caller that settles or releases.

Admission writes the hold and the record in one script; from then on the task belongs to this
engine and not to the request, which merely waits. Each step is written down before the next one
may happen, so that the journal always tells how far a render can have come:

    admit ── begin_submit ── POST ── record_submitted ── poll … ── conclude ── ingest ── shelve
      │           │            │
      │           │            └ nobody knows what became of it: `unknown`, never posted again
      │           └ killed here: the record says `submitting`, so nobody else posts it
      └ killed here: the record says `queued`, and nothing was sent

When the store stalls, a step waits for it and repeats its script; scripts are idempotent, and the
counters move after the script was heard to have run, so each moves once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TypeVar

import structlog

from gateway.assets.interface import (
    AssetUnavailableError,
    LinkDeadError,
    LinkUnavailableError,
    PictureFetcher,
)
from gateway.background import Background
from gateway.domain.catalog import Offer
from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import ID_BYTES, make_attempt_id
from gateway.domain.images import TokenUsage
from gateway.domain.pricing import NO_CHARGE, Charge, final, possible
from gateway.domain.schedule import backoff_s, poll_delay_s
from gateway.domain.task import Event, FailureKind, Task
from gateway.providers.interface import (
    Accepted,
    Failed,
    Finished,
    Missing,
    NotSent,
    PollFailed,
    PollOutcome,
    Provider,
    Rejected,
    Running,
)
from gateway.tasks.accounting import Accounting
from gateway.tasks.interface import (
    Admission,
    Ending,
    OwnershipLostError,
    RecordMissingError,
    TaskStore,
)
from gateway.tasks.live import Delivered, Ended, LiveTask
from gateway.tasks.poller import Poller
from gateway.tasks.shelf import Shelf

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: A render that won the right to be posted is posted within this, or not at all (rule 1).
POST_WITHIN_S = 5.0
#: How often a submit is tried when it is proven that nothing was sent.
SUBMIT_TRIES = 3
#: A task the upstream does not know this soon after its submit is not known *yet* (rule 6).
MISSING_GRACE_S = 120.0


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How long a render may wait to be submitted, and how long a submitted one is followed."""

    deadline_s: float
    abandon_after_s: float


@dataclass(frozen=True, slots=True)
class Chance:
    """Where the engine's randomness comes from: bytes for ids, and numbers in [0, 1)."""

    random_bytes: Callable[[int], bytes]
    fraction: Callable[[], float]


class Engine:
    """Runs every task of this process."""

    def __init__(
        self,
        *,
        store: TaskStore,
        providers: Mapping[str, Provider],
        fetchers: Mapping[str, PictureFetcher],
        poller: Poller,
        shelf: Shelf,
        background: Background,
        clock: Clock,
        accounting: Accounting,
        settings: EngineSettings,
        chance: Chance,
    ) -> None:
        self._store = store
        self._providers = providers
        self._fetchers = fetchers
        self._poller = poller
        self._shelf = shelf
        self._background = background
        self._clock = clock
        self._accounting = accounting
        self._settings = settings
        self._chance = chance

    async def admit(self, admission: Admission, offer: Offer) -> LiveTask:
        """Hold the price and take the task over; return it as something to wait for.

        Raises what `TaskStore.admit` raises; nothing is submitted and nothing stays held then.
        Runs to its end even when the caller goes away.
        """
        return await self._background.shielded("admit", self._admit(admission, offer))

    async def _admit(self, admission: Admission, offer: Offer) -> LiveTask:
        started_s = self._clock.monotonic_s()
        try:
            admitted = await self._store.admit(admission)
        except StoreUnavailable:
            self._background.step(
                "give_up", self._until_stored(partial(self._store.give_up, admission))
            )
            raise
        live = LiveTask(
            task=admitted.task,
            offer=offer,
            team_label=admission.caller.team.id,
            admitted_s=self._clock.monotonic_s(),
            budgets=admitted.budgets,
            rates=admitted.rates,
            outcome=asyncio.get_running_loop().create_future(),
        )
        self._accounting.phase(live, "admit", live.admitted_s - started_s)
        self._accounting.admitted(live)
        self._step(live, "submit", self._submit(live))
        return live

    async def _submit(self, live: LiveTask) -> None:
        provider = self._providers[live.task.render.order.provider]
        queued_s = live.admitted_s
        for tries in itertools.count(1):
            if self._age_s(live) > self._settings.deadline_s:
                return await self._end(live, Event.EXPIRE, FailureKind.DEADLINE)
            won_s = self._clock.monotonic_s()
            attempt_id = make_attempt_id(self._chance.random_bytes(ID_BYTES))
            live.task = await self._recorded(
                live, partial(self._store.begin_submit, attempt_id=attempt_id)
            )
            self._accounting.phase(live, "queue", self._clock.monotonic_s() - queued_s)
            if self._clock.monotonic_s() - won_s > POST_WITHIN_S:
                live.task = await self._recorded(live, self._store.record_not_sent)
                queued_s = self._clock.monotonic_s()
                continue
            posted_s = self._clock.monotonic_s()
            outcome = await provider.submit(live.task.render.order, idempotency_key=attempt_id)
            self._accounting.phase(live, "submit", self._clock.monotonic_s() - posted_s)
            if isinstance(outcome, Accepted):
                return await self._submitted(live, provider, outcome)
            if isinstance(outcome, Rejected):
                self._note(live, "rejected", kind=outcome.kind, detail=outcome.detail)
                return await self._end(
                    live, Event.REJECT, outcome.kind, retry_after_s=outcome.retry_after_s
                )
            if isinstance(outcome, NotSent):
                self._note(live, "not_sent", detail=outcome.reason)
                live.task = await self._recorded(live, self._store.record_not_sent)
                if tries >= SUBMIT_TRIES:
                    return await self._end(live, Event.EXPIRE, FailureKind.UPSTREAM_DOWN)
                queued_s = self._clock.monotonic_s()
                await asyncio.sleep(backoff_s(tries, first_s=0.2, cap_s=1.0))
                continue
            self._note(live, "submit_unknown", detail=outcome.reason)
            return await self._end(
                live,
                Event.LOSE_TRACK,
                FailureKind.SUBMIT_UNKNOWN,
                charge=possible(live.task.hold.amount_microusd),
            )
        raise AssertionError("the loop only ends by returning")

    async def _submitted(self, live: LiveTask, provider: Provider, accepted: Accepted) -> None:
        live.submitted_s = live.last_pending_s = self._clock.monotonic_s()
        live.task = await self._recorded(
            live, partial(self._store.record_submitted, upstream_id=accepted.upstream_id)
        )
        self._note(live, "submitted", upstream_id=accepted.upstream_id)
        self._poll_later(live, provider)

    def _poll_later(
        self, live: LiveTask, provider: Provider, retry_after_s: float | None = None
    ) -> None:
        delay_s = poll_delay_s(
            self._clock.monotonic_s() - live.submitted_s,
            floor_s=provider.min_poll_interval_s,
            jitter=self._chance.fraction(),
            retry_after_s=retry_after_s,
        )
        self._poller.schedule(
            provider.name, delay_s, lambda: self._guarded(live, self._poll(live, provider))
        )

    async def _poll(self, live: LiveTask, provider: Provider) -> None:
        asked_s = self._clock.monotonic_s()
        outcome = await provider.poll(live.task.render.upstream_id)
        live.polls += 1
        followed_s = self._clock.monotonic_s() - live.submitted_s
        if isinstance(outcome, Finished):
            self._accounting.detected(live, provider, self._clock.monotonic_s())
            await self._finish(live, outcome)
        elif isinstance(outcome, Failed):
            self._accounting.detected(live, provider, self._clock.monotonic_s())
            self._note(live, "render_failed", kind=outcome.kind, detail=outcome.detail)
            await self._end(
                live, Event.FAIL, outcome.kind, charge=self._failed_charge(live, outcome)
            )
        elif followed_s > self._patience_s(outcome):
            await self._lose(live)
        else:
            if isinstance(outcome, Running):
                live.last_pending_s = asked_s
            wait_s = outcome.retry_after_s if isinstance(outcome, PollFailed) else None
            self._poll_later(live, provider, wait_s)

    def _failed_charge(self, live: LiveTask, failed: Failed) -> Charge:
        """Return what a failure cost: nothing, unless the upstream says it billed it."""
        if not failed.credits_used:
            return NO_CHARGE
        return self._charge(live, None, failed.credits_used)

    def _charge(
        self, live: LiveTask, usage: TokenUsage | None, credits_used: Fraction | None
    ) -> Charge:
        return final(
            live.offer.book,
            usage=usage,
            credits_used=credits_used,
            hold_microusd=live.task.hold.amount_microusd,
        )

    def _patience_s(self, outcome: PollOutcome) -> float:
        """Return how long after its submit a task may still answer this way."""
        missing = isinstance(outcome, Missing)
        return MISSING_GRACE_S if missing else self._settings.abandon_after_s

    async def _lose(self, live: LiveTask) -> None:
        """End a render whose fate, and so whose charge, nobody can tell any more."""
        self._note(live, "lost")
        charge = possible(live.task.hold.amount_microusd)
        await self._end(live, Event.LOSE, FailureKind.RESULT_LOST, charge=charge)

    async def _finish(self, live: LiveTask, finished: Finished) -> None:
        charge = self._charge(live, finished.usage, finished.credits_used)
        # Completed and empty is charged, and is a failure (rule 4).
        failure = None if finished.links else FailureKind.GENERATION_FAILED
        ending = Ending(
            event=Event.FINISH,
            charge=charge,
            failure=failure,
            links=finished.links,
            usage=None if finished.usage is None else asdict(finished.usage),
        )
        await self._conclude(live, ending)
        self._accounting.used(live, finished.usage)
        if failure is not None:
            self._resolve(live, Ended(failure, charge, live.budgets, submitted=True))
            return
        await self._ingest(live, finished, charge)

    async def _ingest(self, live: LiveTask, finished: Finished, charge: Charge) -> None:
        """Copy the picture into the store; a picture that is paid for is tried until it is dead."""
        started_s = self._clock.monotonic_s()
        key = f"{live.task.team}/{live.task.id}/0"
        fetcher = self._fetchers[live.task.render.order.provider]
        for tries in itertools.count(1):
            try:
                picture = await fetcher.ingest(finished.links[0], key)
            except (LinkUnavailableError, AssetUnavailableError) as error:
                self._note(live, "ingest_failed", detail=type(error).__name__, tries=tries)
                if self._clock.monotonic_s() - started_s > self._settings.abandon_after_s:
                    break
                await asyncio.sleep(backoff_s(tries, first_s=0.2, cap_s=30.0))
            except LinkDeadError as error:
                self._note(live, "result_lost", detail=str(error))
                break
            else:
                self._accounting.phase(live, "fetch", self._clock.monotonic_s() - started_s)
                self._accounting.stored(live)
                self._shelf.note(live.task.team, live.task.id)
                self._resolve(live, Delivered(picture, finished.usage, charge, live.budgets))
                return
        self._shelf.note(live.task.team, live.task.id)
        self._resolve(live, Ended(FailureKind.RESULT_LOST, charge, live.budgets, submitted=True))

    async def _end(
        self,
        live: LiveTask,
        event: Event,
        failure: FailureKind,
        *,
        charge: Charge = NO_CHARGE,
        retry_after_s: float | None = None,
    ) -> None:
        """End a task without a picture and tell whoever waits."""
        await self._conclude(live, Ending(event=event, charge=charge, failure=failure))
        submitted = bool(live.task.render.upstream_id)
        self._resolve(live, Ended(failure, charge, live.budgets, submitted, retry_after_s))

    async def _conclude(self, live: LiveTask, ending: Ending) -> None:
        """Settle or release, then count: each counter moves once however often this was tried."""
        live.budgets = await self._recorded(live, partial(self._store.conclude, ending=ending))
        live.task = replace(live.task, render=live.task.render.after(ending.event))
        self._accounting.concluded(live, ending)
        self._note(
            live,
            "concluded",
            state=live.task.render.state,
            cost_microusd=ending.charge.total_microusd,
            basis=ending.charge.basis,
        )

    def _resolve(self, live: LiveTask, outcome: Delivered | Ended) -> None:
        self._accounting.left(live)
        live.resolve(outcome)

    def _step(self, live: LiveTask, name: str, work: Coroutine[object, object, None]) -> None:
        self._background.step(name, self._guarded(live, work))

    async def _guarded(self, live: LiveTask, work: Coroutine[object, object, None]) -> None:
        """Run a step; when it breaks, let nobody wait for it, and leave its hold to recovery."""
        try:
            await work
        except Exception as error:  # whatever broke, requests must not wait for it
            self._accounting.left(live)
            live.break_off()
            if isinstance(error, OwnershipLostError):
                self._note(live, "ownership_lost")
                return
            raise

    async def _recorded(self, live: LiveTask, verb: Callable[[Task], Awaitable[T]]) -> T:
        """Write a step down, however long the store takes; write a lost record anew (rule 18)."""
        while True:
            try:
                return await self._until_stored(partial(verb, live.task))
            except RecordMissingError:
                log.critical("record_missing", action="record_missing", task=live.task.id)
                await self._until_stored(partial(self._store.restore, live.task))

    async def _until_stored(self, call: Callable[[], Awaitable[T]]) -> T:
        for failures in itertools.count(1):
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(backoff_s(failures, first_s=0.05, cap_s=1.0))
        raise AssertionError("the loop only ends by returning")

    def _age_s(self, live: LiveTask) -> float:
        return self._clock.monotonic_s() - live.admitted_s

    def _note(self, live: LiveTask, action: str, **fields: object) -> None:
        event = f"task_{action}"
        log.info(
            event,
            action=event,
            task=live.task.id,
            team=live.task.team,
            provider=live.task.render.order.provider,
            **fields,
        )
