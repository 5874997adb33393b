"""The simulated account: its tasks, its credits and what was counted.

Nothing runs in the background. Every reading first settles the renders that are due by then, each
exactly once, so the books are right whether or not anybody polled. All methods are synchronous:
on one event loop each is atomic.
"""

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from gateway.simulator.clock import Clock
from gateway.simulator.errors import RefusedError
from gateway.simulator.faults import INSUFFICIENT_QUOTA
from gateway.simulator.markers import Ending, Script
from gateway.simulator.orders import Order
from gateway.simulator.settings import SimulatorSettings
from gateway.simulator.tasks import Task, View, new_task, view


@dataclass(frozen=True, slots=True)
class Stats:
    """Count what happened since the start or the last reset."""

    submits: int
    """Authorized generation POSTs that arrived, whatever they were answered."""
    renders_completed: int
    """Tasks that reached ``completed``, polled or not."""
    polls: int
    callbacks_sent: int
    credits_used: Decimal
    """Exact credits booked for completed tasks."""
    files: int


@dataclass(frozen=True, slots=True)
class Account:
    """Show the credits of the account; what running tasks hold is not remaining."""

    remaining: Decimal
    used: Decimal


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Point at one result of a finished task."""

    task: Task
    index: int


class World:
    """Own every task of one simulated account."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything; with a seed, the same requests then give the same answers again."""
        self._random = random.Random(self._settings.seed)  # noqa: S311 - repeats on purpose
        self._tasks: dict[str, Task] = {}
        self._files: dict[str, StoredFile] = {}
        self._running: list[tuple[float, str]] = []
        self._settled: deque[Task] = deque()
        self._used = self._reserved = Decimal(0)
        self._submits = self._completed = self._polls = 0

    def count_submit(self) -> None:
        """Note that a submit arrived, before anything else is known of it."""
        self._submits += 1

    def submit(self, order: Order, script: Script) -> Task:
        """Create a task and reserve its price; raise ``RefusedError`` (402) beyond the balance."""
        own_random = random.Random(self._random.getrandbits(64))  # noqa: S311 - repeats on purpose
        latency_s = self._latency_s(own_random)
        if script.latency_s is not None:
            latency_s = script.latency_s
        task = new_task(order, script, latency_s, clock=self._clock, random=own_random)
        if task.price > self.account().remaining:
            raise RefusedError(INSUFFICIENT_QUOTA)
        self._reserved += task.price
        self._tasks[task.id] = task
        self._files |= {path: StoredFile(task, index) for index, path in enumerate(task.files)}
        heapq.heappush(self._running, (task.due_s, task.id))
        return task

    def poll(self, task_id: str) -> View | None:
        """Return the task as it is now, counting the poll; ``None`` for an unknown id."""
        self._polls += 1
        now_s = self._settle()
        task = self._tasks.get(task_id)
        return None if task is None else view(task, now_s)

    def file(self, path: str) -> StoredFile | None:
        """Return the result behind a link, once its task has produced it and until it expires."""
        now_s = self._settle()
        stored = self._files.get(path)
        if stored is None or now_s < stored.task.due_s:
            return None
        return stored if stored.task.script.ending is Ending.PICTURES else None

    def account(self) -> Account:
        """Return the credits as they are now."""
        self._settle()
        balance = self._settings.credits_balance
        return Account(remaining=balance - self._used - self._reserved, used=self._used)

    def stats(self) -> Stats:
        """Return the counts as they are now, with every render that is due."""
        self._settle()
        return Stats(
            submits=self._submits,
            renders_completed=self._completed,
            polls=self._polls,
            callbacks_sent=0,
            credits_used=self._used,
            files=0,
        )

    def _latency_s(self, own_random: random.Random) -> float:
        median_s = self._settings.latency_median_s
        if median_s == 0:
            return 0.0
        return own_random.lognormvariate(math.log(median_s), self._settings.latency_sigma)

    def _settle(self) -> float:
        """Book or refund each render that is due, once, and return the time it was done at."""
        now_s = self._clock.monotonic_s()
        while self._running and self._running[0][0] <= now_s:
            _, task_id = heapq.heappop(self._running)
            task = self._tasks[task_id]
            self._reserved -= task.price
            if task.charged:
                self._used += task.price
                self._completed += 1
            self._settled.append(task)
        self._forget(now_s - self._settings.keep_s)
        return now_s

    def _forget(self, before_s: float) -> None:
        # Settled in the order in which they fell due, so the oldest is always in front.
        while self._settled and self._settled[0].due_s < before_s:
            task = self._settled.popleft()
            del self._tasks[task.id]
            for path in task.files:
                del self._files[path]
