"""The journal of tasks: what is written down before, while and after money is spent.

Every verb may be repeated when the store did not answer: a repetition changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.domain.accounts import Caller
from gateway.domain.errors import BudgetState
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import PLAIN_PNG, Operation, Output, TokenUsage
from gateway.domain.price_books import NOT_WRITTEN, WrittenBook
from gateway.domain.pricing import Charge
from gateway.domain.task import Event, FailureKind, Render, SubmitOrder, Surface, Task
from gateway.ledger.quotas import RateState


@dataclass(frozen=True, slots=True)
class Call:
    """What makes two calls the same call, and which retry this one is (design rules 10 to 12).

    `fingerprint` is a digest of key, path, parameters and files. `count` is the retry's number, 0
    for a first call and for one that says nothing. `waiter` is the request that waits for it.
    `idempotency` is a digest of path and `Idempotency-Key`, empty without one. `detached` calls
    are waited for by nobody; `joins` is false for teams that do not want retries to be joined.
    `surface` is whose API it came in by. `base_url` is where its client reaches this server, empty
    when it wants no callback.
    """

    fingerprint: str
    waiter: str
    count: int = 0
    idempotency: str = ""
    detached: bool = False
    joins: bool = True
    surface: Surface = Surface.OPENAI
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that wants to become a task.

    `user` is the end user's hash, empty when the call names none. `hold_microusd` is the upper
    bound of the price of each of `images`. `patience_ms` is how long the call waits by itself when
    it comes too fast. `only_join` calls become no task of their own. `output` is what the pictures
    are delivered as. `subject` is the hash of the end user whom the call names, by which their
    tasks are found when they are to be deleted. `book` is what it was quoted by, `trace` the
    trace of the call.
    """

    id: TaskId
    caller: Caller
    user: str
    images: int
    model: str
    operation: Operation
    size: str
    quality: str
    hold_microusd: int
    order: SubmitOrder
    call: Call
    references: int = 0
    callback_url: str = field(default="", repr=False)
    patience_ms: int = 0
    only_join: bool = False
    output: Output = PLAIN_PNG
    subject: str = ""
    book: WrittenBook = NOT_WRITTEN
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task that was written, its budgets with the hold in them, and what quotas are left."""

    task: Task
    budgets: tuple[BudgetState, ...]
    rates: tuple[RateState, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """The task that a call was attached to instead of becoming one, and the trace of its own."""

    task: TaskId
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a render ends: the event, its money, and what the record keeps of it.

    `links` are the results to be stored; with none there is nothing left to do for it.
    """

    event: Event
    charge: Charge
    failure: FailureKind | None = None
    links: tuple[str, ...] = ()
    usage: TokenUsage | None = None


@dataclass(frozen=True, slots=True)
class Concluded:
    """The render as it is now, the task's budgets, and the replicas with requests that wait."""

    render: Render
    budgets: tuple[BudgetState, ...]
    watchers: tuple[str, ...] = ()


#: What a note says of a callback instead of a render's index.
CALLBACK = "callback"


@dataclass(slots=True)
class ShelfNote:
    """What to note of a task: its pictures as a record says them, and whether it was delivered.

    `stored` is by index of the render; `CALLBACK` stands for the callback that is on its way.
    `fetched` are the renders whose pictures were had by another way than the answer of the call.
    """

    stored: dict[str, str] = field(default_factory=dict)
    delivered: bool = False
    fetched: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a task has come by its record.

    `renders` has for each of them its progress (`Render.progress`), and whether its hold was
    raised.
    """

    epoch: int
    owner: str
    renders: tuple[tuple[int, bool], ...]

    def is_of_another(self, task: Task) -> bool:
        """Tell whether the task has another owner than it is remembered to have."""
        return self.epoch > task.epoch or (self.epoch == task.epoch and self.owner != task.owner)

    def is_behind(self, task: Task) -> bool:
        """Tell whether the record knows less than is remembered of a task that is still ours."""
        if self.epoch != task.epoch:
            return self.epoch < task.epoch
        return self.owner == task.owner and any(
            progress < render.progress
            or (bool(render.raised_microusd) and render.result is None and not was_raised)
            for (progress, was_raised), render in zip(self.renders, task.renders, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Standings:
    """What the store says of tasks, None where it has no record.

    `server` is another one after a restart or a failover, '' when the store does not tell.
    """

    server: str
    tasks: tuple[Standing | None, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What restoring a record found.

    `behind` when there was anything to restore; `unsettled` are renders whose money the owner
    remembers to be settled and the store does not.
    """

    behind: bool
    unsettled: tuple[int, ...]


class NotJoinedError(Exception):
    """There is no task to join, and the call must not become one."""


class AccountChangedError(Exception):
    """The team's account is not what the caller was read from; nothing was admitted."""


class RecordMissingError(Exception):
    """The store has no record of a task that this process runs."""


class OwnershipLostError(Exception):
    """Another replica owns the task now; its decisions count."""


