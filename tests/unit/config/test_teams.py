from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from gateway.config.settings import Settings
from gateway.config.team_settings import TeamSettings
from gateway.config.teams import keys_from, team_from, teams_from
from gateway.domain.accounts import Team
from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Period


def _team(**table: object) -> Team:
    settings = Settings.model_validate({"teams": {"design": table}})
    return teams_from(settings)[TeamId("design")]


def test_an_empty_team_may_use_every_model_and_has_no_budget() -> None:
    """The defaults of a team."""
    assert Team(id=TeamId("design"), models=("*",), budgets=()) == _team()


def test_a_team_is_what_the_file_says() -> None:
    """Globs, and what `auto` becomes."""
    team = _team(models=["gpt-*"], defaults={"size": "1024x1536", "quality": "low"})

    assert team.models == ("gpt-*",)
    assert team.default_size == "1024x1536"
    assert team.default_quality == "low"


def test_a_budget_is_called_after_its_window() -> None:
    """Unless it has a name of its own."""
    budgets = [{"usd": "0.5", "per": "day"}, {"usd": 9, "per": "total", "name": "launch"}]

    assert (
        Budget(name="day", limit_microusd=500_000, per=Period.DAY, timezone=UTC),
        Budget(name="launch", limit_microusd=9_000_000, per=Period.TOTAL, timezone=UTC),
    ) == _team(budgets=budgets).budgets


def test_a_budget_begins_where_it_says_or_where_its_team_is() -> None:
    """The budget's own time zone wins over the team's."""
    budgets = [{"usd": 1, "per": "day"}, {"usd": 1, "per": "month", "timezone": "Asia/Seoul"}]
    team = _team(timezone="Europe/Berlin", budgets=budgets)

    assert [ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Seoul")] == [
        budget.timezone for budget in team.budgets
    ]


def test_what_a_budget_announces_is_in_order_and_each_once() -> None:
    """Of the team's budgets and of its keys'."""
    budgets = [{"usd": 1, "per": "day", "alert_at": ["0.8", 1, "0.5", "0.80"]}]
    keys = [{"name": "ci", "env": "CI", "budgets": budgets}]
    settings = TeamSettings.model_validate({"budgets": budgets, "keys": keys})
    team, [key] = team_from(TeamId("design"), settings), keys_from(settings)

    assert [(50, 80, 100)] * 2 == [
        budget.alert_percents for budget in (*team.budgets, *key.budgets)
    ]


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ({}, False),
        ({"usage_by_user": True}, True),
        ({"user_budget": {"usd": 1, "per": "day"}}, True),
    ],
)
def test_end_users_are_known_where_they_count(table: dict[str, object], known: bool) -> None:
    """With a budget of their own, or when somebody asked for it."""
    assert known is _team(**table).knows_users
