"""The organization's budgets of a settings file as the domain knows them."""

from __future__ import annotations

from datetime import UTC

from gateway.config.team_settings import OrganizationSettings
from gateway.config.teams import budget_from
from gateway.domain.limits import Budget


def organization_budgets(organization: OrganizationSettings) -> tuple[Budget, ...]:
    """Return the budgets that all teams share; their windows are UTC's unless they say so."""
    return tuple(budget_from(budget, UTC) for budget in organization.budgets)
