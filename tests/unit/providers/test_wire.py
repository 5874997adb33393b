import pytest

from gateway.providers.wire import parse_retry_after

#: 2026-07-01 12:00:00 UTC
NOON_MS = 1_782_907_200_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("Wed, 01 Jul 2026 12:01:30 GMT", 90.0),
        ("Wednesday, 01-Jul-26 12:01:30 GMT", 90.0),
        ("Wed, 01 Jul 2026 12:00:10 -0000", 10.0),
        ("Wed, 01 Jul 2026 11:00:00 GMT", 0.0),
        ("Wed, 01 Jul 2099 12:00:00 GMT", 86_400.0),
        ("9" * 400, 86_400.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1.2.3", None),
        (".", None),
        ("²", None),
        ("nan", None),
        ("Wed, 99 Jul 2026 12:01:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text: str, seconds: float | None) -> None:
    """Seconds and HTTP dates give seconds from now, within a day; anything else gives nothing."""
    assert seconds == parse_retry_after(text, now_ms=NOON_MS)
