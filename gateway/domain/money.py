"""Money is an integer number of micro-dollars; nothing here ever holds a float.

A price per token is finer than a micro-dollar, so prices are exact fractions until the
moment they become an amount: quotes round up, settlements round half up, each once.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction

MICROUSD_PER_USD = 1_000_000

#: Amounts above this are refused: Lua counts in doubles, which are exact up to 2**53.
MAX_MICROUSD = 2**53 - 1

#: No amount has more digits than this before its point, or that many zeros behind it.
MAX_DIGITS = 12


def parse_microusd(text: str | int | Decimal) -> int:
    """Return the micro-dollars in a decimal dollar amount such as ``"0.10"`` or ``50``.

    Raises ValueError when it is not a number, is negative, is finer than a micro-dollar or
    is too large for the store to count exactly.
    """
    if isinstance(text, bool):
        raise ValueError("expected an amount in dollars")  # noqa: TRY004 - one error for bad money
    try:
        dollars = Decimal(text)
    except InvalidOperation:
        raise ValueError("expected an amount in dollars, for example 0.10") from None
    if not dollars.is_finite():
        raise ValueError("expected a finite amount in dollars")
    if dollars < 0:
        raise ValueError("expected an amount of zero or more dollars")
    if dollars.adjusted() > MAX_DIGITS:
        # Before it becomes an integer: 1e9999999 would be one of ten million digits.
        raise ValueError("expected an amount below 9,007,199,254 dollars")
    if dollars and dollars.adjusted() < -MAX_DIGITS:
        raise ValueError("expected at most six decimals: money is counted in micro-dollars")
    microusd = Fraction(dollars) * MICROUSD_PER_USD
    if microusd.denominator != 1:
        raise ValueError("expected at most six decimals: money is counted in micro-dollars")
    if microusd.numerator > MAX_MICROUSD:
        raise ValueError("expected an amount below 9,007,199,254 dollars")
    return microusd.numerator


def parse_signed_microusd(text: str) -> int:
    """Return the micro-dollars in ``-0.01`` or ``0.02``; ValueError for other texts and zero."""
    amount = parse_microusd(text.strip().removeprefix("-"))
    if amount == 0:
        raise ValueError("expected an amount that is not zero")
    return -amount if text.strip().startswith("-") else amount


def format_usd(microusd: int) -> str:
    """Return micro-dollars as plain decimal dollars: at least two decimals, at most six."""
    sign = "-" if microusd < 0 else ""
    whole, rest = divmod(abs(microusd), MICROUSD_PER_USD)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def ceil_microusd(exact: Fraction) -> int:
    """Round an exact number of micro-dollars up: what a hold must never fall short of."""
    return -(-exact.numerator // exact.denominator)


def round_half_up_microusd(exact: Fraction) -> int:
    """Round an exact number of micro-dollars half up: what a settlement books."""
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


def apportion(total_microusd: int, weights: dict[str, Fraction]) -> dict[str, int]:
    """Split an amount by weight into integers that add up to exactly that amount.

    The remainder goes to the largest fractions first (names break ties), so that categories
    always sum to the total that was booked. Weights that are all zero put it all on the first.
    """
    if not weights:
        raise ValueError("an amount needs at least one category to go to")
    weight_sum = sum(weights.values(), Fraction(0))
    if weight_sum == 0:
        first = next(iter(weights))
        return {name: total_microusd if name == first else 0 for name in weights}
    exact = {name: total_microusd * weight / weight_sum for name, weight in weights.items()}
    parts = {name: share.numerator // share.denominator for name, share in exact.items()}
    missing = total_microusd - sum(parts.values())
    by_fraction = sorted(exact, key=lambda name: (parts[name] - exact[name], name))
    for name in by_fraction[:missing]:
        parts[name] += 1
    return parts
