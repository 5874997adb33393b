"""Money and budgets as JSON, the same in every answer."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.domain.errors import BudgetState
from gateway.domain.money import format_usd
from gateway.ledger.holds import Standing
from gateway.ledger.quotas import QuotaState


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
    return {
        "scope": state.scope,
        "name": state.name,
        "per": state.per,
        "limit": amount(state.limit_microusd),
        "topped_up": amount(state.topped_up_microusd),
        "spent": amount(state.spent_microusd),
        "held": amount(state.held_microusd),
        "remaining": amount(state.remaining_microusd),
        "resets_at": _moment(state.resets_at_ms),
    }


def quota_fields(state: QuotaState) -> dict[str, object]:
    """Return a quota; `resets_at` is null where nothing is used, or where no time brings it back.

    It is rounded up to the second: until then it is not whole.
    """
    whole_ms = None if state.resets_at_ms is None else -(-state.resets_at_ms // 1000) * 1000
    return {
        "name": state.name,
        "limit": state.limit,
        "used": state.used,
        "remaining": state.remaining,
        "resets_at": _moment(whole_ms),
    }


def _moment(unix_ms: int | None) -> str | None:
    if unix_ms is None:
        return None
    return f"{datetime.fromtimestamp(unix_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
