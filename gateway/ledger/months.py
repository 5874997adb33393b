"""UTC days and months: what sums are kept by. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def day_of(moment_ms: int) -> str:
    """Return the UTC day of a moment (Unix ms), YYYYMMDD."""
    return f"{datetime.fromtimestamp(moment_ms // 1000, UTC):%Y%m%d}"


def month_of(moment_ms: int) -> str:
    """Return the UTC month of a moment (Unix ms), YYYYMM."""
    return day_of(moment_ms)[:6]


def month_before(month: str) -> str:
    """Return the month before a YYYYMM."""
    return _months_from(month, -1)


def month_after(month: str) -> str:
    """Return the month after a YYYYMM."""
    return _months_from(month, 1)


def month_start_ms(month: str) -> int:
    """Return when a YYYYMM begins (Unix ms)."""
    return round(datetime(int(month[:4]), int(month[4:]), 1, tzinfo=UTC).timestamp()) * 1000


def _months_from(month: str, count: int) -> str:
    years, index = divmod(12 * int(month[:4]) + int(month[4:]) - 1 + count, 12)
    return f"{years:04d}{index + 1:02d}"
