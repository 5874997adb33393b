from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.limits import Budget, Period, Window, windows_around
from tests.support.clock import NOON_MS

#: Clocks change at 2:00 in Berlin, at midnight in Santiago and Havana (once skipping it, once
#: repeating it), by half an hour on Lord Howe, and never in Seoul.
ZONES = [
    ZoneInfo(name)
    for name in (
        *("UTC", "Europe/Berlin", "America/Santiago", "America/Havana"),
        *("Australia/Lord_Howe", "Asia/Seoul", "Asia/Kolkata"),
    )
]
CALENDAR = [Period.DAY, Period.WEEK, Period.MONTH]


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _budget(per: Period, zone: ZoneInfo) -> Budget:
    return Budget(name="b", limit_microusd=1, per=per, timezone=zone)


BUDGETS = st.builds(
    _budget,
    per=st.sampled_from([period for period in Period if period is not Period.TOTAL]),
    zone=st.sampled_from(ZONES),
)
MOMENTS_MS = st.integers(min_value=_ms("2020-01-01T00:00Z"), max_value=_ms("2036-01-01T00:00Z"))
#: Within a day of the changes of 2026, where mistakes live.
CHANGES_MS = st.builds(
    lambda change, offset_s: change + offset_s * 1000,
    st.sampled_from(
        [
            _ms("2026-03-29T01:00Z"),  # Berlin, forward
            _ms("2026-10-25T01:00Z"),  # Berlin, back
            _ms("2026-09-06T04:00Z"),  # Santiago, forward: there is no midnight
            _ms("2026-04-05T03:00Z"),  # Santiago, back: 23:00 comes twice
            _ms("2026-03-08T05:00Z"),  # Havana, forward: there is no midnight
            _ms("2026-11-01T05:00Z"),  # Havana, back: midnight comes twice
        ]
    ),
    st.integers(min_value=-90_000, max_value=90_000),
)


@given(budget=BUDGETS, now_ms=st.one_of(MOMENTS_MS, CHANGES_MS))
def test_windows_are_contiguous_and_contain_now(budget: Budget, now_ms: int) -> None:
    """The first window has this moment in it, and the second begins where the first ends."""
    current, following = windows_around(budget, now_ms)

    assert current.end_ms == following.start_ms
    assert current.end_ms is not None
    assert following.end_ms is not None
    assert current.start_ms <= now_ms < current.end_ms < following.end_ms


@given(budget=BUDGETS, now_ms=st.one_of(MOMENTS_MS, CHANGES_MS))
def test_every_moment_of_a_window_finds_the_same_window(budget: Budget, now_ms: int) -> None:
    """Two replicas with different clocks count into the same windows."""
    current, following = windows_around(budget, now_ms)
    assert current.end_ms is not None

    assert current == windows_around(budget, current.start_ms)[0]
    assert current == windows_around(budget, current.end_ms - 1)[0]
    assert following == windows_around(budget, current.end_ms)[0]


@given(
    per=st.sampled_from(CALENDAR),
    zone=st.sampled_from(ZONES),
    now_ms=st.one_of(MOMENTS_MS, CHANGES_MS),
)
def test_calendar_windows_begin_with_a_local_day(per: Period, zone: ZoneInfo, now_ms: int) -> None:
    """A day, week or month begins with the first instant of a day on the team's wall calendar."""
    start_ms = windows_around(_budget(per, zone), now_ms)[0].start_ms
    first = datetime.fromtimestamp(start_ms / 1000, zone)
    before = datetime.fromtimestamp(start_ms / 1000 - 1, zone)
    now = datetime.fromtimestamp(now_ms / 1000, zone)

    expected = now.date()
    if per is Period.WEEK:
        expected -= timedelta(days=now.weekday())
    if per is Period.MONTH:
        expected = expected.replace(day=1)
    assert expected == first.date()
    assert expected - timedelta(days=1) == before.date()


