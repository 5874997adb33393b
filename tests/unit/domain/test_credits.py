from decimal import Decimal

import pytest

from gateway.domain.credits import credits_of


@pytest.mark.parametrize(
    ("microusd", "credits_"),
    [
        (0, "0"),
        (1, "0.000068"),
        (1_000_000, "68"),
        (7_852, "0.533936"),
        (-500_000, "-34"),
        (2**53 - 1, "612489549322.387388"),
    ],
)
def test_dollars_are_exact_credits(microusd: int, credits_: str) -> None:
    """68 for a dollar (protocols/evolink.md §12), to the last digit, also of debts."""
    assert Decimal(credits_) == credits_of(microusd)
