from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

from gateway.config.settings import Settings
from gateway.config.teams import teams_from
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
