from __future__ import annotations

import asyncio

import pytest

from gateway.background import SystemClock
from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Period, Scope
from gateway.ledger.alerts import Alert, Claim
from gateway.ledger.holds import ScopedBudget, Standing, state_of
from gateway.ledger.redis_alerts import RedisAlertMarks
from gateway.store.client import Store

LEASE_MS = 60_000


def _alert(per: Period = Period.DAY, percent: int = 80) -> Alert:
    budget = Budget("b", 100, per, alert_percents=(percent,))
    scoped = ScopedBudget(TeamId("design"), Scope.TEAM, "", budget)
    window = scoped.candidates(SystemClock().now_ms())[0]
    return Alert(Standing(scoped.team, budget, window, state_of(window, 80, 0)), percent)


ALERT = _alert()


@pytest.fixture
def one(store: Store) -> RedisAlertMarks:
    """Open the marks of one replica on the emptied store."""
    return RedisAlertMarks(store, replica="one")


@pytest.fixture
def two(store: Store) -> RedisAlertMarks:
    """Open the marks of another replica."""
    return RedisAlertMarks(store, replica="two")


async def test_a_claim_is_one_replicas(one: RedisAlertMarks, two: RedisAlertMarks) -> None:
    """Others are told that it is taken; whoever has it and asks again is told the same."""
    assert (Claim.CLAIMED, 1) == await one.claim(ALERT, lease_ms=LEASE_MS)
    assert (Claim.TAKEN, 0) == await two.claim(ALERT, lease_ms=LEASE_MS)
    assert (Claim.CLAIMED, 1) == await one.claim(ALERT, lease_ms=LEASE_MS)
    assert (Claim.CLAIMED, 1) == await two.claim(_alert(percent=50), lease_ms=LEASE_MS)


async def test_a_claim_runs_out(one: RedisAlertMarks, two: RedisAlertMarks) -> None:
    """A replica that died before it delivered loses it to another."""
    await one.claim(ALERT, lease_ms=1)
    await asyncio.sleep(0.01)

    assert (Claim.CLAIMED, 2) == await two.claim(ALERT, lease_ms=LEASE_MS)
    assert (Claim.TAKEN, 0) == await one.claim(ALERT, lease_ms=LEASE_MS)


async def test_what_was_delivered_is_never_claimed(
    one: RedisAlertMarks, two: RedisAlertMarks
) -> None:
    """Neither by others nor by whoever delivered it, also when the lease had run out."""
    await one.claim(ALERT, lease_ms=1)
    await asyncio.sleep(0.01)
    await two.claim(ALERT, lease_ms=LEASE_MS)
    await one.delivered(ALERT)
    await one.delivered(ALERT)
    await two.failed(ALERT, wait_ms=0)

    assert [(Claim.DELIVERED, 0)] * 2 == [
        await marks.claim(ALERT, lease_ms=LEASE_MS) for marks in (one, two)
    ]


async def test_what_failed_waits_for_its_next_try(
    one: RedisAlertMarks, two: RedisAlertMarks
) -> None:
    """Of any replica; the tries are counted over all of them."""
    await one.claim(ALERT, lease_ms=LEASE_MS)
    await one.failed(ALERT, wait_ms=LEASE_MS)
    waiting = [await marks.claim(ALERT, lease_ms=LEASE_MS) for marks in (one, two)]
    other = _alert(percent=50)
    await one.claim(other, lease_ms=LEASE_MS)
    await one.failed(other, wait_ms=0)

    assert [(Claim.TAKEN, 0)] * 2 == waiting
    assert (Claim.CLAIMED, 2) == await two.claim(other, lease_ms=LEASE_MS)


async def test_a_failure_of_a_claim_that_was_lost_counts_for_nothing(
    one: RedisAlertMarks, two: RedisAlertMarks
) -> None:
    """The one who has it now goes on."""
    await one.claim(ALERT, lease_ms=1)
    await asyncio.sleep(0.01)
    await two.claim(ALERT, lease_ms=LEASE_MS)
    await one.failed(ALERT, wait_ms=0)

    assert (Claim.TAKEN, 0) == await one.claim(ALERT, lease_ms=LEASE_MS)


async def test_marks_outlive_their_window_and_no_longer(one: RedisAlertMarks, store: Store) -> None:
    """Claimed or delivered; of a total they stay."""
    total = _alert(Period.TOTAL)
    for alert in (ALERT, total):
        await one.claim(alert, lease_ms=LEASE_MS)
    claimed = [await store.command("PEXPIRETIME", alert.key) for alert in (ALERT, total)]
    for alert in (ALERT, total):
        await one.delivered(alert)
    delivered = [await store.command("PEXPIRETIME", alert.key) for alert in (ALERT, total)]

    assert claimed == delivered == [ALERT.expires_ms, -1]
