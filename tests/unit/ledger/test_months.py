from __future__ import annotations

from gateway.ledger.months import day_of, month_after, month_before, month_of, month_start_ms

NOON_MS = 1_795_435_200_000  # 2026-11-23, 12:00


def test_days_are_those_of_utc() -> None:
    """A day ends at midnight in UTC, to the millisecond."""
    assert ["20261122", "20261123"] == [day_of(1_795_391_999_999), day_of(1_795_392_000_000)]
    assert ("20261123", "202611") == (day_of(NOON_MS), month_of(NOON_MS))


def test_months_follow_each_other_over_the_turn_of_a_year() -> None:
    """January follows a December."""
    assert ["202610", "202512"] == [month_before("202611"), month_before("202601")]
    assert ["202612", "202701"] == [month_after("202611"), month_after("202612")]


def test_a_month_begins_at_its_first_millisecond_in_utc() -> None:
    """The moment before is of the month before."""
    start_ms = month_start_ms("202611")
    assert ("202611", "202610") == (month_of(start_ms), month_of(start_ms - 1))
