"""`GET /v1/usage`: what the caller's team has spent and what budgets and quotas leave."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.interface import KeyDirectory
from gateway.edge.auth import authenticate
from gateway.ledger.rollups import Spend
from gateway.service.amounts import amount, budget_fields, quota_fields
from gateway.service.usage import Days, OwnUsage, Spending, UsageService


class UsageRoutes:
    """The handler that tells a team about its money."""

    def __init__(self, *, keys: KeyDirectory, usage: UsageService, help_url: str) -> None:
        self._keys = keys
        self._usage = usage
        self._help_url = help_url

    async def show(self, request: Request) -> Response:
        """Return budgets as they are now, and what the UTC days from `since` to `until` cost."""
        caller = await authenticate(request, self._keys, self._help_url)
        query = request.query_params
        usage = await self._usage.own(caller, query.get("since", ""), query.get("until", ""))
        body = {"object": "usage", "team": caller.team.id, "key": caller.key_name, **fields(usage)}
        return Response(orjson.dumps(body), media_type="application/json")


def fields(usage: OwnUsage) -> dict[str, object]:
    """Return usage as JSON."""
    return {
        "since": usage.days.since.isoformat(),
        "until": usage.days.until.isoformat(),
        "budgets": [budget_fields(state) for state in usage.budgets],
        "quotas": [quota_fields(state) for state in usage.quotas],
        "total": spend_fields(usage.total),
        "by_day": _groups("day", usage.by_day),
        "by_model": _groups("model", usage.by_model),
        "by_key": _groups("key", usage.by_key),
    }


def spending_fields(spent: Spending, days: Days) -> dict[str, object]:
    """Return what some teams spent, as JSON, by the group that was asked for."""
    return {
        "since": days.since.isoformat(),
        "until": days.until.isoformat(),
        "complete_from": None if spent.complete_from is None else spent.complete_from.isoformat(),
        "by": spent.by.value,
        "groups": [{"name": name, **spend_fields(spend)} for name, spend in spent.groups.items()],
        "total": spend_fields(spent.total),
    }


def spend_fields(spend: Spend) -> dict[str, object]:
    """Return the sums of one group as JSON; `possible` and `adjusted` are parts of `cost`."""
    return {
        "images": spend.images,
        "cost": amount(spend.cost_microusd),
        "possible": amount(spend.possible_microusd),
        "adjusted": amount(spend.adjusted_microusd),
        "categories": {name: amount(part) for name, part in spend.categories_microusd.items()},
        "tokens": dict(spend.tokens),
    }


def _groups(name: str, groups: dict[str, Spend]) -> list[dict[str, object]]:
    return [{name: group, **spend_fields(spend)} for group, spend in groups.items()]