@pytest.mark.parametrize(
    ("per", "zone", "now", "bounds"),
    [
        (
            *("minute", "UTC", "2026-11-23T12:34:56.789Z"),
            ("2026-11-23T12:34Z", "2026-11-23T12:35Z", "2026-11-23T12:36Z"),
        ),
        (
            *("hour", "Europe/Berlin", "2026-11-23T12:34:56Z"),
            ("2026-11-23T12:00Z", "2026-11-23T13:00Z", "2026-11-23T14:00Z"),
        ),
        (
            *("hour", "Europe/Berlin", "2026-10-25T00:30Z"),
            ("2026-10-25T00:00Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z"),
        ),
        (
            *("day", "UTC", "2026-11-23T00:00Z"),
            ("2026-11-23T00:00Z", "2026-11-24T00:00Z", "2026-11-25T00:00Z"),
        ),
        (
            *("day", "Asia/Seoul", "2026-11-23T15:00Z"),
            ("2026-11-24T00:00+09:00", "2026-11-25T00:00+09:00", "2026-11-26T00:00+09:00"),
        ),
        (  # 23 hours
            *("day", "Europe/Berlin", "2026-03-29T12:00Z"),
            ("2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00", "2026-03-31T00:00+02:00"),
        ),
        (  # 25 hours
            *("day", "Europe/Berlin", "2026-10-25T12:00Z"),
            ("2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00", "2026-10-27T00:00+01:00"),
        ),
        (  # this day begins at one o'clock
            *("day", "America/Santiago", "2026-09-06T12:00Z"),
            ("2026-09-06T01:00-03:00", "2026-09-07T00:00-03:00", "2026-09-08T00:00-03:00"),
        ),
        (  # midnight comes twice: the first one counts
            *("day", "America/Havana", "2026-11-01T05:30Z"),
            ("2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00", "2026-11-03T00:00-05:00"),
        ),
        (  # Monday to Monday
            *("week", "Europe/Berlin", "2026-03-29T21:00Z"),
            ("2026-03-23T00:00+01:00", "2026-03-30T00:00+02:00", "2026-04-06T00:00+02:00"),
        ),
        (
            *("month", "Asia/Seoul", "2026-12-31T14:59:59Z"),
            ("2026-12-01T00:00+09:00", "2027-01-01T00:00+09:00", "2027-02-01T00:00+09:00"),
        ),
        (
            *("month", "UTC", "2028-01-31T23:59Z"),
            ("2028-01-01T00:00Z", "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
        ),
    ],
)
def test_windows(per: str, zone: str, now: str, bounds: tuple[str, str, str]) -> None:
    """Windows are the calendar's, in the team's own timezone."""
    start_ms, end_ms, following_end_ms = map(_ms, bounds)
    budget = _budget(Period(per), ZoneInfo(zone))

    expected = (Window(start_ms, end_ms), Window(end_ms, following_end_ms))
    assert expected == windows_around(budget, _ms(now))


def test_a_total_is_one_window_without_an_end() -> None:
    """A total never starts again."""
    budget = _budget(Period.TOTAL, ZoneInfo("Asia/Seoul"))

    assert (Window(start_ms=0, end_ms=None),) == windows_around(budget, _ms("2026-11-23T12:00Z"))


def test_budgets_count_in_utc_unless_told() -> None:
    """A budget without a timezone follows UTC."""
    assert UTC is Budget(name="b", limit_microusd=1, per=Period.DAY).timezone


def test_hours_begin_where_the_zone_begins_them() -> None:
    """In a zone half an hour off, an hour's window begins at half past."""
    budget = Budget("hour", 1, Period.HOUR, ZoneInfo("Asia/Kolkata"))
    current, following = windows_around(budget, NOON_MS)

    assert (NOON_MS - 1_800_000, NOON_MS + 1_800_000) == (current.start_ms, current.end_ms)
    assert current.end_ms == following.start_ms
