"""Carries tasks from their hold to their pictures. The only caller that settles or releases.

Admission writes the hold and the record in one script; from then on the task belongs to this
engine and not to the request, which merely waits. A task may change hands: this engine takes over
what other replicas leave behind, and hands over what it has when its process is to stop.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from gateway.domain.catalog import Offer
from gateway.domain.errors import InternalError, StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import RenderState, Task
from gateway.tasks.admissions import place_of
from gateway.tasks.admitting import Admitting
from gateway.tasks.interface import Admission, Admitted, Call, Joined
from gateway.tasks.live import LiveTask, MovedError
from gateway.tasks.patience import until_stored
from gateway.tasks.price_books import Prices
from gateway.tasks.reconciling import Reconciler
from gateway.tasks.rendering import Rendering
from gateway.tasks.steps import Steps, Surroundings
from gateway.tasks.wake import Kind, Message, Wake
from gateway.telemetry.traces import spanned, trace_id_of

log = structlog.get_logger(__name__)

#: How long a task that nobody waits for any more keeps its place in the queue (rule 20).
WITHDRAW_AFTER_S = 30.0
#: How often handing over is tried while renders are being submitted.
HAND_OVER_EVERY_S = 0.1
#: A call waits so long for the store to be told what it has lost, and is sent away then.
CATCH_UP_WITHIN_S = 1.0

#: Finds the offer that a task is of today; None when the catalogue no longer has it.
FindOffer = Callable[[Task], Offer | None]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an admitted call waits for. `live` is None when another process runs the task.

    `trace` is that of the call that became the task.
    """

    team: TeamId
    task: TaskId
    waiter: str
    place: str
    joined: bool
    live: LiveTask | None
    trace: str = ""


