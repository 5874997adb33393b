"""The way of a render to the upstream: won, posted once, and followed when nobody knows.

queued ── begin_submit ── POST ── record_submitted
  │           │            │
  │           │            └ nobody knows what became of it: `unknown`, never generated again
  │           └ killed here: the record says `submitting`, so nobody else posts it
  └ killed here: the record says `queued`, and nothing was sent
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial

import structlog

from gateway.domain.ids import ID_BYTES, make_attempt_id
from gateway.domain.latency import forecast_from_estimate, noted
from gateway.domain.money import MICROUSD_PER_USD, ceil_microusd
from gateway.domain.pricing import possible
from gateway.domain.schedule import backoff_s
from gateway.domain.task import Event, FailureKind, RenderState, SubmitOrder
from gateway.providers.interface import Accepted, Failed, Finished, NotSent, Rejected, Running
from gateway.tasks.gate import DeadlinePassedError
from gateway.tasks.interface import OwnershipLostError
from gateway.tasks.live import LiveRender
from gateway.tasks.patience import until_stored
from gateway.tasks.reference_links import NoLinkError
from gateway.tasks.steps import Steps
from gateway.telemetry.traces import active

log = structlog.get_logger(__name__)

#: A render that won the right to be posted is posted within this, or not at all (rule 1).
POST_WITHIN_S = 5.0
#: How often a submit is tried when it is proven that nothing was created.
SUBMIT_TRIES = 3
#: How often one is tried that the upstream has no room for; the account's pace spaces them out.
BUSY_TRIES = 5
#: An upstream that asks for a longer pause is not waited for: the client may come back.
WORTH_WAITING_S = 10.0
#: How often the journal is read again for the fate of a render that somebody else posted.
READ_AGAIN_S = 2.0
#: How often a render looks whether it may be submitted again after the store has stalled.
STEADY_AGAIN_S = 0.05
#: A hold is not raised to more than this multiple of itself: such an estimate is a mistake.
RAISE_LIMIT = 4


#: Goes on with a render from the state it is in now.
GoOn = Callable[[LiveRender], Coroutine[object, object, None]]


class Submitting:
    """Brings renders to the upstream."""

    def __init__(self, steps: Steps, go_on: GoOn) -> None:
        self._steps = steps
        self._go_on = go_on

    async def submit(self, one: LiveRender) -> None:
        """Bring a queued render to the upstream, or end it. Raises OwnershipLostError."""
        urls = await self._linked(one)
        if urls is not None:
            await self._submit(one, urls)

    async def _submit(self, one: LiveRender, urls: Sequence[str]) -> None:
        live = one.live
        provider = self._steps.provider(one)
        callback_url = await self._callback_url(one)
        for tries in itertools.count(1):
            self._steps.tracing.stage(one, "queue")
            await self._until_steady(one)
            if not await self._entered(one, returning=tries > 1):
                return await self._steps.end(one, Event.EXPIRE, FailureKind.DEADLINE)
            if live.cancelled:
                return await self._steps.end(one, Event.EXPIRE, FailureKind.WITHDRAWN)
            if live.done.done():
                raise OwnershipLostError(live.task.id)
            self._steps.house.reached("queued")
            won_s = self._steps.clock.monotonic_s()
            attempt_id = make_attempt_id(self._steps.house.chance.random_bytes(ID_BYTES))
            await self._steps.move(
                one, partial(self._steps.store.begin_submit, attempt_id=attempt_id, urls=urls)
            )
            self._steps.phase(one, "queue", self._steps.clock.monotonic_s() - one.queued_s)
            self._steps.note(one, "submitting", attempt=attempt_id)
            self._steps.house.reached("submitting")
            if self._steps.clock.monotonic_s() - won_s > POST_WITHIN_S:
                await self._steps.move(one, self._steps.store.record_not_sent)
                one.queued_s = self._steps.clock.monotonic_s()
                continue
            posted_s = self._steps.clock.monotonic_s()
            with active(self._steps.tracing.stage(one, "submit")):
                order, one.account = self._order(one, callback_url), provider.account
                outcome = await provider.submit(order, idempotency_key=attempt_id)
            self._steps.phase(one, "submit", self._steps.clock.monotonic_s() - posted_s)
            self._steps.house.reached("posted")
            if isinstance(outcome, Accepted):
                return await self._submitted(one, outcome)
            if isinstance(outcome, Rejected) and outcome.kind is not FailureKind.RATE_LIMITED:
                self._steps.note(one, "rejected", kind=outcome.kind, detail=outcome.detail)
                live.retry_after_s = outcome.retry_after_s
                return await self._steps.end(one, Event.REJECT, outcome.kind)
            if isinstance(outcome, NotSent | Rejected):
                if await self._sent_back(one, outcome, tries):
                    continue
                return None
            self._steps.note(one, "submit_unknown", detail=outcome.reason)
            return await self._lost_track(one)
        raise AssertionError("the loop only ends by returning")

    async def _callback_url(self, one: LiveRender) -> str:
        """Return where the upstream is to call back; empty where it cannot reach us.

        Known before it is the render's turn, as links are.
        """
        url = self._steps.house.callback_url
        return "" if url is None else await until_stored(partial(url, one.live.task, one.index))

    def _order(self, one: LiveRender, callback_url: str) -> SubmitOrder:
        """Return what is sent for a render: the same however often it is."""
        order, provider = one.live.task.order, self._steps.provider(one)
        if one.render.urls:
            order = provider.with_references(order, one.render.urls)
        return provider.with_callback(order, callback_url) if callback_url else order

    async def _linked(self, one: LiveRender) -> tuple[str, ...] | None:
        """Return links to what the render is made from; None when it has ended without them.

        They are there before it waits for its turn: whoever has it posts within seconds.
        """
        order = one.live.task.order
        if not order.references.pictures:
            return ()
        started_s = self._steps.clock.monotonic_s()
        self._steps.tracing.stage(one, "upload")
        for tries in itertools.count(1):
            left_s = self._steps.house.patience.deadline_s - self._steps.age_s(one)
            try:
                async with asyncio.timeout(max(left_s, 0.0)):
                    with active(one.stage):
                        urls = await self._steps.house.references.urls(one.live.task.team, order)
            except TimeoutError:
                await self._steps.end(one, Event.EXPIRE, FailureKind.DEADLINE)
                return None
            except NoLinkError as error:
                self._steps.note(one, "no_link", kind=error.kind, detail=str(error))
                if error.kind is not FailureKind.UPSTREAM_DOWN or tries >= SUBMIT_TRIES:
                    await self._steps.end(one, Event.EXPIRE, error.kind)
                    return None
                await asyncio.sleep(backoff_s(tries, first_s=0.2, cap_s=1.0))
                continue
            one.queued_s = self._steps.clock.monotonic_s()
            self._steps.phase(one, "upload", one.queued_s - started_s)
            self._steps.house.reached("uploaded")
            return urls
        raise AssertionError("the loop only ends by returning")

    async def _entered(self, one: LiveRender, *, returning: bool) -> bool:
        """Wait until the account takes one more render; False when the deadline passes first.

        A task that is cancelled waits no longer.
        """
        left_s = self._steps.house.patience.deadline_s - self._steps.age_s(one)
        if left_s <= 0:
            return False
        async with asyncio.TaskGroup() as group:
            entering = group.create_task(self._enter(one, left_s, returning=returning))
            while not entering.done() and not self._is_called_off(one):
                one.stirred.clear()
                stirred = group.create_task(one.stirred.wait())
                await asyncio.wait({entering, stirred}, return_when=asyncio.FIRST_COMPLETED)
                stirred.cancel()
            entering.cancel()
        return entering.cancelled() or entering.result()

    def _is_called_off(self, one: LiveRender) -> bool:
        """Tell whether a render is not to be submitted any more, or not by us."""
        return one.live.cancelled or one.live.done.done()

    async def _enter(self, one: LiveRender, left_s: float, *, returning: bool) -> bool:
        task = one.live.task
        try:
            await self._steps.house.turnstile.enter(
                task.order.provider, task.team, one.id, left_s, returning=returning
            )
        except DeadlinePassedError:
            return False
        return True

    async def _sent_back(self, one: LiveRender, outcome: NotSent | Rejected, tries: int) -> bool:
        """Note that nothing was created; tell whether to try again, else end it."""
        kind, retry_after_s = FailureKind.UPSTREAM_DOWN, None
        busy = isinstance(outcome, Rejected)
        if isinstance(outcome, Rejected):
            kind, retry_after_s = outcome.kind, outcome.retry_after_s
            self._steps.note(one, "busy", detail=outcome.detail)
            account, turnstile = one.live.task.order.provider, self._steps.house.turnstile
            turnstile.slow_down(account, one.id, retry_after_s)
            turnstile.leave(account, one.id)
        else:
            self._steps.note(one, "not_sent", detail=outcome.reason)
        await self._steps.move(one, self._steps.store.record_not_sent)
        one.queued_s = self._steps.clock.monotonic_s()
        is_far_off = (retry_after_s or 0.0) > WORTH_WAITING_S
        if is_far_off or tries >= (BUSY_TRIES if busy else SUBMIT_TRIES):
            one.live.retry_after_s = retry_after_s
            await self._steps.end(one, Event.EXPIRE, kind)
            return False
        if not busy:
            await asyncio.sleep(backoff_s(tries, first_s=0.2, cap_s=1.0))
        return True

    async def _submitted(self, one: LiveRender, accepted: Accepted) -> None:
        self._steps.tracing.stage(one, "render")
        now_s = self._steps.clock.monotonic_s()
        one.submitted_s = one.last_pending_s = one.asked_s = now_s
        one.forecasts = noted((), forecast_from_estimate(accepted.estimate_s))
        one.polls = 0
        await self._steps.move(
            one, partial(self._steps.store.record_submitted, upstream_id=accepted.upstream_id)
        )
        self._steps.note(one, "submitted", upstream_id=accepted.upstream_id)
        self._steps.house.reached("submitted")
        if self._steps.house.callback_url is not None and not await self._claimed(
            one, accepted.upstream_id
        ):
            # Somebody took a callback's word for it that was not true.
            log.critical("upstream_id_taken", action="upstream_id_taken", task=one.live.task.id)
        await self._raise_hold(one, accepted.credits_reserved)
        await self._go_on(one)

    async def _raise_hold(self, one: LiveRender, credits_reserved: Fraction | None) -> None:
        """Hold what the upstream has set aside when it is more than we have (rule 13)."""
        if credits_reserved is None or one.render.raised_microusd:
            return
        book = (await self._steps.prices(one)).book
        if book is None:
            return
        hold = one.live.task.hold.amount_microusd
        extra = ceil_microusd(credits_reserved * MICROUSD_PER_USD / book.credits_per_usd) - hold
        if extra <= 0:
            return
        if hold + extra > RAISE_LIMIT * hold:
            self._steps.note(one, "estimate_implausible", extra_microusd=extra)
            return
        await self._steps.recorded(
            one.live, partial(self._steps.store.raise_hold, one.live.task, one.render, extra)
        )
        one.render = replace(one.render, raised_microusd=extra)
        if self._steps.house.organization.has_budgets:
            self._steps.house.outbox.note(one.live.task.team)

    async def _lost_track(self, one: LiveRender) -> None:
        if not self._may_turn_up(one):
            return await self._write_off(one)
        await self._steps.move(one, self._steps.store.lose_track)
        await self.follow_unknown(one)
        return None

    def _may_turn_up(self, one: LiveRender) -> bool:
        """Tell whether anything but an operator can still tell what became of the render."""
        provider = self._steps.provider(one)
        calls_back = self._steps.house.callback_url is not None
        return one.live.adopted or provider.proves_idempotency or calls_back

    def _can_repeat(self, one: LiveRender) -> bool:
        """Tell whether the very same order, sent again, is known to be the same task.

        Only by the upstream's key that it was sent by: keys of idempotency may be known by that.
        """
        provider, order = self._steps.provider(one), one.live.task.order
        by_same_key = provider.account == (one.account or order.account)
        return provider.proves_idempotency and by_same_key and order.prompt is not None

    async def follow_unknown(self, one: LiveRender) -> None:
        """Wait for the fate of a render that was perhaps ordered: it is never ordered anew.

        Whoever posted it may still write down what became of it; the upstream may call back; and
        where that is proven, the very same order may be sent again under the same key.
        """
        provider = self._steps.provider(one)
        self._steps.tracing.stage(one, "follow")
        callback_url = await self._callback_url(one)
        until_s = self._steps.clock.monotonic_s() + self._steps.house.patience.unknown_s
        for tries in itertools.count(1):
            if one.candidate and await self._bind(one, one.candidate):
                return None
            if self._can_repeat(one):
                if not await self._noted_as_sent(one):
                    return await self._go_on(one)
                await self._until_steady(one)
            # Read before it asks: a process that stands still meanwhile asks once more.
            left_s = until_s - self._steps.clock.monotonic_s()
            if self._can_repeat(one) and self._steps.house.replica.may_submit():
                with active(one.stage):
                    outcome = await provider.submit(
                        self._order(one, callback_url), idempotency_key=one.render.attempt_id
                    )
                if isinstance(outcome, Accepted):
                    return await self._submitted(one, outcome)
            if left_s <= 0 or not self._may_turn_up(one):
                return await self._write_off(one)
            one.stirred.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, READ_AGAIN_S * min(tries, 5))):
                    await one.stirred.wait()
            if one.live.done.done():
                return None
            if await self._learned(one):
                return await self._go_on(one)
        raise AssertionError("the loop only ends by returning")

    async def _noted_as_sent(self, one: LiveRender) -> bool:
        """Write down that a render may be ordered, before we order it under another's key.

        From then on nobody's word counts that it was not sent: whoever posts it under this key
        knows of its own post alone. False when that has been said before; it can be begun anew.
        """
        if one.render.state is RenderState.SUBMITTING:
            try:
                await self._steps.move(one, self._steps.store.lose_track)
            except OwnershipLostError:
                if not await self._learned(one):
                    raise
                return False
        return True

    async def _learned(self, one: LiveRender) -> bool:
        """Read the journal; tell whether somebody has written down what became of the render."""
        read = await until_stored(
            partial(self._steps.store.read, one.live.task.team, one.live.task.id)
        )
        if read is None:
            return False
        written = read.renders[one.index]
        if written.state in (RenderState.SUBMITTING, RenderState.UNKNOWN):
            return False
        if written.progress < one.render.progress:
            return False  # the store has lost what is known here
        one.render = written
        return True

    async def _bind(self, one: LiveRender, candidate: str) -> bool:
        """Take an upstream id that a callback named, if the upstream itself knows it as ours."""
        one.candidate = ""
        provider = self._steps.provider(one)
        with active(one.stage):
            outcome = await provider.poll(candidate)
        if not isinstance(outcome, Running | Finished | Failed):
            self._steps.note(one, "callback_unproven")
            return False
        if not await self._claimed(one, candidate):
            self._steps.note(one, "callback_of_another")
            return False
        await self._submitted(one, Accepted(upstream_id=candidate))
        return True

    async def _claimed(self, one: LiveRender, upstream_id: str) -> bool:
        """Bind an upstream id to this render; False when it is another's."""
        account = one.live.task.order.account
        return await until_stored(partial(self._steps.store.claim, account, upstream_id, one.id))

    async def _write_off(self, one: LiveRender) -> None:
        """Book a render that nobody can account for as a possible charge."""
        self._steps.note(one, "written_off")
        charge = possible(one.held_microusd)
        await self._steps.end(one, Event.WRITE_OFF, FailureKind.SUBMIT_UNKNOWN, charge=charge)

    async def _until_steady(self, one: LiveRender) -> None:
        """Wait until our place among the replicas is certainly ours (rule 7)."""
        while not (one.live.cancelled or self._steps.house.replica.may_submit()):  # noqa: ASYNC110 - a place is lost by time passing, which sets no event
            await asyncio.sleep(STEADY_AGAIN_S)
