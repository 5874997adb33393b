from __future__ import annotations

from fractions import Fraction

import pytest
from pydantic import ValidationError

from gateway.config.price_rows import CallSheet, EachTokens, Tokens, parse_price
from gateway.domain.images import Size
from gateway.domain.pricing import CallBilling, CallTier, FlatTokens
from tests.support.factories import a_picture


@pytest.mark.parametrize(
    ("number", "price"), [("0", Fraction(0)), ("0.0045", Fraction(9, 2000)), (2, Fraction(2))]
)
def test_a_price_may_be_nothing(number: object, price: Fraction) -> None:
    """What is free is written as "0"; anything else is read digit for digit."""
    assert price == parse_price(number)


@pytest.mark.parametrize("number", ["-1", 0.5, "", None])
def test_a_price_is_a_number(number: object) -> None:
    """Floats, negative amounts and what is no number are refused."""
    with pytest.raises(ValueError, match="expected a number"):
        parse_price(number)


def test_an_assumption_needs_a_note() -> None:
    """Whoever assumes something says why."""
    with pytest.raises(ValidationError, match="an assumption needs a note"):
        Tokens.model_validate({"tokens": 256, "assumed": True})


def test_a_price_for_each_reference() -> None:
    """A sheet by the call may ask for references, at the same rate of exchange."""
    sheet = CallSheet.model_validate(
        {
            "form": "call",
            "unit": "credits",
            "tiers": [{"price": "6.8"}],
            "reference": "0.068",
            "source": "a contract",
            "date": "2026",
            "note": "none",
        }
    )

    expected = CallBilling((CallTier(None, Fraction(100_000)),), reference=Fraction(1000))
    assert expected == sheet.billing({}, Fraction(68))


def test_the_same_tokens_for_every_picture() -> None:
    """Size and quality do not matter."""
    row = EachTokens.model_validate(
        {"form": "flat", "each": 1120, "source": "a bill", "date": "2026", "note": "none"}
    )

    assert FlatTokens(1120) == row.output()
    assert {1120} == {
        row.output().tokens(a_picture(size=size, quality=quality))
        for size in (Size(512, 512), Size(1024, 1024))
        for quality in ("low", "standard")
    }
