"""The teams of a settings file as the domain knows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo

from gateway.config.credentials import KeyOwner
from gateway.config.settings import Settings
from gateway.config.team_settings import (
    BudgetSettings,
    KeySettings,
    LimitsSettings,
    TeamSettings,
    UserBudgetSettings,
)
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Quotas


def teams_from(settings: Settings) -> dict[TeamId, Team]:
    """Return every team by its id."""
    return {TeamId(name): team_from(TeamId(name), team) for name, team in settings.teams.items()}


def callers_from(settings: Settings, owners: Mapping[bytes, KeyOwner]) -> dict[bytes, Caller]:
    """Return who holds each of the file's keys, by the SHA-256 of the key."""
    teams = teams_from(settings)
    keys = {
        (TeamId(name), key.name): _key(key, team.timezone)
        for name, team in settings.teams.items()
        for key in team.keys
    }
    return {
        digest: Caller(team=teams[owner.team], key=keys[owner.team, owner.key_name])
        for digest, owner in owners.items()
    }


def team_from(team_id: TeamId, team: TeamSettings) -> Team:
    """Return a team as its settings describe it, without its keys."""
    return Team(
        id=team_id,
        models=team.models,
        budgets=tuple(budget_from(budget, team.timezone) for budget in team.budgets),
        default_size=team.defaults.size or None,
        default_quality=team.defaults.quality or None,
        timezone=team.timezone,
        quotas=_quotas(team.limits),
        per_call_microusd=team.per_call_microusd,
        user_budgets=_user_budgets(team.user_budget, team.timezone),
        joins_retries=team.join_retries,
        usage_by_user=team.usage_by_user,
        keep_ms=team.keep_ms,
    )


def keys_from(team: TeamSettings) -> tuple[ApiKey, ...]:
    """Return the keys that stand in a team's settings."""
    return tuple(_key(key, team.timezone) for key in team.keys)


def _key(key: KeySettings, timezone: tzinfo) -> ApiKey:
    return ApiKey(
        name=key.name,
        models=key.models,
        budgets=tuple(budget_from(budget, timezone) for budget in key.budgets),
        per_call_microusd=key.per_call_microusd,
        expires_ms=key.expires_ms,
    )


def budget_from(budget: BudgetSettings, timezone: tzinfo) -> Budget:
    """Return a budget as its settings describe it; `timezone` counts when it has none."""
    return Budget(
        name=budget.name or budget.per.value,
        limit_microusd=budget.limit_microusd,
        per=budget.per,
        timezone=budget.timezone or timezone,
        alert_percents=tuple(sorted({int(share * 100) for share in budget.alert_at})),
    )


def _user_budgets(budget: UserBudgetSettings | None, timezone: tzinfo) -> tuple[Budget, ...]:
    if budget is None:
        return ()
    return (Budget(budget.per.value, budget.limit_microusd, budget.per, timezone),)


def _quotas(limits: LimitsSettings) -> Quotas:
    return Quotas(
        requests_per_minute=limits.requests_per_minute or None,
        images_per_minute=limits.images_per_minute or None,
        images_per_day=limits.images_per_day or None,
        in_flight_images=limits.in_flight_images or None,
        queue_ms=limits.queue_ms,
    )
