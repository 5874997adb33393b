"""What a script needs to know to hold money, and what its answers mean. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.accounts import Team
from gateway.domain.errors import BudgetState
from gateway.domain.limits import Budget, Window, windows_around
from gateway.domain.task import HeldWindow
from gateway.store.keyspace import budget_window_key


@dataclass(frozen=True, slots=True)
class Candidate:
    """One budget with a window the store's clock may be in."""

    budget: Budget
    window: Window
    key: str

    def held(self) -> HeldWindow:
        """Return what a hold remembers of this window."""
        return HeldWindow(
            key=self.key,
            name=self.budget.name,
            per=self.budget.per.value,
            limit_microusd=self.budget.limit_microusd,
            resets_at_ms=self.window.end_ms,
        )


def candidates(team: Team, now_ms: int) -> tuple[tuple[Candidate, ...], ...]:
    """Return, for each budget of the team in order, the windows that `now_ms` is in or near."""
    return tuple(
        tuple(
            Candidate(budget, window, budget_window_key(team.id, budget.name, window.start_ms))
            for window in windows_around(budget, now_ms)
        )
        for budget in team.budgets
    )


def order_of(choices: Sequence[Sequence[Candidate]]) -> list[dict[str, object]]:
    """Return the budgets as `admit.lua` reads them; a total has no `end_ms` at all."""
    return [
        {
            "limit": choice[0].budget.limit_microusd,
            "windows": [
                {"key": candidate.key, "start_ms": candidate.window.start_ms}
                | ({} if candidate.window.end_ms is None else {"end_ms": candidate.window.end_ms})
                for candidate in choice
            ],
        }
        for choice in choices
    ]


def state_of(window: HeldWindow, spent_microusd: int, held_microusd: int) -> BudgetState:
    """Return a budget as it stands after a script answered with its figures."""
    return BudgetState(
        scope="team",
        name=window.name,
        per=window.per,
        limit_microusd=window.limit_microusd,
        spent_microusd=spent_microusd,
        held_microusd=held_microusd,
        resets_at_ms=window.resets_at_ms,
    )


def states_of(windows: Sequence[HeldWindow], flat: Sequence[int]) -> tuple[BudgetState, ...]:
    """Pair windows with the flat (spent, held, spent, held, …) of a script's answer."""
    return tuple(
        state_of(window, flat[2 * index], flat[2 * index + 1])
        for index, window in enumerate(windows)
    )


def tightest(states: Sequence[BudgetState]) -> BudgetState | None:
    """Return the budget with the least left, None when there are none."""
    return min(states, key=lambda state: state.remaining_microusd, default=None)
