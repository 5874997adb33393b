from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Period, Scope
from gateway.ledger.alerts import MARK_KEEP_MS, Alert, alerts_of
from gateway.ledger.holds import ScopedBudget, Standing, state_of
from tests.support.clock import NOON_MS

DAY_END_MS = 1_795_478_400_000


def _standing(
    spent: int, *, per: Period = Period.DAY, limit: int = 100, topped_up: int = 0
) -> Standing:
    budget = Budget(per.value, limit, per, alert_percents=(50, 80, 100))
    scoped = ScopedBudget(TeamId("design"), Scope.TEAM, "", budget)
    window = scoped.candidates(NOON_MS)[0]
    return Standing(scoped.team, budget, window, state_of(window, spent, 7, topped_up))


@pytest.mark.parametrize(
    ("spent", "percents"),
    [(0, []), (49, []), (50, [50]), (80, [50, 80]), (99, [50, 80]), (120, [50, 80, 100])],
)
def test_what_is_reached(spent: int, percents: list[int]) -> None:
    """By what is spent, not by what is held, to the micro-dollar."""
    assert percents == [alert.percent for alert in alerts_of([_standing(spent)])]


def test_a_limit_of_nothing_is_announced_only_once_something_is_spent() -> None:
    """Nothing of nothing is no news."""
    assert [] == list(alerts_of([_standing(0, limit=0)]))
    assert 3 == len(list(alerts_of([_standing(1, limit=0)])))


def test_a_refusal_is_the_whole() -> None:
    """What is spent stops below a limit that refuses; once it is reached, that is what is told."""
    refusing = replace(_standing(97), refused=True)
    over = replace(_standing(100), refused=True)

    assert [(50, False), (80, False), (100, True)] == [
        (alert.percent, alert.refused) for alert in alerts_of([refusing])
    ]
    assert [False] * 3 == [alert.refused for alert in alerts_of([over])]


def test_top_ups_count() -> None:
    """The limit is what was paid in, too."""
    assert [50] == [a.percent for a in alerts_of([_standing(80, topped_up=50)])]


def test_marks() -> None:
    """One for each window and part; it outlives the window. A total's names its limit."""
    day, total = _standing(50), _standing(50, per=Period.TOTAL, topped_up=50)

    assert ("{t:design}:alert:team::day:1795392000000:80", DAY_END_MS + MARK_KEEP_MS) == (
        *(Alert(day, 80).key, Alert(day, 80).expires_ms),
    )
    assert ("{t:design}:alert:team::total:0:80:150", None) == (
        *(Alert(total, 80).key, Alert(total, 80).expires_ms),
    )
