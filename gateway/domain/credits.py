"""Money as EvoLink's credits, for clients that count in them."""

from __future__ import annotations

from decimal import Decimal

#: What EvoLink charges for a dollar today (protocols/evolink.md §12).
CREDITS_PER_USD = 68


def credits_of(microusd: int) -> Decimal:
    """Return micro-dollars as credits: exact, since 68 per dollar leaves at most six decimals."""
    return Decimal(microusd * CREDITS_PER_USD).scaleb(-6)
