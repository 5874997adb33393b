import pytest

from gateway.assets.interface import ByteSpan
from gateway.edge.ranges import RangeNotSatisfiableError, span_of


@pytest.mark.parametrize(
    ("header", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-5", 2, 6),
        ("bytes=0-9", 0, 10),
        ("bytes=4-99", 4, 10),
        ("bytes=9-", 9, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-99", 0, 10),
        ("Bytes= 1-2 ", 1, 3),
    ],
)
def test_one_range_is_what_it_says(header: str, first: int, end: int) -> None:
    """Both ends count, an open one is the last byte, and a suffix counts from there."""
    span = span_of(header, 10)

    assert ByteSpan(first, end) == span
    assert span is not None
    assert end - first == span.size_bytes


@pytest.mark.parametrize(
    "header",
    ["", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "0-1"],
)
def test_what_is_no_range_is_ignored(header: str) -> None:
    """The whole is a right answer to several ranges, and to what nobody can read."""
    assert span_of(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=99-", "bytes=-0"])
def test_bytes_that_do_not_exist(header: str) -> None:
    """What begins behind the last byte, or is no byte at all, cannot be given."""
    with pytest.raises(RangeNotSatisfiableError):
        span_of(header, 10)
