from __future__ import annotations

from dataclasses import replace

from gateway.domain.accounts import ApiKey, Caller
from gateway.domain.errors import BudgetState
from gateway.domain.limits import Budget, Period, Scope
from gateway.domain.task import HeldWindow
from gateway.ledger.holds import (
    ScopedBudget,
    budgets_of,
    order_of,
    state_of,
    states_of,
    tightest,
    user_hash,
)
from tests.support.clock import NOON_MS
from tests.support.factories import a_budget, a_budget_state, a_team

DAY_MS = 86_400_000
MIDNIGHT_MS = NOON_MS - DAY_MS // 2
NEXT_MS = MIDNIGHT_MS + DAY_MS

DAY = a_budget("day", limit_microusd=50_000_000)
GRANT = a_budget("grant", limit_microusd=600_000_000, per=Period.TOTAL)
TEAM = replace(a_team(budgets=(DAY, GRANT)), user_budgets=(DAY,))
CALLER = Caller(TEAM, ApiKey("ci", budgets=(GRANT,)))

TODAY = HeldWindow(
    key=f"{{t:design}}:budget:team::day:{MIDNIGHT_MS}",
    scope="team",
    owner="",
    name="day",
    per="day",
    limit_microusd=50_000_000,
    starts_at_ms=MIDNIGHT_MS,
    resets_at_ms=NEXT_MS,
)
TOMORROW = replace(
    TODAY,
    key=f"{{t:design}}:budget:team::day:{NEXT_MS}",
    starts_at_ms=NEXT_MS,
    resets_at_ms=NEXT_MS + DAY_MS,
)
EVER = HeldWindow(
    key="{t:design}:budget:key:ci:grant:0",
    scope="key",
    owner="ci",
    name="grant",
    per="total",
    limit_microusd=600_000_000,
    starts_at_ms=0,
    resets_at_ms=None,
)


def test_a_call_counts_against_team_key_and_user() -> None:
    """Budgets of all scopes apply together; those of users only when a user is named."""
    named = [(budget.scope, budget.owner, budget.budget) for budget in budgets_of(CALLER, "9f86")]

    assert [
        (Scope.TEAM, "", DAY),
        (Scope.TEAM, "", GRANT),
        (Scope.KEY, "ci", GRANT),
        (Scope.USER, "9f86", DAY),
    ] == named
    assert budgets_of(CALLER, "9f86")[:3] == budgets_of(CALLER, "")


def test_windows_are_those_the_moment_is_in_or_near() -> None:
    """A hold would remember today's or tomorrow's window; a total has one."""
    team_day, _, key_grant = budgets_of(CALLER, "")

    assert (TODAY, TOMORROW) == team_day.candidates(NOON_MS)
    assert (EVER,) == key_grant.candidates(NOON_MS)


def test_order_of() -> None:
    """The script reads whose budget it is, its limit and bounds; a total has no end at all."""
    team_day, _, key_grant = budgets_of(CALLER, "")

    assert [
        {
            "scope": "team",
            "owner": "",
            "limit": 50_000_000,
            "windows": [
                {"key": TODAY.key, "start_ms": MIDNIGHT_MS, "end_ms": NEXT_MS},
                {"key": TOMORROW.key, "start_ms": NEXT_MS, "end_ms": NEXT_MS + DAY_MS},
            ],
        },
        {
            "scope": "key",
            "owner": "ci",
            "limit": 600_000_000,
            "windows": [{"key": EVER.key, "start_ms": 0}],
        },
    ] == order_of((team_day, key_grant), [(TODAY, TOMORROW), (EVER,)])


def test_state_of() -> None:
    """Figures of a script become a budget that can be told to a caller; top-ups raise its limit."""
    assert BudgetState(
        scope="team",
        owner="",
        name="day",
        per="day",
        limit_microusd=50_000_013,
        spent_microusd=7,
        held_microusd=11,
        resets_at_ms=NEXT_MS,
        topped_up_microusd=13,
    ) == state_of(TODAY, 7, 11, 13)


def test_states_of_pairs_in_order() -> None:
    """The flat answer is read as (spent, held, topped up) of each window in turn."""
    states = states_of((TODAY, EVER), [1, 2, 0, 3, 4, 5])

    assert (state_of(TODAY, 1, 2), state_of(EVER, 3, 4, 5)) == states


def test_tightest() -> None:
    """The tightest budget has the least left, not the lowest limit."""
    roomy = a_budget_state(name="roomy", limit_microusd=10)
    tight = a_budget_state(name="tight", limit_microusd=100, spent_microusd=60, held_microusd=31)
    held = a_budget_state(name="held", limit_microusd=100, spent_microusd=60)

    assert tight is tightest([roomy, tight, held])
    assert tightest([]) is None


def test_windows_of_one_name_never_mix() -> None:
    """Keys name the window's own start."""
    hourly = Budget(name="hour", limit_microusd=1, per=Period.HOUR)
    windows = ScopedBudget(TEAM.id, Scope.TEAM, "", hourly).candidates(NOON_MS + 1)

    assert [NOON_MS, NOON_MS + 3_600_000] == [window.starts_at_ms for window in windows]


def test_users_are_known_by_a_hash_of_their_team() -> None:
    """The books hold no user's name, and one name in two teams is two users."""
    hashed = user_hash(TEAM.id, "alice@example.org")

    assert 16 == len(hashed)
    assert hashed == user_hash(TEAM.id, "alice@example.org")
    assert hashed not in {user_hash(TEAM.id, "bob"), user_hash(a_team(name="ops").id, "alice")}
