"""The way of a submitted render to its picture: followed, settled, fetched.

record_submitted ── poll … ── conclude ── ingest ── shelve
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from fractions import Fraction
from functools import partial

from gateway.assets.interface import (
    AssetUnavailableError,
    Ingested,
    LinkDeadError,
    LinkUnavailableError,
)
from gateway.domain.images import TokenUsage, remembered
from gateway.domain.latency import forecast_from_progress, noted
from gateway.domain.poll_plan import max_gap_s
from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis, estimate, final, possible
from gateway.domain.schedule import backoff_s
from gateway.domain.task import CURABLE_FAILURES, Event, FailureKind, RenderState
from gateway.providers.interface import Failed, Finished, Missing, PollFailed, PollOutcome, Running
from gateway.tasks.interface import Ending
from gateway.tasks.live import LiveRender
from gateway.tasks.patience import until_stored
from gateway.tasks.poller import Due
from gateway.tasks.scouts import WAIT_MAX_S
from gateway.tasks.steps import Steps
from gateway.tasks.submitting import GoOn
from gateway.telemetry.traces import active

#: How often a render that fails at no charge is submitted in all.
RENDER_TRIES = 3
#: A task the upstream does not know this soon after its submit is not known *yet* (rule 6).
MISSING_GRACE_S = 120.0

#: A picture that is cut off at the upstream is asked for so often in all, within some six seconds:
#: somebody may still be writing it. Then what there is of it is the picture.
CUT_TRIES = 6

#: A charge that had to be estimated is asked for this often and this long (rule 16: 30 s).
READ_AGAIN_TRIES, READ_AGAIN_EVERY_S = 6, 5.0


class Finishing:
    """Follows submitted renders to their end."""

    def __init__(self, steps: Steps, go_on: GoOn) -> None:
        self._steps = steps
        self._go_on = go_on

    def poll_later(self, one: LiveRender, retry_after_s: float | None = None) -> None:
        """Let the render be polled when it is due."""
        if self._held_back(one):
            return
        schedule = self._steps.house.latencies.schedule_for(one.live.latency_class)
        delay_s = schedule.delay_s(
            one.asked_s - one.submitted_s,
            # Whoever took a task over does not know when it was last polled.
            polls=max(one.polls, one.live.adopted),
            jitter=self._steps.house.chance.fraction(),
            forecasts=one.forecasts,
            retry_after_s=retry_after_s,
        )
        # Gaps are from question to question, however long the answer took.
        waited_s = self._steps.clock.monotonic_s() - one.asked_s
        delay_s -= waited_s
        if delay_s < 0 and not one.polls:
            # It was put off beyond its moment, and so were others: not all at once.
            delay_s = max_gap_s(waited_s) * self._steps.house.chance.fraction()
        if one.has_news and retry_after_s is None:
            # It came before there was a poll to hurry, or while one was on its way.
            delay_s = 0.0
        one.due = self._due(one, delay_s)

    def _due(self, one: LiveRender, delay_s: float) -> Due:
        return self._steps.house.poller.schedule(
            one.live.task.order.provider,
            max(delay_s, 0.0),
            lambda: self._steps.guarded(one.live, self.poll(one)),
        )

    def _held_back(self, one: LiveRender) -> bool:
        """Tell whether the first poll is put off until others have told how long it takes."""
        if one.polls or one.live.adopted or one.due is not None or one.has_news:
            return False

        def told() -> None:
            if one.due is not None and one.due.waiting:
                one.due.drop()
                self.poll_later(one)

        if not self._steps.house.latencies.holds_back(one.live.latency_class, told):
            return False
        one.due = self._due(one, WAIT_MAX_S)
        return True

    async def poll(self, one: LiveRender) -> None:
        """Ask once how a submitted render stands, and act on the answer."""
        if one.render.state is not RenderState.SUBMITTED:
            return
        one.asked_s = self._steps.clock.monotonic_s()
        with active(one.stage):
            outcome = await self._steps.provider(one).poll(one.render.upstream_id)
        one.polls += 1
        followed_s = self._steps.clock.monotonic_s() - one.submitted_s
        if isinstance(outcome, Finished):
            self._detected(one)
            await self._finish(one, outcome)
        elif isinstance(outcome, Failed):
            self._detected(one)
            await self._failed(one, outcome)
        elif followed_s > self._patience_s(outcome):
            self._steps.note(one, "lost")
            charge = possible(one.held_microusd)
            await self._steps.end(one, Event.LOSE, FailureKind.RESULT_LOST, charge=charge)
        else:
            if isinstance(outcome, Running):
                one.last_pending_s = one.asked_s
                elapsed_s = one.asked_s - one.submitted_s
                forecast = forecast_from_progress(outcome.progress, elapsed_s)
                one.forecasts = noted(one.forecasts, forecast)
                if one.called_s and not one.has_news:
                    one.called_s = 0.0
                    self._steps.house.latencies.misled(one.live.latency_class)
                    self._steps.accounting.called_in_vain("early")
            wait_s = outcome.retry_after_s if isinstance(outcome, PollFailed) else None
            self.poll_later(one, wait_s)

    def _detected(self, one: LiveRender) -> None:
        """Note and learn how long the render took; nothing when others have begun it."""
        one.stage.end()
        now_s = self._steps.clock.monotonic_s()
        self._steps.accounting.detected(one, now_s)
        if not one.live.adopted:
            self._steps.house.latencies.observe(
                one.live.latency_class,
                one.last_pending_s - one.submitted_s,
                now_s - one.submitted_s,
                one.forecasts,
                called_s=one.called_s - one.submitted_s if one.called_s else None,
            )

    def _patience_s(self, outcome: PollOutcome) -> float:
        """Return how long after its submit a task may still answer this way."""
        missing = isinstance(outcome, Missing)
        return MISSING_GRACE_S if missing else self._steps.house.patience.abandon_after_s

    async def _failed(self, one: LiveRender, failed: Failed) -> None:
        """End a failed render, or try again what another try may cure at no charge."""
        self._steps.note(one, "render_failed", kind=failed.kind, detail=failed.detail)
        charge = NO_CHARGE
        if failed.credits_used:
            charge = await self._charge(one, None, failed.credits_used)
        if (
            failed.kind in CURABLE_FAILURES
            and not charge.total_microusd
            and one.render.tries < RENDER_TRIES
            and self._steps.age_s(one) < self._steps.house.patience.deadline_s
            and not one.live.cancelled
        ):
            await self._steps.move(one, self._steps.store.retry)
            self._steps.house.turnstile.leave(one.live.task.order.provider, one.id)
            self._steps.accounting.tried_again(one)
            one.called_s = 0.0
            one.queued_s = self._steps.clock.monotonic_s()
            # By itself: it may wait for its turn, and polls must not wait with it.
            self._steps.start(one, "render", self._go_on(one))
            return
        await self._steps.end(one, Event.FAIL, failed.kind, charge=charge)

    async def _charge(
        self, one: LiveRender, usage: TokenUsage | None, credits_used: Fraction | None
    ) -> Charge:
        """Return what a render costs, by the prices that its task was quoted by."""
        task, prices = one.live.task, await self._steps.prices(one)
        if prices.book is None:
            self._steps.note(one, "offer_gone")
            return estimate(one.held_microusd)
        charge = final(
            prices.book,
            usage=usage,
            credits_used=credits_used,
            hold_microusd=one.held_microusd,
            picture=remembered(
                task.operation, size=task.size, quality=task.quality, references=task.references
            ),
        )
        # A bill that differs from other prices than the quoted ones is no sign of anything.
        return charge if prices.lack is None else replace(charge, drift_microusd=None)

    async def _finish(self, one: LiveRender, finished: Finished) -> None:
        self._steps.house.reached("finished")
        one.revised_prompt = finished.revised_prompt
        self._steps.tracing.made_by(one, finished.model)
        # Completed and empty is charged, and is a failure (rule 4).
        failure = None if finished.links else FailureKind.GENERATION_FAILED
        ending = Ending(
            event=Event.FINISH,
            charge=await self._charge(one, finished.usage, finished.credits_used),
            failure=failure,
            links=finished.links,
            usage=finished.usage,
        )
        await self._steps.conclude(one, ending)
        self._steps.accounting.used(one.live, finished.usage)
        if ending.charge.basis is ChargeBasis.ESTIMATE:
            self._read_again_later(one, ending.charge, tries=READ_AGAIN_TRIES)
        self._steps.house.reached("concluded")
        if failure is None:
            # By itself: a picture is fetched for as long as it takes.
            self._steps.start(one, "ingest", self.ingest(one))
        else:
            self._steps.settled(one)

    def _read_again_later(self, one: LiveRender, booked: Charge, *, tries: int) -> None:
        """Let the usage that the upstream did not tell be asked for once more (rule 16)."""
        prices = one.live.prices
        can_tell = prices is not None and prices.book is not None
        if tries and can_tell and self._steps.house.correct is not None:
            self._steps.house.poller.schedule(
                one.live.task.order.provider,
                READ_AGAIN_EVERY_S,
                lambda: self._read_again(one, booked, tries=tries - 1),
            )

    async def _read_again(self, one: LiveRender, booked: Charge, *, tries: int) -> None:
        outcome = await self._steps.provider(one).poll(one.render.upstream_id)
        charge = booked
        if isinstance(outcome, Finished):
            charge = await self._charge(one, outcome.usage, outcome.credits_used)
        if charge.basis is ChargeBasis.ESTIMATE:
            self._read_again_later(one, booked, tries=tries)
            return
        delta = charge.total_microusd - booked.total_microusd
        correct = self._steps.house.correct
        if delta and correct is not None:
            await until_stored(partial(correct, one.live.task, one.index, delta))
        self._steps.note(one, "estimate_corrected", delta_microusd=delta)

    async def _pass_on(self, one: LiveRender) -> None:
        """Let whoever waits have the picture from its link: the store may take it later."""
        picture = await self._steps.house.straight.straight(one.live.task, one.render)
        if picture is not None:
            one.live.pass_on(one, picture)

    async def ingest(self, one: LiveRender) -> None:
        """Copy the picture into the store; a picture that is paid for is tried until it is dead.

        Of one that is cut off the most that came is kept, while more of it is asked for.
        """
        started_s = self._steps.clock.monotonic_s()
        self._steps.tracing.stage(one, "fetch")
        task, result = one.live.task, one.render.result
        if result is None:
            raise AssertionError("only a concluded render has a picture")
        key = self._steps.house.straight.remember(task, one.render)
        fetcher = self._steps.house.fetchers[task.order.provider]
        ingested: Ingested | None = None
        for tries in itertools.count(1):
            known_bytes = -1 if ingested is None else ingested.cut_bytes or 0
            try:
                ingested = await fetcher.ingest(
                    result.links[0], key, task.output, beats_bytes=known_bytes
                )
            except (LinkUnavailableError, AssetUnavailableError) as error:
                self._steps.note(one, "ingest_failed", detail=type(error).__name__, tries=tries)
                if isinstance(error, AssetUnavailableError) and one.passed_on is None:
                    await self._pass_on(one)
                if (
                    self._steps.clock.monotonic_s() - started_s
                    > self._steps.house.patience.abandon_after_s
                ):
                    break
            except LinkDeadError as error:
                if ingested is None:
                    self._steps.note(one, "result_lost", detail=str(error))
                break
            if ingested is not None and (ingested.cut_bytes is None or tries >= CUT_TRIES):
                break
            await asyncio.sleep(backoff_s(tries, first_s=0.2, cap_s=30.0))
        stored = None if ingested is None else ingested.picture
        one.render = replace(one.render, result=replace(result, stored=stored, lost=stored is None))
        if ingested is not None:
            # Tries that failed were waits for the link, as a rule.
            elapsed_s = self._steps.clock.monotonic_s() - started_s
            self._steps.phase(one, "fetch", elapsed_s - ingested.store_s)
            self._steps.phase(one, "store", ingested.store_s)
            self._steps.tracing.stored(one, ingested.store_s)
            self._steps.accounting.stored(one.live, cut=ingested.cut_bytes is not None)
            self._steps.note(
                one,
                "stored" if ingested.cut_bytes is None else "stored_cut",
                size_bytes=ingested.picture.size_bytes,
            )
        self._steps.house.shelf.stored(task.team, task.id, one.index, stored)
        self._steps.house.reached("stored")
        self._steps.settled(one)
