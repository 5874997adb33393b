"""The simulated account: its tasks, its credits and what was counted.

Nothing runs in the background. Every reading first settles the renders that are due by then, each
exactly once, so the books are right whether or not anybody polled. All methods are synchronous:
on one event loop each is atomic.
"""

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from decimal import Decimal

from gateway.simulator.clock import Clock
from gateway.simulator.errors import RefusedError
from gateway.simulator.faults import INSUFFICIENT_QUOTA, SUBMIT_FAULTS
from gateway.simulator.mailbox import Mailbox
from gateway.simulator.orders import Order
from gateway.simulator.pricing import microusd
from gateway.simulator.replays import Replays
from gateway.simulator.replies import Reply
from gateway.simulator.script import Ending, Moment, Script
from gateway.simulator.settings import SimulatorSettings
from gateway.simulator.tasks import Origin, Task, View, final_view, new_task, view
from gateway.simulator.throttle import Throttle

_GONE_MOST = 100_000
_AT_SUBMIT = frozenset({Moment.SUBMIT})
_LATER = frozenset({Moment.HALFWAY, Moment.END})


@dataclass(slots=True)
class Counts:
    """Count events since the start or the last reset; whoever sees one adds it."""

    submits: int = 0
    """Authorized generation POSTs that arrived, whatever they were answered."""
    submits_with_key: int = 0
    """Submits with an ``Idempotency-Key``."""
    replays: int = 0
    """Submits that were answered with an earlier task."""
    rate_limited: int = 0
    """Submits beyond ``max_in_flight`` or ``submits_per_second``."""
    tasks: int = 0
    """Submits that made a task."""
    renders_completed: int = 0
    """Tasks that reached ``completed``, polled or not."""
    polls: int = 0
    """Tasks asked for one by one; batches and lists are not polls."""
    callbacks_sent: int = 0
    """Callback POSTs, repetitions included."""
    callbacks_accepted: int = 0
    """Callbacks that were answered 2xx."""
    callbacks_given_up: int = 0
    """Callbacks that failed four times."""
    references_read: int = 0
    """Reference images and masks that were fetched and fit."""
    files: int = 0
    """Files that the file service took."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Show the counts, and the books as they are now; names are those of ``/_sim/stats``."""

    submits: int
    submits_with_key: int
    replays: int
    rate_limited: int
    tasks: int
    renders_completed: int
    polls: int
    callbacks_sent: int
    callbacks_accepted: int
    callbacks_given_up: int
    references_read: int
    files: int
    credits_used: Decimal
    """Exact credits booked for completed tasks."""
    cost_microusd: int
    """Micro-dollars of the booked tasks, each rounded half up on its own."""
    in_flight: int
    """Tasks that are not finished now."""
    max_in_flight: int
    """Most tasks that were unfinished at one time."""
    callbacks_waiting: int
    """Callbacks that are planned and not on their way."""


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
        self.mailbox = Mailbox()
        self.reset()

    def reset(self) -> None:
        """Forget everything; with a seed, the same requests then give the same answers again."""
        self._random = random.Random(self._settings.seed)  # noqa: S311 - repeats on purpose
        self._started_s = self._clock.monotonic_s()
        self._tasks: dict[str, Task] = {}
        self._files: dict[str, tuple[str, int]] = {}
        self._running: list[tuple[float, str]] = []
        self._waiting: dict[str, float] = {}
        self._settled: deque[Task] = deque()
        self._gone: dict[str, None] = {}
        self._used = self._reserved = Decimal(0)
        self._in_flight = self._max_in_flight = self._cost_microusd = 0
        self.counts = Counts()
        self._played: Counter[tuple[str, str]] = Counter()
        self.replays = Replays()
        self._throttle = Throttle(self._settings.submits_per_second)
        self.mailbox.clear()

    def now_s(self) -> float:
        """Return the moment that due times are compared with."""
        return self._clock.monotonic_s()

    def count_submit(self, *, with_key: bool = False) -> None:
        """Note that a submit arrived, before anything else is known of it."""
        self.counts.submits += 1
        self.counts.submits_with_key += with_key

    def check_limits(self) -> None:
        """Let one submit through, or raise ``RefusedError`` (429) and count it."""
        now_s = self._settle()
        most = self._settings.max_in_flight
        full = most is not None and self._in_flight >= most
        if full or self._throttle.wait_s(now_s) > 0:
            self.counts.rate_limited += 1
            raise RefusedError(SUBMIT_FAULTS["rate_limit_exceeded"])

    def submit(
        self, order: Order, script: Script, origin: Origin | None = None, *, waiting: bool = False
    ) -> Task:
        """Create a task and reserve its price; raise ``RefusedError`` (402) beyond the balance.

        A ``waiting`` task does not proceed until ``release``.
        """
        own_random = random.Random(self._random.getrandbits(64))  # noqa: S311 - repeats on purpose
        latency_s = self._latency_s(script, own_random)
        task = new_task(
            order, script, latency_s, clock=self._clock, random=own_random, origin=origin
        )
        if task.reserved > self.account().remaining:
            raise RefusedError(INSUFFICIENT_QUOTA)
        self._reserved += task.reserved
        self.counts.tasks += 1
        self._in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)
        self._files |= {path: (task.id, index) for index, path in enumerate(task.files)}
        if waiting:
            self._waiting[task.id] = task.due_s
            task = replace(task, due_s=math.inf)
        self._tasks[task.id] = task
        self.mailbox.post(task, _AT_SUBMIT)
        if not waiting:
            self._start(task)
        return task

    def release(self, task_id: str, failure: str = "", message: str = "") -> None:
        """Let a waiting task proceed, or fail it now with a task error code."""
        due_s = self._waiting.pop(task_id, None)
        if due_s is None:
            return  # forgotten by a reset
        task = self._tasks[task_id]
        script, now_s = task.script, self._clock.monotonic_s()
        if failure:
            script = replace(script, ending=Ending.FAILED, failure=failure, message=message)
            due_s = now_s
        task = replace(task, script=script, due_s=max(now_s, due_s))
        self._tasks[task_id] = task
        self._start(task)

    def plays(self, reply: Reply | None, kind: str, key: str) -> Reply | None:
        """Return the reply if it is still to be played for ``key``, and count that."""
        if reply is None or reply.times is None:
            return reply
        self._played[kind, key] += 1
        return reply if self._played[kind, key] <= reply.times else None

    def poll(self, task_id: str) -> View | None:
        """Return the task as it is now, counting the poll; ``None`` for an unknown id."""
        self.counts.polls += 1
        now_s = self._settle()
        task = self._tasks.get(task_id)
        if task is None:
            return None
        seen = view(task, now_s)
        if seen.finished and task.noticed_s is None:
            self._tasks[task_id] = replace(task, noticed_s=now_s)
        return seen

    def look(self, task_id: str) -> View | None:
        """Return the task as it is now, counting nothing; ``None`` for an unknown id."""
        now_s = self._settle()
        task = self._tasks.get(task_id)
        return None if task is None else view(task, now_s)

    def look_ahead(self, task_id: str) -> View | None:
        """Return the task as it will be when it is due; ``None`` for an unknown id."""
        task = self._tasks.get(task_id)
        return None if task is None else final_view(task)

    def newest(self) -> Iterator[View]:
        """Yield every task as it is now, the newest first."""
        now_s = self._settle()
        for task in reversed(self._tasks.values()):
            yield view(task, now_s)

    def expired(self, name: str) -> bool:
        """Tell whether a task id or a result path has existed and was forgotten."""
        return name in self._gone

    def file(self, path: str) -> StoredFile | None:
        """Return the result behind a link, once its task has produced it and until it expires."""
        now_s = self._settle()
        task_id, index = self._files.get(path, ("", 0))
        task = self._tasks.get(task_id)
        if task is None or now_s < task.due_s or task.script.ending is not Ending.PICTURES:
            return None
        if now_s > task.due_s + self._settings.result_keep_s:
            self._let_go(path)
            return None
        return StoredFile(task, index)

    def account(self) -> Account:
        """Return the credits as they are now."""
        self._settle()
        balance = self._settings.credits_balance
        return Account(remaining=balance - self._used - self._reserved, used=self._used)

    def stats(self) -> Stats:
        """Return the counts as they are now, with every render that is due."""
        self._settle()
        return Stats(
            **asdict(self.counts),
            credits_used=self._used,
            cost_microusd=self._cost_microusd,
            in_flight=self._in_flight,
            max_in_flight=self._max_in_flight,
            callbacks_waiting=self.mailbox.waiting(),
        )

    def _latency_s(self, script: Script, own_random: random.Random) -> float:
        settings = self._settings
        latency_s = (script.profile or settings.latency_profile).latency_s(
            settings.latency_median_s,
            settings.latency_sigma,
            elapsed_s=self._clock.monotonic_s() - self._started_s,
            random=own_random,
        )
        if script.at_once:
            return 0.0
        return latency_s if script.latency_s is None else script.latency_s

    def _start(self, task: Task) -> None:
        if task.due_s < math.inf:
            heapq.heappush(self._running, (task.due_s, task.id))
        self.mailbox.post(task, _LATER)

    def _settle(self) -> float:
        """Book or refund each render that is due, once, and return the time it was done at."""
        now_s = self._clock.monotonic_s()
        while self._running and self._running[0][0] <= now_s:
            _, task_id = heapq.heappop(self._running)
            task = self._tasks[task_id]
            self._in_flight -= 1
            self._reserved -= task.reserved
            if task.charged:
                self._used += task.price
                self._cost_microusd += microusd(task.price, self._settings.credits_per_usd)
                self.counts.renders_completed += 1
            self._settled.append(task)
        self._forget(now_s - self._settings.keep_s)
        return now_s

    def _forget(self, before_s: float) -> None:
        # Settled in the order in which they fell due, so the oldest is always in front.
        while self._settled and self._settled[0].due_s < before_s:
            task = self._settled.popleft()
            del self._tasks[task.id]
            for name in (task.id, *task.files):
                self._let_go(name)

    def _let_go(self, name: str) -> None:
        self._files.pop(name, None)
        self._gone[name] = None
        if len(self._gone) > _GONE_MOST:
            del self._gone[next(iter(self._gone))]
