"""What a script needs to know to hold money, and what its answers mean. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.domain.accounts import Caller
from gateway.domain.errors import BudgetState
from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Scope, Window, windows_around
from gateway.domain.task import HeldWindow
from gateway.store.keyspace import budget_window_key

#: Hex digits of an end user's hash: enough that two users of a team never share one.
USER_HASH_DIGITS = 16


def user_hash(team: TeamId, user: str) -> str:
    """Return what the books call an end user: never the name the client sent."""
    return hashlib.sha256(f"{team}\n{user}".encode()).hexdigest()[:USER_HASH_DIGITS]


@dataclass(frozen=True, slots=True)
class ScopedBudget:
    """A budget and whose it is: `owner` is empty for the team, a key's name, or a user's hash."""

    team: TeamId
    scope: Scope
    owner: str
    budget: Budget

    def candidates(self, now_ms: int) -> tuple[HeldWindow, ...]:
        """Return the windows that `now_ms` is in or near, as a hold would remember them."""
        return tuple(self._window(window) for window in windows_around(self.budget, now_ms))

    def _window(self, window: Window) -> HeldWindow:
        return HeldWindow(
            key=budget_window_key(
                self.team, self.scope, self.owner, self.budget.name, window.start_ms
            ),
            scope=self.scope.value,
            owner=self.owner,
            name=self.budget.name,
            per=self.budget.per.value,
            limit_microusd=self.budget.limit_microusd,
            starts_at_ms=window.start_ms,
            resets_at_ms=window.end_ms,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget with the window it is in and how it stands there.

    `refused` says that a call did not fit below the limit as it is now.
    """

    team: TeamId
    budget: Budget
    window: HeldWindow
    state: BudgetState
    refused: bool = False


def budgets_of(caller: Caller, user: str) -> tuple[ScopedBudget, ...]:
    """Return every budget a call counts against; `user` is an end user's hash or empty."""
    return tuple(_budgets_of(caller, user))


def _budgets_of(caller: Caller, user: str) -> Iterator[ScopedBudget]:
    team, key = caller.team, caller.key
    for budget in team.budgets:
        yield ScopedBudget(team.id, Scope.TEAM, "", budget)
    for budget in key.budgets:
        yield ScopedBudget(team.id, Scope.KEY, key.name, budget)
    if user:
        for budget in team.user_budgets:
            yield ScopedBudget(team.id, Scope.USER, user, budget)


def order_of(
    budgets: Sequence[ScopedBudget], choices: Sequence[Sequence[HeldWindow]]
) -> list[dict[str, object]]:
    """Return the budgets as `admit.lua` reads them; a total has no `end_ms` at all."""
    return [
        {
            "scope": budget.scope,
            "owner": budget.owner,
            "limit": budget.budget.limit_microusd,
            "windows": [window_order(window) for window in choice],
        }
        for budget, choice in zip(budgets, choices, strict=True)
    ]


def window_order(window: HeldWindow) -> dict[str, object]:
    """Return a window as the scripts read it."""
    bounds: dict[str, object] = {"key": window.key, "start_ms": window.starts_at_ms}
    if window.resets_at_ms is not None:
        bounds["end_ms"] = window.resets_at_ms
    return bounds


def state_of(
    window: HeldWindow, spent_microusd: int, held_microusd: int, topped_up_microusd: int = 0
) -> BudgetState:
    """Return a budget as it stands after a script answered with its figures."""
    return BudgetState(
        scope=window.scope,
        owner=window.owner,
        name=window.name,
        per=window.per,
        limit_microusd=window.limit_microusd + topped_up_microusd,
        spent_microusd=spent_microusd,
        held_microusd=held_microusd,
        resets_at_ms=window.resets_at_ms,
        topped_up_microusd=topped_up_microusd,
    )


def states_of(windows: Sequence[HeldWindow], flat: Sequence[int]) -> tuple[BudgetState, ...]:
    """Pair windows with the flat (spent, held, topped up, spent, …) of a script's answer."""
    return tuple(
        state_of(window, *flat[3 * index : 3 * index + 3]) for index, window in enumerate(windows)
    )


def tightest(states: Sequence[BudgetState]) -> BudgetState | None:
    """Return the budget with the least left, None when there are none."""
    return min(states, key=lambda state: state.remaining_microusd, default=None)
