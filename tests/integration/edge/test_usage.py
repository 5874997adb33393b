from __future__ import annotations

import orjson
import pytest
from starlette.requests import Request

from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.errors import InvalidRequest, NotAuthenticated
from gateway.domain.limits import Budget, Period
from gateway.edge.usage import UsageRoutes
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.service.usage import UsageService
from gateway.store.client import Store
from tests.support.clock import NOON_MS, FixedClock
from tests.support.factories import KEY, a_request
from tests.support.ledger import DAY_WINDOW, TEAM, TOTAL_WINDOW, BookWriter, a_hold, an_end

CALLER = Caller(
    team=Team(
        id=TEAM,
        models=("*",),
        budgets=(
            Budget("day", 1_000_000, Period.DAY),
            Budget("prepaid", 50_000_000, Period.TOTAL),
        ),
    ),
    key=ApiKey("ci"),
)


class _OneKey:
    """Knows one key; implements `KeyDirectory`."""

    async def find(self, key: str) -> Caller | None:
        return CALLER if key == KEY else None

    async def refresh(self, key: str) -> Caller | None:
        return await self.find(key)


@pytest.fixture
def routes(store: Store) -> UsageRoutes:
    """Serve usage from the emptied store, at noon."""
    clock = FixedClock()
    service = UsageService(ledger=RedisLedger(store, clock), rollups=RedisBooks(store), clock=clock)
    return UsageRoutes(keys=_OneKey(), usage=service, help_url="https://help.example")


def _asking(query: str = "") -> Request:
    request = a_request("/v1/usage", authorization=f"Bearer {KEY}")
    request.scope["query_string"] = query.encode()
    return request


async def test_usage(routes: UsageRoutes, store: Store) -> None:
    """Money is decimal dollars in text and integer micro-dollars, never a float."""
    writer = BookWriter(store)
    windows = [DAY_WINDOW, TOTAL_WINDOW]
    await writer.write(a_hold("t1", 50_000, windows))
    await writer.write(
        an_end(
            "settle",
            "t1",
            hold=50_000,
            cost=11_800,
            windows=windows,
            tokens={"image_output": 272},
            created_ms=NOON_MS,
        )
    )
    await writer.write(a_hold("t2", 20_000, windows))
    response = await routes.show(_asking("since=2026-11-23"))
    spend = {
        "images": 1,
        "cost": {"usd": "0.0118", "microusd": 11_800},
        "possible": {"usd": "0.00", "microusd": 0},
        "adjusted": {"usd": "0.00", "microusd": 0},
        "categories": {"image_output": {"usd": "0.0118", "microusd": 11_800}},
        "tokens": {"image_output": 272},
    }

    assert "application/json" == response.headers["content-type"]
    assert {
        "object": "usage",
        "team": "design",
        "key": "ci",
        "since": "2026-11-23",
        "until": "2026-11-23",
        "budgets": [
            {
                "scope": "team",
                "name": "day",
                "per": "day",
                "limit": {"usd": "1.00", "microusd": 1_000_000},
                "topped_up": {"usd": "0.00", "microusd": 0},
                "spent": {"usd": "0.0118", "microusd": 11_800},
                "held": {"usd": "0.02", "microusd": 20_000},
                "remaining": {"usd": "0.9682", "microusd": 968_200},
                "resets_at": "2026-11-24T00:00:00Z",
            },
            {
                "scope": "team",
                "name": "prepaid",
                "per": "total",
                "limit": {"usd": "50.00", "microusd": 50_000_000},
                "topped_up": {"usd": "0.00", "microusd": 0},
                "spent": {"usd": "0.0118", "microusd": 11_800},
                "held": {"usd": "0.02", "microusd": 20_000},
                "remaining": {"usd": "49.9682", "microusd": 49_968_200},
                "resets_at": None,
            },
        ],
        "quotas": [],
        "total": spend,
        "by_day": [{"day": "2026-11-23", **spend}],
        "by_model": [{"model": "gpt-image-1.5", **spend}],
        "by_key": [{"key": "ci", **spend}],
    } == orjson.loads(response.body)


async def test_days_are_asked_for(routes: UsageRoutes) -> None:
    """Both ends are taken from the query."""
    response = await routes.show(_asking("since=2026-10-01&until=2026-10-31"))
    body = orjson.loads(response.body)

    assert ("2026-10-01", "2026-10-31", []) == (body["since"], body["until"], body["by_day"])


async def test_wrong_days_are_named(routes: UsageRoutes) -> None:
    """The parameter that is wrong stands in the error."""
    with pytest.raises(InvalidRequest) as refusal:
        await routes.show(_asking("until=never"))

    assert "until" == refusal.value.param


async def test_a_key_is_needed(routes: UsageRoutes) -> None:
    """Nobody is told about money without one, and the text says where to find it."""
    with pytest.raises(NotAuthenticated, match=r"https://help\.example"):
        await routes.show(a_request("/v1/usage"))
