"""The books: what a budget is to the rest of the gateway.

Money moves by three verbs only. *Reserve* holds the highest price a call can have in one window of
each budget of its team, before the upstream hears of it. *Settle* takes the hold back and books
what it really cost, in the same windows, whatever the calendar says by then. *Release* takes the
hold back and books nothing. A window that is made while calls of its owner are under way takes
their holds, too, and from then on is one of theirs.

Invariants:

- At any instant `spent + held <= limit` holds for an admission; a settlement may overrun (the
  upstream's truth is booked, never clamped), and then nothing more is admitted.
- A hold ends exactly once. Every script may be repeated: the second time changes nothing.
- Failure policy: closed. When the store does not answer nothing is admitted, and there is no
  counting in this process instead.

The verbs are fragments of Lua (`ledger/lua/budgets.lua`) inside the scripts that change the task's
record, so that money and record move in one step; `tasks/` owns those scripts and the engine is
the only caller that settles or releases. Here are the order for a hold (`holds.py`) and the
read side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.accounts import Caller, Team
from gateway.domain.errors import BudgetState
from gateway.domain.ids import TeamId
from gateway.domain.limits import Scope
from gateway.ledger.holds import ScopedBudget, Standing
from gateway.ledger.quotas import QuotaState


class Ledger(Protocol):
    """Reads what the scripts have written."""

    async def balances(self, caller: Caller, user: str = "") -> tuple[BudgetState, ...]:
        """Return every budget that counts for this caller, in its current window.

        `user` is an end user's hash; without one the user budgets are left out. Raises
        StoreUnavailable.
        """
        ...

    async def standings(self, budgets: Sequence[ScopedBudget]) -> tuple[Standing, ...]:
        """Return how these budgets stand in their current windows. Raises StoreUnavailable."""
        ...


class TeamLedger(Ledger, Protocol):
    """Reads what a team may know of itself."""

    async def quotas(self, team: Team) -> tuple[QuotaState, ...]:
        """Return the team's quotas as they stand, those that it has. Raises StoreUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class TopUp:
    """An amount that is added to the limit of a total; below zero takes back a former one.

    `owner` is a key's name, empty for the team's budget. `id` makes it the same top-up however
    often it is sent.
    """

    id: str
    team: TeamId
    owner: str
    budget: str
    delta_microusd: int
    note: str
    by: str

    @property
    def scope(self) -> Scope:
        """Whose budget it is."""
        return Scope.KEY if self.owner else Scope.TEAM


@dataclass(frozen=True, slots=True)
class ToppedUp:
    """A top-up that is booked, and all that was paid in by then."""

    entry_id: str
    topped_up_microusd: int


class TopUpRefusedError(Exception):
    """More would be taken back than was paid in, or more paid in than can be counted.

    Nothing was booked; `topped_up_microusd` is what is paid in now.
    """

    def __init__(self, topped_up_microusd: int) -> None:
        super().__init__("the amount does not fit to what is paid in")
        self.topped_up_microusd = topped_up_microusd


class TopUps(Protocol):
    """Books top-ups."""

    async def top_up(self, order: TopUp) -> ToppedUp:
        """Book a top-up, once however often it is sent.

        Raises TopUpRefusedError; after StoreUnavailable it may have been booked, and may be
        repeated.
        """
        ...
