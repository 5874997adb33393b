from __future__ import annotations

from datetime import date

import pytest

from gateway.domain.errors import InvalidRequest
from gateway.service.usage import MAX_DAYS, Days, days_of, parse_day
from tests.support.clock import NOON_MS


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        ("", "", Days(date(2026, 11, 1), date(2026, 11, 23))),
        ("2026-10-30", "", Days(date(2026, 10, 30), date(2026, 11, 23))),
        ("", "2026-02-28", Days(date(2026, 2, 1), date(2026, 2, 28))),
        ("2026-11-23", "2026-11-23", Days(date(2026, 11, 23), date(2026, 11, 23))),
        ("2025-10-20", "2026-11-23", Days(date(2025, 10, 20), date(2026, 11, 23))),
    ],
)
def test_days(since: str, until: str, days: Days) -> None:
    """From the month's first to today unless told otherwise; up to 400 days."""
    assert days == days_of(since, until, now_ms=NOON_MS)


def test_today_is_that_of_utc() -> None:
    """One millisecond before midnight is still the day before."""
    assert date(2026, 11, 22) == days_of("", "", now_ms=1_795_391_999_999).until


@pytest.mark.parametrize(
    ("since", "until", "param", "text"),
    [
        ("yesterday", "", "since", "expected a day such as 2026-11-23"),
        ("", "20261123", "until", "expected a day such as 2026-11-23"),
        ("", "2026-02-30", "until", "expected a day such as 2026-11-23"),
        ("2026-11-24", "", "since", r"'since' \(2026-11-24\) is after 'until' \(2026-11-23\)"),
        ("2025-10-19", "", "since", f"more than {MAX_DAYS} days apart"),
    ],
)
def test_days_that_are_refused(since: str, until: str, param: str, text: str) -> None:
    """The error names the parameter and what is expected."""
    with pytest.raises(InvalidRequest, match=text) as refusal:
        days_of(since, until, now_ms=NOON_MS)

    assert (param, "invalid_value") == (refusal.value.param, refusal.value.code)


def test_parse_day() -> None:
    """A day is written in one form only."""
    assert date(2026, 11, 3) == parse_day("2026-11-03", "since")
