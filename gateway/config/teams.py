"""The teams of a settings file as the domain knows them."""

from __future__ import annotations

from gateway.config.settings import BudgetSettings, Settings, TeamSettings
from gateway.domain.accounts import Team
from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget


def teams_from(settings: Settings) -> dict[TeamId, Team]:
    """Return every team by its id."""
    return {TeamId(name): _team(TeamId(name), team) for name, team in settings.teams.items()}


def _team(team_id: TeamId, team: TeamSettings) -> Team:
    return Team(
        id=team_id,
        models=team.models,
        budgets=tuple(_budget(budget, team) for budget in team.budgets),
        default_size=team.defaults.size or None,
        default_quality=team.defaults.quality or None,
    )


def _budget(budget: BudgetSettings, team: TeamSettings) -> Budget:
    return Budget(
        name=budget.name or budget.per.value,
        limit_microusd=budget.limit_microusd,
        per=budget.per,
        timezone=budget.timezone or team.timezone,
    )
