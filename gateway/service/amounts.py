"""Money and budgets as JSON, the same in every answer."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.domain.errors import BudgetState
from gateway.domain.money import format_usd
from gateway.ledger.holds import Standing


def amount(microusd: int) -> dict[str, object]:
    """Return money for people and for programs; a JSON number of dollars would be a float."""
    return {"usd": format_usd(microusd), "microusd": microusd}


def optional_amount(microusd: int | None) -> dict[str, object] | None:
    """Return money, or nothing where there is none to tell."""
    return None if microusd is None else amount(microusd)


def standing_fields(standing: Standing) -> dict[str, object]:
    """Return a budget for operators: whose it is, and how it stands."""
    owner = {"team": standing.team, "owner": standing.state.owner}
    return owner | budget_fields(standing.state)


def budget_fields(state: BudgetState) -> dict[str, object]:
    """Return a budget; `resets_at` is null for a total, `topped_up` is a part of `limit`."""
    resets_at = None
    if state.resets_at_ms is not None:
        resets_at = f"{datetime.fromtimestamp(state.resets_at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "scope": state.scope,
        "name": state.name,
        "per": state.per,
        "limit": amount(state.limit_microusd),
        "topped_up": amount(state.topped_up_microusd),
        "spent": amount(state.spent_microusd),
        "held": amount(state.held_microusd),
        "remaining": amount(state.remaining_microusd),
        "resets_at": resets_at,
    }