class TaskStore(Protocol):
    """Keeps tasks and their holds. Every verb raises StoreUnavailable."""

    @property
    def owner(self) -> str:
        """The replica whose tasks these are."""
        ...

    @property
    def keep_ms(self) -> int:
        """How long the record of a task is kept after its end."""
        ...

    async def admit(self, admission: Admission) -> Admitted | Joined:
        """Attach the call to the task it is a retry of, else admit it as a task of its own.

        Checks every limit, holds the price and writes the task, or does none of it.
        Raises BudgetExceeded, DailyQuotaExceeded, RateLimited, IdempotencyConflict,
        PictureExpired, AccountChangedError, and StoreUnavailable when no answer came: then it is
        unknown whether the task exists, and `give_up` must follow. An admission that may only join
        raises NotJoinedError.
        """
        ...

    async def give_up(self, admission: Admission) -> bool:
        """Make sure that an admission nobody heard of holds nothing; True if it has begun."""
        ...

    async def expect_retry(self, team: TeamId, call: Call) -> None:
        """Note that a call was sent away before anybody looked whether it is a retry.

        The retry that follows is a new call, if this was one.
        """
        ...

    async def begin_submit(
        self, task: Task, render: Render, attempt_id: str, urls: Sequence[str] = ()
    ) -> Render:
        """Win the right to post this render, with these links to its references.

        Raises OwnershipLostError, RecordMissingError.
        """
        ...

    async def record_submitted(self, task: Task, render: Render, upstream_id: str) -> Render:
        """Write down the upstream's id: a fact, from any owner."""
        ...

    async def record_not_sent(self, task: Task, render: Render) -> Render:
        """Write down that nothing left the house, or that nothing was created: a fact."""
        ...

    async def lose_track(self, task: Task, render: Render) -> Render:
        """Write down that nobody knows whether this render was ordered."""
        ...

    async def retry(self, task: Task, render: Render) -> Render:
        """Put a render that failed at no charge back into the queue."""
        ...

    async def raise_hold(self, task: Task, render: Render, extra_microusd: int) -> None:
        """Hold more for a render that was submitted, whatever its budgets say (rule 13)."""
        ...

    async def conclude(self, task: Task, render: Render, ending: Ending) -> Concluded:
        """End a render and settle or release its hold.

        Raises OwnershipLostError, RecordMissingError.
        """
        ...

    @property
    def doubts(self) -> int:
        """How often the store gave reason to doubt that it has all it acknowledged."""
        ...

    async def standings(self, team: TeamId, tasks: Sequence[TaskId]) -> Standings:
        """Return how far tasks of a team have come by their records, and which server says so."""
        ...

    async def restore(self, task: Task, call: Call | None) -> Restored:
        """Bring a record up to what its owner remembers, and write it anew if it is gone.

        Also over budget, for the picture may have been ordered (design rule 18). A record is
        never taken back. `call` lets retries find a task that is written anew. Raises
        OwnershipLostError when the task has another owner by now.
        """
        ...

    async def shelve(self, team: TeamId, notes: Mapping[TaskId, ShelfNote]) -> None:
        """Note which pictures are in the asset store, and which answers have left."""
        ...

    async def leave(self, team: TeamId, task: TaskId, *, place: str, waiter: str) -> None:
        """Note that this request no longer waits for the task; `place` is where retries look."""
        ...

    async def cancel(self, team: TeamId, task: TaskId) -> str | None:
        """Mark a task as cancelled; return who sees to it ('' is nobody), None without a task."""
        ...

    async def listed(self, team: TeamId, *, after: str, limit: int) -> Sequence[Task]:
        """Return the team's tasks from the newest on, those after the task `after` if it is given.

        Tasks whose record is gone are left out.
        """
        ...

    async def owner_of(self, team: TeamId, task: TaskId) -> str | None:
        """Return who sees to a task ('' is nobody); None when it is over or there is none."""
        ...

    async def is_left(self, team: TeamId, task: TaskId) -> bool:
        """Tell whether nobody waits for a task."""
        ...

    async def claim(self, account: str, upstream_id: str, render: str) -> bool:
        """Bind an upstream's task id to one render for ever; False when it is another's."""
        ...

    async def read(self, team: TeamId, task: TaskId) -> Task | None:
        """Return a task as it is written down; None when there is no such record."""
        ...

    async def book(self, team: TeamId, digest: str) -> str | None:
        """Return the text of a price book that tasks of a team name; None where it is not kept."""
        ...

    async def prompt(self, team: TeamId, task: TaskId) -> str | None:
        """Return the prompt of a task that is over; None where it is not kept."""
        ...

    async def owned(self, team: TeamId, owner: str) -> Sequence[TaskId]:
        """Return the tasks that a replica has to see to, the oldest first; '' is nobody."""
        ...

    async def owners(self, team: TeamId) -> frozenset[str]:
        """Return the replicas that have to see to tasks of a team, '' among them."""
        ...

    async def teams(self) -> frozenset[TeamId]:
        """Return every team that ever had a task."""
        ...

    async def take(self, team: TeamId, task: TaskId, *, owner: str) -> Task | None:
        """Take a task over from `owner`; None when it is gone or somebody was faster."""
        ...

    async def hand_over(self, task: Task) -> bool:
        """Give a task up to whoever takes it; False while one of its renders is being posted.

        Raises RecordMissingError.
        """
        ...
