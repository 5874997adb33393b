"""The books: what a budget is to the rest of the gateway.

Money moves by three verbs only. *Reserve* holds the highest price a call can have in one window of
each budget of its team, before the upstream hears of it. *Settle* takes the hold back and books
what it really cost, in the same windows, whatever the calendar says by then. *Release* takes the
hold back and books nothing.

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

from typing import Protocol

from gateway.domain.accounts import Caller
from gateway.domain.errors import BudgetState


class Ledger(Protocol):
    """Reads what the scripts have written."""

    async def balances(self, caller: Caller, user: str = "") -> tuple[BudgetState, ...]:
        """Return every budget that counts for this caller, in its current window.

        `user` is an end user's hash; without one the user budgets are left out. Raises
        StoreUnavailable.
        """
        ...
