from __future__ import annotations

import os
from dataclasses import replace

import pytest

from gateway.access.redis_accounts import RedisAccounts
from gateway.access.teams import AllTeams
from gateway.config.team_settings import TeamSettings
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.redis_top_ups import RedisTopUps
from gateway.service.admin import Admin, AdminRefusedError, NoSuchError
from gateway.service.budgets import Budgets, Payment
from gateway.store.client import Store
from tests.support.clock import FixedClock

PREPAID = {"usd": 10, "per": "total", "name": "prepaid"}
FILE_TEAMS = {
    "design": TeamSettings.model_validate(
        {
            "budgets": [{"usd": 5, "per": "day"}, PREPAID],
            "keys": [{"name": "ci", "env": "CI", "budgets": [PREPAID]}],
        }
    )
}
PAYMENT = Payment("design", "", "prepaid", 2_500_000, "invoice 17", "cli:kim")


@pytest.fixture
def budgets(store: Store) -> Budgets:
    """Tell budgets from the emptied store, at noon."""
    return Budgets(
        teams=AllTeams(FILE_TEAMS, RedisAccounts(store)),
        ledger=RedisLedger(store, FixedClock()),
        top_ups=RedisTopUps(store),
        random_bytes=os.urandom,
    )


async def _limits(budgets: Budgets) -> list[tuple[str, str, int]]:
    return [
        (each.state.owner, each.state.name, each.state.limit_microusd)
        for each in await budgets.of("design")
    ]


@pytest.mark.parametrize(
    ("key", "of_team", "of_key"), [("", 12_500_000, 10_000_000), ("ci", 10_000_000, 12_500_000)]
)
async def test_paying_in(budgets: Budgets, key: str, of_team: int, of_key: int) -> None:
    """The limit of that budget grows by it, and of no other."""
    paid = await budgets.pay(replace(PAYMENT, key=key))

    assert (12_500_000, 2_500_000) == (
        paid.standing.state.limit_microusd,
        paid.standing.state.topped_up_microusd,
    )
    assert [("", "day", 5_000_000), ("", "prepaid", of_team), ("ci", "prepaid", of_key)] == (
        await _limits(budgets)
    )


async def test_a_payment_is_made_once_by_its_id(budgets: Budgets) -> None:
    """One without an id is a new one each time."""
    first = await budgets.pay(replace(PAYMENT, id="p1"))
    again = await budgets.pay(replace(PAYMENT, id="p1"))
    other = await budgets.pay(PAYMENT)
    another = await budgets.pay(PAYMENT)

    assert ("p1", first) == (first.id, again)
    assert (15_000_000, 17_500_000) == (
        other.standing.state.limit_microusd,
        another.standing.state.limit_microusd,
    )


async def test_teams_made_at_run_time(budgets: Budgets, store: Store) -> None:
    """Have budgets like all others."""
    admin = Admin(RedisAccounts(store), FILE_TEAMS, FixedClock(), os.urandom)
    await admin.set_team("ops", {"budgets": [PREPAID]}, who="me")
    paid = await budgets.pay(replace(PAYMENT, team="ops"))

    assert ("ops", 12_500_000) == (paid.standing.team, paid.standing.state.limit_microusd)
    assert ["design"] * 3 + ["ops"] == [each.team for each in await budgets.all()]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"team": "nowhere"}, "There is no team 'nowhere'."),
        ({"key": "web"}, "The team 'design' has no key 'web'."),
        ({"budget": "grant"}, "The team 'design' has no budget 'grant'."),
        ({"key": "ci", "budget": "day"}, "The key 'ci' of team 'design' has no budget 'day'."),
    ],
)
async def test_what_there_is_not(budgets: Budgets, change: dict[str, str], text: str) -> None:
    """Is said by its name, and nothing is booked."""
    with pytest.raises(NoSuchError) as refusal:
        await budgets.pay(replace(PAYMENT, **change))

    assert text == str(refusal.value)


async def test_only_totals_are_paid_into(budgets: Budgets) -> None:
    """What a window of a day was paid would be gone the next day."""
    with pytest.raises(AdminRefusedError, match="per day; only one that is a total"):
        await budgets.pay(replace(PAYMENT, budget="day"))


async def test_no_more_is_taken_back_than_was_paid_in(budgets: Budgets) -> None:
    """It is told how much that is."""
    await budgets.pay(PAYMENT)
    with pytest.raises(AdminRefusedError, match=r"\$2\.50 was paid in"):
        await budgets.pay(replace(PAYMENT, delta_microusd=-2_500_001))
