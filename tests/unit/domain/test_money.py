from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.money import (
    MAX_MICROUSD,
    apportion,
    ceil_microusd,
    format_usd,
    parse_microusd,
    parse_signed_microusd,
    round_half_up_microusd,
)

AMOUNTS = st.integers(min_value=0, max_value=MAX_MICROUSD)
FRACTIONS = st.fractions(min_value=0, max_value=10**9, max_denominator=10**6)
WEIGHTS = st.dictionaries(st.text(max_size=3), FRACTIONS, min_size=1, max_size=6)


@given(AMOUNTS)
def test_format_parse_round_trip(microusd: int) -> None:
    """What is written reads back as the same amount."""
    assert microusd == parse_microusd(format_usd(microusd))


@pytest.mark.parametrize(
    ("amount", "microusd"),
    [
        ("0.10", 100_000),
        ("0.000001", 1),
        ("1.5e1", 15_000_000),
        (50, 50_000_000),
        (0, 0),
        (Decimal("0.0288"), 28_800),
        ("0.1000000000", 100_000),
        ("0.000000000000000000000000", 0),
        ("0.000010000000000000000000000", 10),
        ("9007199254.740991", MAX_MICROUSD),
    ],
)
def test_parse(amount: str | int | Decimal, microusd: int) -> None:
    """Dollars become micro-dollars exactly."""
    assert microusd == parse_microusd(amount)


@pytest.mark.parametrize(
    ("amount", "complaint"),
    [
        ("", "expected an amount in dollars, for example 0.10"),
        ("ten", "expected an amount in dollars, for example 0.10"),
        ("$5", "expected an amount in dollars, for example 0.10"),
        (True, "expected an amount in dollars"),
        ("nan", "expected a finite amount in dollars"),
        ("inf", "expected a finite amount in dollars"),
        ("-0.01", "expected an amount of zero or more dollars"),
        (-1, "expected an amount of zero or more dollars"),
        ("0.0000001", "expected at most six decimals: money is counted in micro-dollars"),
        ("9007199254.740992", "expected an amount below 9,007,199,254 dollars"),
        # Refused before they become integers of a hundred million digits.
        ("1e100000000", "expected an amount below 9,007,199,254 dollars"),
        (
            "1e-100000000",
            "expected at most six decimals: money is counted in micro-dollars",
        ),
    ],
)
def test_parse_refuses(amount: str | int, complaint: str) -> None:
    """What cannot be counted exactly is refused with a sentence that says why."""
    with pytest.raises(ValueError, match="expected") as refusal:
        parse_microusd(amount)

    assert complaint == str(refusal.value)


@pytest.mark.parametrize(
    ("microusd", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (7_834, "0.007834"),
        (100_000, "0.10"),
        (120_000, "0.12"),
        (123_000, "0.123"),
        (1_000_000, "1.00"),
        (10_000_000, "10.00"),
        (12_345_678, "12.345678"),
        (-1, "-0.000001"),
        (-1_500_000, "-1.50"),
    ],
)
def test_format(microusd: int, text: str) -> None:
    """Amounts have at least two decimals, at most six, and never an exponent."""
    assert text == format_usd(microusd)


@pytest.mark.parametrize(
    ("exact", "ceiling", "half_up"),
    [
        (Fraction(0), 0, 0),
        (Fraction(7), 7, 7),
        (Fraction("7833.6"), 7834, 7834),
        (Fraction("7833.1"), 7834, 7833),
        (Fraction("0.5"), 1, 1),
        (Fraction("1.5"), 2, 2),
        (Fraction("2.5"), 3, 3),
        (Fraction(1, 3), 1, 0),
        (Fraction("0.4999999"), 1, 0),
    ],
)
def test_rounding(exact: Fraction, ceiling: int, half_up: int) -> None:
    """Quotes round up; settlements round half up, never to even."""
    assert (ceiling, half_up) == (ceil_microusd(exact), round_half_up_microusd(exact))


@given(total=AMOUNTS, weights=WEIGHTS)
def test_apportion_sums_to_the_total(total: int, weights: dict[str, Fraction]) -> None:
    """Parts are whole, never negative, and add up to exactly what was booked."""
    parts = apportion(total, weights)

    assert weights.keys() == parts.keys()
    assert total == sum(parts.values())
    assert all(part >= 0 for part in parts.values())


@given(total=AMOUNTS, weights=WEIGHTS)
def test_apportion_is_off_by_less_than_one(total: int, weights: dict[str, Fraction]) -> None:
    """No category is more than a micro-dollar away from its exact share."""
    weight_sum = sum(weights.values())
    if weight_sum == 0:
        return
    parts = apportion(total, weights)

    assert all(abs(parts[name] - total * weights[name] / weight_sum) < 1 for name in weights)


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        # The largest fraction gets the remainder: 6.67 before 3.33.
        (10, {"a": 1, "b": 2}, {"a": 3, "b": 7}),
        # Names break ties, whatever the order they come in.
        (1, {"b": 1, "a": 1}, {"b": 0, "a": 1}),
        (5, {"c": 1, "b": 1, "a": 1}, {"c": 1, "b": 2, "a": 2}),
        # What weighs nothing gets nothing.
        (7, {"a": 0, "b": 3}, {"a": 0, "b": 7}),
        # When nothing weighs anything the first takes it all.
        (7, {"b": 0, "a": 0}, {"b": 7, "a": 0}),
        (0, {"a": 1, "b": 2}, {"a": 0, "b": 0}),
    ],
)
def test_apportion(total: int, weights: dict[str, int], parts: dict[str, int]) -> None:
    """Remainders go to the largest fractions first."""
    assert parts == apportion(total, {name: Fraction(weight) for name, weight in weights.items()})


def test_apportion_needs_a_category() -> None:
    """An amount cannot be split among nobody."""
    with pytest.raises(ValueError, match="at least one category"):
        apportion(1, {})


def test_the_limit_is_what_lua_counts_exactly() -> None:
    """Scripts count in doubles, which are exact up to 2**53."""
    assert MAX_MICROUSD == 2**53 - 1


@pytest.mark.parametrize(
    ("text", "microusd"), [("-0.01", -10_000), (" 2 ", 2_000_000), ("-0.000001", -1)]
)
def test_signed_amounts(text: str, microusd: int) -> None:
    """Decimal dollars with an optional minus, exactly."""
    assert microusd == parse_signed_microusd(text)
