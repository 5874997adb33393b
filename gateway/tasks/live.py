"""A task while this process runs it, and how requests wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway.assets.interface import StoredPicture
from gateway.domain.catalog import Offer
from gateway.domain.errors import BudgetState, InternalError, StillRunning
from gateway.domain.images import TokenUsage
from gateway.domain.pricing import Charge
from gateway.domain.task import FailureKind, Task
from gateway.ledger.quotas import RateState


@dataclass(frozen=True, slots=True)
class Delivered:
    """The picture is in the store and paid for; `usage` is None where the upstream told none."""

    picture: StoredPicture
    usage: TokenUsage | None
    charge: Charge
    budgets: tuple[BudgetState, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """There is no picture, and why; `charge` may still be above zero.

    `submitted` tells whether the upstream had taken the task before it failed.
    """

    failure: FailureKind
    charge: Charge
    budgets: tuple[BudgetState, ...]
    submitted: bool
    retry_after_s: float | None = None


Outcome = Delivered | Ended


@dataclass(slots=True, eq=False)
class LiveTask:
    """What the engine knows of a running task; times are monotonic seconds.

    `phases_s` collects how long each phase took. Any number of requests may wait for `outcome`.
    """

    task: Task
    offer: Offer
    team_label: str
    admitted_s: float
    budgets: tuple[BudgetState, ...]
    rates: tuple[RateState, ...]
    outcome: asyncio.Future[Outcome]
    phases_s: dict[str, float] = field(default_factory=dict)
    submitted_s: float = 0.0
    last_pending_s: float = 0.0
    polls: int = 0

    async def wait(self, timeout_s: float) -> Outcome:
        """Return how the task ended; a waiter that goes away changes nothing.

        Raises StillRunning after `timeout_s`.
        """
        done, _ = await asyncio.wait((self.outcome,), timeout=timeout_s)
        if not done:
            raise StillRunning
        return self.outcome.result()

    def resolve(self, outcome: Outcome) -> None:
        """Tell everybody who waits how it ended."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def break_off(self) -> None:
        """Tell everybody who waits that a defect of ours keeps the answer from them."""
        if not self.outcome.done():
            self.outcome.set_exception(InternalError())
            # Seen here, so that a task nobody waits for is no warning.
            self.outcome.exception()
