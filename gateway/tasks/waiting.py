"""Waiting for a task, whoever runs it.

A task that runs here tells its waiters itself. One that runs on another replica is read again when
that replica says it is over, and every second besides. Ownership may change under a waiter: it
goes on waiting by the other way.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from gateway.domain.clock import Clock
from gateway.domain.errors import StillRunning, StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import Task
from gateway.tasks.interface import TaskStore
from gateway.tasks.live import LiveTask, MovedError, Outcome
from gateway.tasks.wake import Kind, Message

#: Tells whether a task as it stands is what was waited for.
IsEnough = Callable[[Outcome], bool]

#: How often a task that runs elsewhere is read again.
READ_AGAIN_S = 1.0
#: How long after the end of a task that runs elsewhere its pictures are not waited for any more,
#: where they can be had from their links.
STRAIGHT_AFTER_MS = 5_000


#: Returns a task as if pictures that their links still give were stored.
WithStraight = Callable[[Task], Awaitable[Task]]


async def _as_it_is(task: Task) -> Task:
    return task


class Waiting:
    """Waits for tasks; `running` are those of this process."""

    def __init__(
        self,
        store: TaskStore,
        running: Mapping[TaskId, LiveTask],
        clock: Clock,
        *,
        deadline_s: float,
        with_straight: WithStraight = _as_it_is,
    ) -> None:
        self._store = store
        self._with_straight = with_straight
        self._running = running
        self._clock = clock
        self._deadline_s = deadline_s
        self._watched: defaultdict[TaskId, set[asyncio.Event]] = defaultdict(set)

    async def outcome(
        self, team: TeamId, task: TaskId, *, timeout_s: float, beyond: int | None = None
    ) -> Outcome:
        """Return the task when it is over; after its deadline, as soon as any picture is there.

        With `beyond`, also as soon as more pictures than that are there. Raises StillRunning after
        `timeout_s`, and InternalError when it broke here.
        """

        def is_enough(outcome: Outcome) -> bool:
            has_more = beyond is not None and len(outcome.delivered) > beyond
            return has_more or outcome.task.over or self._is_due(outcome)

        until_s = self._clock.monotonic_s() + timeout_s
        while (left_s := until_s - self._clock.monotonic_s()) > 0:
            live = self._running.get(task)
            outcome = await (
                self._here(live, left_s, is_enough)
                if live is not None
                else self._elsewhere(team, task, left_s, is_enough)
            )
            if outcome is not None and is_enough(outcome):
                return outcome
        raise StillRunning

    def _is_due(self, outcome: Outcome) -> bool:
        """Tell whether what is there is delivered without the rest (design rule 19)."""
        age_s = (self._clock.now_ms() - outcome.task.created_ms) / 1000
        return age_s > self._deadline_s and bool(outcome.delivered)

    async def _here(self, live: LiveTask, timeout_s: float, is_enough: IsEnough) -> Outcome | None:
        """Wait for a task of this process; return what there is when there is news, or no time."""
        due_s = self._deadline_s - (self._clock.now_ms() - live.task.created_ms) / 1000
        if due_s > 0:
            timeout_s = min(timeout_s, due_s + 0.001)
        if not live.done.done() and not is_enough(live.outcome):
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await live.news.wait()
        if not live.done.done():
            return live.outcome
        with suppress(MovedError):
            return live.done.result()
        # Whoever takes it over has not been seen yet.
        await asyncio.sleep(0)
        return None

    async def _elsewhere(
        self, team: TeamId, task: TaskId, timeout_s: float, is_enough: IsEnough
    ) -> Outcome | None:
        with self._watch(task) as told:
            try:
                read = await self._store.read(team, task)
            except StoreUnavailable:
                read = None
            if read is not None and self._is_unstored(read):
                read = await self._with_straight(read)
            if read is not None and is_enough(Outcome(read)):
                return Outcome(read)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(timeout_s, READ_AGAIN_S)):
                    await told.wait()
        return None

    def _is_unstored(self, task: Task) -> bool:
        """Tell whether a task that is over has waited for the store for longer than is usual."""
        if task.over or any(render.result is None for render in task.renders):
            return False
        return self._clock.now_ms() - task.ended_ms > STRAIGHT_AFTER_MS

    @contextmanager
    def _watch(self, task: TaskId) -> Iterator[asyncio.Event]:
        told = asyncio.Event()
        self._watched[task].add(told)
        try:
            yield told
        finally:
            self._watched[task].discard(told)
            if not self._watched[task]:
                del self._watched[task]

    def hear(self, message: Message) -> None:
        """Take in a message from another replica."""
        if message.kind is Kind.OVER:
            for told in self._watched.get(message.task, ()):
                told.set()
