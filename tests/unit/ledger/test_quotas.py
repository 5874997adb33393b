from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.limits import Quotas
from gateway.ledger.quotas import (
    Rate,
    RateState,
    day_quota_of,
    rates_of,
    refused_state,
    states_of,
)
from tests.support.clock import NOON_MS
from tests.support.factories import a_team

DAY_MS = 86_400_000


def test_a_team_without_quotas_has_no_rates() -> None:
    """What is not limited is not counted."""
    assert () == rates_of(a_team(), 3)
    assert day_quota_of(a_team(), NOON_MS) is None


def test_requests_count_calls_and_images_count_images() -> None:
    """A call for three images takes one request and three images."""
    team = replace(a_team(), quotas=Quotas(requests_per_minute=120, images_per_minute=60))

    assert (
        Rate("requests", "{t:design}:rate:requests", 120, 1),
        Rate("input-images", "{t:design}:rate:input-images", 60, 3),
    ) == rates_of(team, 3)


def test_the_day_is_the_teams_own() -> None:
    """Images per day are counted from midnight to midnight of the team's time zone."""
    team = replace(a_team(), quotas=Quotas(images_per_day=10), timezone=ZoneInfo("Asia/Seoul"))
    quota = day_quota_of(team, NOON_MS)

    assert quota is not None
    order = quota.order()
    today, tomorrow = order["windows"]  # type: ignore[misc]
    assert 10 == order["limit"]
    assert 15 == (today["start_ms"] // 3_600_000) % 24
    assert (DAY_MS, today["end_ms"]) == (today["end_ms"] - today["start_ms"], tomorrow["start_ms"])
    assert f"{{t:design}}:images_of_day:{today['start_ms']}" == today["key"]


def test_states_pair_rates_with_figures() -> None:
    """A script's flat answer becomes one state for each rate; a repeated admission has none."""
    rates = (Rate("requests", "k", 120, 1), Rate("input-images", "l", 60, 1))

    assert (
        RateState("requests", 120, 119, 500),
        RateState("input-images", 60, 59, 1_000),
    ) == states_of(rates, [119, 500, 59, 1_000])
    assert () == states_of(rates, [])


@pytest.mark.parametrize(
    ("limit", "units", "wait_ms", "remaining", "reset_ms"),
    [
        (120, 1, 1, 0, 59_501),
        (120, 1, 500, 0, 60_000),
        (60, 4, 1_500, 2, 57_500),
        (60, 4, 4_000, 0, 60_000),
        (2, 5, 90_000, 2, 0),
    ],
)
def test_a_refusal_tells_what_is_left(
    limit: int, units: int, wait_ms: int, remaining: int, reset_ms: int
) -> None:
    """By the wait alone; a call above the whole quota never fits, whatever it waits."""
    assert RateState("requests", limit, remaining, reset_ms) == refused_state(
        resource="requests", limit=limit, units=units, wait_ms=wait_ms
    )
