"""The journal of tasks: what is written down before, while and after money is spent.

Every verb may be repeated when the store did not answer: a repetition changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.accounts import Caller
from gateway.domain.errors import BudgetState
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.pricing import Charge
from gateway.domain.task import Event, FailureKind, SubmitOrder, Task
from gateway.ledger.quotas import RateState


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that wants to become a task. `hold_microusd` is the upper bound of its price.

    `user` is the end user's hash, empty when the call names none.
    """

    id: TaskId
    caller: Caller
    user: str
    images: int
    model: str
    size: str
    quality: str
    hold_microusd: int
    order: SubmitOrder


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task that was written, its budgets with the hold in them, and what quotas are left."""

    task: Task
    budgets: tuple[BudgetState, ...]
    rates: tuple[RateState, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ends: the event, its money, and what the record keeps of it.

    `links` are the results to be stored; with none the task leaves the live index at once.
    """

    event: Event
    charge: Charge
    failure: FailureKind | None = None
    links: tuple[str, ...] = ()
    usage: Mapping[str, int] | None = None


class AccountChangedError(Exception):
    """The team's account is not what the caller was read from; nothing was admitted."""


class RecordMissingError(Exception):
    """The store has no record of a task that this process runs."""


class OwnershipLostError(Exception):
    """Another replica owns the task now; its decisions count."""


class TaskStore(Protocol):
    """Keeps tasks and their holds."""

    async def admit(self, admission: Admission) -> Admitted:
        """Check every limit, hold the price and write the task, or none of it.

        Raises BudgetExceeded, DailyQuotaExceeded, RateLimited, AccountChangedError, and
        StoreUnavailable when no answer came: then it is unknown whether the task exists, and
        `give_up` must follow.
        """
        ...

    async def give_up(self, admission: Admission) -> None:
        """Make sure that an admission nobody heard of holds nothing. Raises StoreUnavailable."""
        ...

    async def begin_submit(self, task: Task, attempt_id: str) -> Task:
        """Win the right to post this render. Raises StoreUnavailable, OwnershipLostError."""
        ...

    async def record_submitted(self, task: Task, upstream_id: str) -> Task:
        """Write down the upstream's id: a fact, from any owner. Raises StoreUnavailable."""
        ...

    async def record_not_sent(self, task: Task) -> Task:
        """Write down that nothing left the house: a fact. Raises StoreUnavailable."""
        ...

    async def conclude(self, task: Task, ending: Ending) -> tuple[BudgetState, ...]:
        """End the task and settle or release its hold; return its budgets afterwards.

        Raises StoreUnavailable, OwnershipLostError, RecordMissingError.
        """
        ...

    async def restore(self, task: Task) -> None:
        """Write a task and its hold anew from memory, also over budget. Raises StoreUnavailable.

        For a record the store has lost: the picture may have been paid for (design rule 18).
        """
        ...

    async def shelve(self, team: TeamId, tasks: Sequence[TaskId]) -> None:
        """Note that the pictures of these tasks are in the asset store. Raises StoreUnavailable."""
        ...
