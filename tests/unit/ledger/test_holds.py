from gateway.domain.errors import BudgetState
from gateway.domain.limits import Budget, Period, Window
from gateway.domain.task import HeldWindow
from gateway.ledger.holds import Candidate, candidates, order_of, state_of, states_of, tightest
from tests.support.clock import NOON_MS
from tests.support.factories import a_budget, a_budget_state, a_team

DAY_MS = 86_400_000
MIDNIGHT_MS = NOON_MS - DAY_MS // 2
NEXT_MS = MIDNIGHT_MS + DAY_MS

DAY = a_budget("day", limit_microusd=50_000_000)
GRANT = a_budget("grant", limit_microusd=600_000_000, per=Period.TOTAL)
TEAM = a_team(budgets=(DAY, GRANT))

TODAY = Candidate(DAY, Window(MIDNIGHT_MS, NEXT_MS), f"{{t:design}}:budget:day:{MIDNIGHT_MS}")
TOMORROW = Candidate(DAY, Window(NEXT_MS, NEXT_MS + DAY_MS), f"{{t:design}}:budget:day:{NEXT_MS}")
EVER = Candidate(GRANT, Window(0, None), "{t:design}:budget:grant:0")


def test_candidates() -> None:
    """Each budget comes with the windows this moment is in or near, in the team's order."""
    assert candidates(TEAM, NOON_MS) == ((TODAY, TOMORROW), (EVER,))


def test_a_team_without_budgets_has_no_candidates() -> None:
    """No budget, no window."""
    assert candidates(a_team(budgets=()), NOON_MS) == ()


def test_order_of() -> None:
    """The script reads limits and bounds; a total has no end at all, rather than a null one."""
    assert order_of(candidates(TEAM, NOON_MS)) == [
        {
            "limit": 50_000_000,
            "windows": [
                {"key": TODAY.key, "start_ms": MIDNIGHT_MS, "end_ms": NEXT_MS},
                {"key": TOMORROW.key, "start_ms": NEXT_MS, "end_ms": NEXT_MS + DAY_MS},
            ],
        },
        {
            "limit": 600_000_000,
            "windows": [{"key": EVER.key, "start_ms": 0}],
        },
    ]


def test_held_remembers_the_window() -> None:
    """A hold knows its windows by key, and the budget as it was when the hold was taken."""
    assert TODAY.held() == HeldWindow(
        key=TODAY.key, name="day", per="day", limit_microusd=50_000_000, resets_at_ms=NEXT_MS
    )
    assert EVER.held() == HeldWindow(
        key=EVER.key, name="grant", per="total", limit_microusd=600_000_000, resets_at_ms=None
    )


def test_state_of() -> None:
    """Figures of a script become a budget that can be told to a caller."""
    assert state_of(TODAY.held(), 7, 11) == BudgetState(
        scope="team",
        name="day",
        per="day",
        limit_microusd=50_000_000,
        spent_microusd=7,
        held_microusd=11,
        resets_at_ms=NEXT_MS,
    )


def test_states_of_pairs_in_order() -> None:
    """The flat answer is read as (spent, held) of each window in turn."""
    states = states_of((TODAY.held(), EVER.held()), [1, 2, 3, 4])

    assert (state_of(TODAY.held(), 1, 2), state_of(EVER.held(), 3, 4)) == states


def test_tightest() -> None:
    """The tightest budget has the least left, not the lowest limit."""
    roomy = a_budget_state(name="roomy", limit_microusd=10)
    tight = a_budget_state(name="tight", limit_microusd=100, spent_microusd=60, held_microusd=31)
    held = a_budget_state(name="held", limit_microusd=100, spent_microusd=60)

    assert tight is tightest([roomy, tight, held])
    assert tightest([]) is None


def test_windows_follow_the_budgets_own_zone() -> None:
    """Keys name the window's own start, so that budgets of one name never mix their windows."""
    hourly = Budget(name="hour", limit_microusd=1, per=Period.HOUR)
    starts = [
        candidate.window.start_ms
        for candidate in candidates(a_team(budgets=(hourly,)), NOON_MS + 1)[0]
    ]

    assert starts == [NOON_MS, NOON_MS + 3_600_000]
