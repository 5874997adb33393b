from __future__ import annotations

from datetime import date

import pytest

from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.errors import InvalidRequest
from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Period
from gateway.ledger.audit import trim
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.rollups import Grouping
from gateway.service.usage import Days, UsageService, spending
from gateway.store.client import Store
from tests.support.clock import NOON_MS, FixedClock
from tests.support.ledger import DAY_WINDOW, TEAM, BookWriter, a_hold, an_end

CALLER = Caller(
    team=Team(id=TEAM, models=("*",), budgets=(Budget("day", 100, Period.DAY),)),
    key=ApiKey("ci"),
)
NOON = date(2026, 11, 23)


@pytest.fixture
def usage(store: Store) -> UsageService:
    """Tell usage from the emptied store, at noon."""
    clock = FixedClock()
    return UsageService(ledger=RedisLedger(store, clock), rollups=RedisBooks(store), clock=clock)


async def _settle(store: Store, task: str, cost: int, *, at_ms: int, team: TeamId = TEAM) -> None:
    writer = BookWriter(store, team)
    windows = [DAY_WINDOW] if team == TEAM else []
    await writer.write(a_hold(task, 50, windows))
    await writer.write(
        an_end("settle", task, hold=50, cost=cost, windows=windows, created_ms=at_ms)
    )


async def test_own_usage(usage: UsageService, store: Store) -> None:
    """Budgets as they are now, and this month's sums of this team told apart three ways."""
    await _settle(store, "t1", 30, at_ms=NOON_MS)
    await _settle(store, "t2", 12, at_ms=NOON_MS - 86_400_000)
    await _settle(store, "t3", 99, at_ms=NOON_MS - 40 * 86_400_000)
    await _settle(store, "t4", 99, at_ms=NOON_MS, team=TeamId("search"))
    own = await usage.own(CALLER, "", "")

    assert Days(date(2026, 11, 1), NOON) == own.days
    assert [("day", 100, 141, 0)] == [
        (state.name, state.limit_microusd, state.spent_microusd, state.held_microusd)
        for state in own.budgets
    ]
    assert (42, 2) == (own.total.cost_microusd, own.total.images)
    assert {"2026-11-22": 12, "2026-11-23": 30} == {
        day: spend.cost_microusd for day, spend in own.by_day.items()
    }
    assert {"gpt-image-1.5": 42} == {
        name: spend.cost_microusd for name, spend in own.by_model.items()
    }
    assert {"ci": 42} == {name: spend.cost_microusd for name, spend in own.by_key.items()}


async def test_days_that_make_no_sense(usage: UsageService) -> None:
    """Are refused before anything is read."""
    with pytest.raises(InvalidRequest):
        await usage.own(CALLER, "2026-11-24", "")


async def test_spending_of_teams(store: Store) -> None:
    """Sums of several teams, in one and by group."""
    await _settle(store, "t1", 30, at_ms=NOON_MS)
    await _settle(store, "t2", 12, at_ms=NOON_MS, team=TeamId("search"))
    teams = [TEAM, TeamId("search"), TeamId("nobody")]
    spent = await spending(RedisBooks(store), teams, Days(NOON, NOON), Grouping.TEAM)

    assert (Grouping.TEAM, 42) == (spent.by, spent.total.cost_microusd)
    assert {"design": 30, "search": 12} == {
        name: spend.cost_microusd for name, spend in spent.groups.items()
    }


async def test_spending_by_end_user(store: Store) -> None:
    """From the entries; it is told from when on nothing is missing."""
    writer = BookWriter(store)
    for index, user in enumerate(("u1", "", "u1")):
        task = f"t{index}"
        await writer.write({**a_hold(task, 50), "user": user}, at=f"{NOON_MS}-{2 * index}")
        end = an_end("settle", task, hold=50, cost=30, created_ms=NOON_MS)
        await writer.write({**end, "user": user}, at=f"{NOON_MS}-{2 * index + 1}")
    books = RedisBooks(store)
    spent = await spending(books, [TEAM, TeamId("nobody")], Days(NOON, NOON), Grouping.USER)
    await trim(books, TEAM, upto=f"{NOON_MS}-1", name="x")
    left = await spending(books, [TEAM, TeamId("nobody")], Days(NOON, NOON), Grouping.USER)

    assert {"design/(none)": (30, 1), "design/u1": (60, 2)} == {
        name: (spend.cost_microusd, spend.images) for name, spend in spent.groups.items()
    }
    assert (90, None) == (spent.total.cost_microusd, spent.complete_from)
    assert (60, date(2026, 11, 24)) == (left.total.cost_microusd, left.complete_from)
