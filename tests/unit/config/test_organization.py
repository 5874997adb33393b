from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

from gateway.config.organization import organization_budgets
from gateway.config.settings import Settings
from gateway.domain.limits import Budget, Period


def _budgets(*budgets: dict[str, object]) -> tuple[Budget, ...]:
    settings = Settings.model_validate({"organization": {"budgets": budgets}})
    return organization_budgets(settings.organization)


def test_without_a_section_there_is_no_budget() -> None:
    """The default of an organization."""
    assert () == organization_budgets(Settings.model_validate({}).organization)


def test_budgets_are_what_the_file_says() -> None:
    """Called after their window unless they have a name; in UTC unless they say where."""
    assert (
        Budget("month", 500_000_000, Period.MONTH, UTC),
        Budget("korea", 9_500_000, Period.DAY, ZoneInfo("Asia/Seoul")),
    ) == _budgets(
        {"usd": 500, "per": "month"},
        {"usd": "9.5", "per": "day", "name": "korea", "timezone": "Asia/Seoul"},
    )