class Engine:
    """Runs every task of this process."""

    def __init__(self, house: Surroundings, wake: Wake, find_offer: FindOffer) -> None:
        self._house = house
        #: Told how far a call has come, where a crash would matter; for tests.
        self.reached = house.reached
        self._store = house.store
        self._wake = wake
        self._find_offer = find_offer
        self._steps = Steps(house, self._settled, self._left)
        self._rendering = Rendering(self._steps)
        self._admitting = Admitting(
            house.store, house.organization, house.catch_up, house.background, house.clock
        )
        self._running: dict[TaskId, LiveTask] = {}
        #: Keeps the store as this process knows its tasks.
        self.reconciler = Reconciler(
            house.store,
            self._steps.restoring,
            house.replica,
            house.clock,
            running=self._running,
            leave=self._left,
        )

    @property
    def running(self) -> dict[TaskId, LiveTask]:
        """The tasks that this process runs, by id; for reading."""
        return self._running

    @property
    def unstored(self) -> int:
        """How many pictures are paid for here and not in the store yet."""
        renders = (one.render for live in self._running.values() for one in live.renders)
        return sum(render.result is not None and not render.settled for render in renders)

    async def admit(self, admission: Admission, offer: Offer) -> Ticket:
        """Hold the price and take the task over, or join the task this call is a retry of.

        Raises what `TaskStore.admit` raises; nothing is submitted and nothing stays held then.
        Runs to its end even when the caller goes away.
        """
        return await self._house.background.shielded("admit", self._admit(admission, offer))

    async def _admit(self, admission: Admission, offer: Offer) -> Ticket:
        clock, team, call = self._house.clock, admission.caller.team.id, admission.call
        ticket = partial(Ticket, team=team, waiter=call.waiter, place=place_of(call))
        started_s = clock.monotonic_s()
        self.reached("asked")
        with spanned("admit"):
            await self._catch_up(team)
            if call.count and self.reconciler.is_settling(team):
                admitted: Admitted | Joined = await self._admitting.join(admission)
            else:
                admitted = await self._admitting.admit(admission)
        if isinstance(admitted, Joined):
            if self._house.shelf.holds(team, admitted.task):
                await until_stored(self._house.shelf.flush)
            running = self._running.get(admitted.task)
            if running is not None:
                running.call, running.left = call, False
            return ticket(task=admitted.task, joined=True, live=running, trace=admitted.trace)
        live = LiveTask(
            task=admitted.task,
            offer=offer,
            prices=Prices.quoted(offer),
            admitted_s=clock.monotonic_s(),
            budgets=admitted.budgets,
            rates=admitted.rates,
            done=asyncio.get_running_loop().create_future(),
            call=call,
        )
        self._house.accounting.phase(live, "admit", live.admitted_s - started_s)
        self._log_admitted(live.task)
        self.reached("admitted")
        self._run(live)
        return ticket(task=live.task.id, joined=False, live=live, trace=live.task.trace)

    async def _catch_up(self, team: TeamId) -> None:
        """Let the store know all that is known here, before a call may miss the task it is of.

        Raises StoreUnavailable when that takes too long for a call to wait for.
        """
        if not self.reconciler.is_owing(team):
            return
        try:
            async with asyncio.timeout(CATCH_UP_WITHIN_S):
                await self.reconciler.catch_up(team)
        except TimeoutError as error:
            raise StoreUnavailable from error

    def _log_admitted(self, task: Task) -> None:
        told: dict[str, object] = {}
        if task.trace:
            told["trace_id"] = trace_id_of(task.trace)
        if self._house.logs_prompt_hashes:
            prompt = str(task.order.body.get("prompt", ""))
            told["prompt_sha256"] = hashlib.sha256(prompt.encode()).hexdigest()
        log.info(
            "task_admitted",
            action="task_admitted",
            task=task.id,
            team=task.team,
            provider=task.order.provider,
            model=task.model,
            renders=len(task.renders),
            held_microusd=task.hold.amount_microusd * len(task.renders),
            **told,
        )

    def adopt(self, task: Task) -> None:
        """Go on with a task from what its record tells; nothing happens when it runs already."""
        if task.id in self._running:
            return
        if task.order.provider not in self._house.providers:
            log.critical("provider_gone", action="provider_gone", provider=task.order.provider)
            return
        live = LiveTask(
            task=task,
            offer=self._find_offer(task),
            admitted_s=self._house.clock.monotonic_s(),
            budgets=(),
            done=asyncio.get_running_loop().create_future(),
            watchers=task.watchers,
            adopted=True,
            cancelled=task.cancelled,
        )
        log.info("task_adopted", action="task_adopted", task=task.id, team=task.team)
        self._house.accounting.recovered()
        self._run(live)
        for one in live.renders:
            if one.render.result is None and one.render.state is not RenderState.QUEUED:
                self._house.turnstile.adopt(task.order.provider, task.team, one.id)

    def _run(self, live: LiveTask) -> None:
        self._running[live.task.id] = live
        self._house.accounting.admitted(live)
        live.add_renders(self._house.clock.monotonic_s())
        if live.over:
            self._settled(live)
        for one in live.renders:
            if not one.render.settled:
                self._steps.tracing.begun(one)
                self._steps.start(one, "render", self._rendering.run(one))

    def _left(self, live: LiveTask, error: InternalError | MovedError) -> None:
        """Stop running a task whose end will not be seen here; its waiters are told why."""
        if self._running.get(live.task.id) is not live:
            return
        del self._running[live.task.id]
        self._house.accounting.left(live)
        for one in live.renders:
            if one.due is not None:
                one.due.drop()
            one.stir()
            self._steps.tracing.left(one)
            # Whoever sees to it now has its permit.
            self._house.turnstile.forget(live.task.order.provider, one.id)
        live.break_off(error)

    def _settled(self, live: LiveTask) -> None:
        """Tell whoever waits that a render has ended, and see to the end of its task."""
        if not live.over or live.done.done():
            live.tell()
            return
        self._house.accounting.left(live)
        live.resolve()
        self._running.pop(live.task.id, None)
        self.reconciler.remember(live)
        if live.task.brought.pictures:
            drop = self._house.references.drop(live.task.team, live.task.brought)
            self._house.background.step("drop_references", drop)
        if live.task.callback_url:
            ended_ms = live.task.ended_ms or self._house.clock.now_ms()
            task = replace(live.current, ended_ms=ended_ms)
            self._house.background.step("call_back", self._call_back(task))
        if live.watchers:
            self._house.background.step("tell_watchers", self._tell_watchers(live))

    async def _call_back(self, task: Task) -> None:
        """Have a client told of the end. Killed before it is noted, recovery does it again."""
        if self._house.call_back is not None:
            # Whoever hears of it and looks must not find it unfinished.
            await until_stored(self._house.shelf.flush)
            await until_stored(partial(self._house.call_back, task))
        self._house.shelf.called_back(task.team, task.id)

    async def _tell_watchers(self, live: LiveTask) -> None:
        # Watchers read the journal, so it has to be there first.
        with suppress(StoreUnavailable):
            await self._house.shelf.flush()
            message = Message(Kind.OVER, live.task.team, live.task.id)
            for replica in live.watchers:
                await self._wake.send(replica, message)

    async def leave(self, ticket: Ticket) -> None:
        """Note that a request no longer waits; runs to its end even when the caller goes away.

        A task that is still queued keeps its place for a retry for a while and is cancelled then.
        """
        await self._house.background.shielded("leave", self._leave(ticket))

    async def _leave(self, ticket: Ticket) -> None:
        team, task = ticket.team, ticket.task
        leave = partial(self._store.leave, team, task, place=ticket.place, waiter=ticket.waiter)
        await until_stored(leave)
        live = self._running.get(task)
        if (known := live or self.reconciler.remembered(task)) is not None:
            known.left = known.left or known.call is None or known.call.waiter == ticket.waiter
        if live is not None and not live.task.detached:
            self._house.poller.schedule(
                live.task.order.provider, WITHDRAW_AFTER_S, partial(self._withdraw, team, task)
            )

    async def _withdraw(self, team: TeamId, task: TaskId) -> None:
        with suppress(StoreUnavailable):
            if await self._store.is_left(team, task):
                self._cancel(task)

    def delivered(self, ticket: Ticket) -> None:
        """Note that the answer for a call has left; written down a moment later."""
        if (known := self.reconciler.remembered(ticket.task)) is not None:
            known.delivered = True
        self._house.shelf.delivered(ticket.team, ticket.task)

    def fetched(self, team: TeamId, task: TaskId, renders: Iterable[int]) -> None:
        """Note that somebody has got these pictures of a task; written down a moment later."""
        self._house.shelf.fetched(team, task, renders)

    async def write_down(self, team: TeamId) -> None:
        """Write down now what is remembered of a team's tasks. Raises StoreUnavailable.

        Whoever has just got a picture and reads of its task must not find it unfinished.
        """
        if self._house.shelf.holds_any(team):
            await self._house.shelf.flush()

    def expect_retry(self, team: TeamId, call: Call) -> None:
        """Note that a call was sent away before it was a task: its retry is a new call."""
        note = partial(self._store.expect_retry, team, call)
        self._house.background.step("expect_retry", until_stored(note))

    async def cancel(self, team: TeamId, task: TaskId) -> bool:
        """Cancel what was not submitted yet of a task, whoever sees to it; False without a task.

        Raises StoreUnavailable.
        """
        owner = await self._store.cancel(team, task)
        if owner:
            with suppress(StoreUnavailable):
                await self._wake.send(owner, Message(Kind.CANCEL, team, task))
        return owner is not None

    def _cancel(self, task: TaskId) -> None:
        live = self._running.get(task)
        if live is None:
            return
        live.cancelled = True
        for one in live.renders:
            if one.render.state is RenderState.QUEUED:
                one.stir()

    def hear(self, message: Message) -> None:
        """Take in a message from another replica, or from a callback that came here."""
        live = self._running.get(message.task)
        if live is None:
            return
        if message.kind is Kind.CANCEL:
            self._cancel(message.task)
        elif message.kind is Kind.CALLED_BACK and message.render < len(live.renders):
            one = live.renders[message.render]
            if one.called_s:
                self._house.accounting.called_in_vain("repeated")
            one.called_s = self._house.clock.monotonic_s()
            one.stir(message.upstream_id)

    async def hand_over(self) -> None:
        """Give every task up to the other replicas, as soon as none of its renders is being posted.

        Requests go on waiting for them here.
        """
        handed = 0
        for team in {live.task.team for live in self._running.values()}:
            with suppress(StoreUnavailable):
                await self.reconciler.catch_up(team)
        while self._running:
            for live in list(self._running.values()):
                if await self._steps.recorded(live, partial(self._store.hand_over, live.task)):
                    handed += 1
                    self._left(live, MovedError())
            if self._running:
                await asyncio.sleep(HAND_OVER_EVERY_S)
        log.info("handed_over", action="handed_over", tasks=handed)
        for replica in self._house.replica.others:
            with suppress(StoreUnavailable):
                await self._wake.send(replica, Message(Kind.HANDED_OVER))
