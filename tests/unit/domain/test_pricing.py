from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.images import Size, TokenUsage
from gateway.domain.pricing import (
    NO_CHARGE,
    Charge,
    ChargeBasis,
    Quote,
    final,
    possible,
    quote,
)
from tests.support.factories import (
    EVOLINK_PRICES,
    PORTRAIT,
    SQUARE,
    a_book,
    a_picture,
)

COUNTS = st.integers(min_value=0, max_value=10**6)
USAGES = st.builds(
    TokenUsage,
    text_input=COUNTS,
    text_cached_input=COUNTS,
    image_input=COUNTS,
    image_cached_input=COUNTS,
    image_output=COUNTS,
    text_output=COUNTS,
)
CREDITS = st.fractions(min_value=0, max_value=10**6, max_denominator=10**7)


def test_prices_by_category() -> None:
    """Each category has its own price, and only what was used is listed."""
    usage = TokenUsage(1000, 1000, 1000, 1000, 1000, 1000)

    expected = {
        "text_input": Fraction(4500),
        "text_cached_input": Fraction(1125),
        "image_input": Fraction(7200),
        "image_cached_input": Fraction(1800),
        "image_output": Fraction(28_800),
        "text_output": Fraction(9000),
    }
    assert expected == EVOLINK_PRICES.by_category(usage)
    assert EVOLINK_PRICES.by_category(TokenUsage(image_output=1)) == {
        "image_output": Fraction("28.8")
    }


@pytest.mark.parametrize(
    ("prompt", "quality", "size", "thinking_tokens", "microusd"),
    [
        # 272 x 28.8 = 7833.6 and a byte of prompt 4.5.
        ("x", "low", SQUARE, 0, 7839),
        ("cats", "low", SQUARE, 0, 7852),
        ("cats", "low", SQUARE, 256, 10_156),
        # UTF-8 bytes bound the tokens: two bytes for one letter, four for one emoji.
        ("ä", "low", SQUARE, 0, 7843),
        ("🦊", "low", SQUARE, 0, 7852),
        ("cats", "medium", SQUARE, 0, 30_431),
        ("cats", "high", PORTRAIT, 0, 179_730),
    ],
)
def test_quote(prompt: str, quality: str, size: Size, thinking_tokens: int, microusd: int) -> None:
    """A quote covers the picture, the whole prompt and the thinking, rounded up once."""
    quoted = quote(
        a_book(thinking_tokens=thinking_tokens),
        a_picture(prompt=prompt, quality=quality, size=size),
    )

    assert quoted is not None
    assert microusd == quoted.total_microusd


def test_quote_says_what_it_assumes() -> None:
    """A quote lists the tokens it is made of."""
    expected = Quote(
        total_microusd=10_156,
        usage=TokenUsage(text_input=4, image_output=272, text_output=256),
    )

    assert expected == quote(a_book(thinking_tokens=256), a_picture(prompt="cats"))


@pytest.mark.parametrize(
    ("quality", "size"),
    [("hd", SQUARE), ("low", Size(512, 512)), ("low", Size(1536, 1536))],
)
def test_no_quote_without_a_price(quality: str, size: Size) -> None:
    """A picture that the table does not know has no price, rather than a guessed one."""
    assert quote(a_book(), a_picture(quality=quality, size=size)) is None


LOW_SQUARE = TokenUsage(image_output=272)
WITH_TEXT = TokenUsage(image_output=272, text_input=4)


@pytest.mark.parametrize(
    ("usage", "credits_used", "charge"),
    [
        # Tokens at our prices: 272 x 28.8 = 7833.6, rounded half up.
        (LOW_SQUARE, None, Charge(7834, {"image_output": 7834}, ChargeBasis.TOKENS)),
        # 7833.6 + 4 x 4.5 = 7851.6
        (
            WITH_TEXT,
            None,
            Charge(7852, {"image_output": 7834, "text_input": 18}, ChargeBasis.TOKENS),
        ),
        # EvoLink's credits for the same, at 68 to the dollar.
        (
            LOW_SQUARE,
            Fraction("0.5326848"),
            Charge(7834, {"image_output": 7834}, ChargeBasis.CREDITS),
        ),
        (
            WITH_TEXT,
            Fraction("0.5326848") + Fraction("0.001224"),
            Charge(7852, {"image_output": 7834, "text_input": 18}, ChargeBasis.CREDITS),
        ),
        # What was billed wins over what the tokens would cost; they only split it.
        (
            WITH_TEXT,
            Fraction(68),
            Charge(1_000_000, {"image_output": 997_707, "text_input": 2293}, ChargeBasis.CREDITS),
        ),
        (LOW_SQUARE, Fraction(0), Charge(0, {"image_output": 0}, ChargeBasis.CREDITS)),
        (None, Fraction(34), Charge(500_000, {"image_output": 500_000}, ChargeBasis.CREDITS)),
        # Half a micro-dollar goes up.
        (None, Fraction("0.000034"), Charge(1, {"image_output": 1}, ChargeBasis.CREDITS)),
        # Nothing was told: the hold stands in.
        (None, None, Charge(9999, {"image_output": 9999}, ChargeBasis.ESTIMATE)),
        (TokenUsage(), None, Charge(9999, {"image_output": 9999}, ChargeBasis.ESTIMATE)),
    ],
)
def test_final(usage: TokenUsage | None, credits_used: Fraction | None, charge: Charge) -> None:
    """Credits win, then tokens, then the hold as an estimate; rounded half up once."""
    actual = final(a_book(), usage=usage, credits_used=credits_used, hold_microusd=9999)

    assert charge == actual


@given(
    usage=st.none() | USAGES,
    credits_used=st.none() | CREDITS,
    hold_microusd=st.integers(min_value=0, max_value=10**9),
)
def test_categories_sum_to_the_total(
    usage: TokenUsage | None, credits_used: Fraction | None, hold_microusd: int
) -> None:
    """Whatever was told, the categories of a charge add up to what is booked."""
    charge = final(a_book(), usage=usage, credits_used=credits_used, hold_microusd=hold_microusd)

    assert charge.total_microusd == sum(charge.by_category.values())


@given(prompt=st.text(), thinking_tokens=COUNTS)
def test_a_quote_covers_what_it_assumes(prompt: str, thinking_tokens: int) -> None:
    """A render that uses every token of its quote never settles above its hold."""
    book = a_book(thinking_tokens=thinking_tokens)
    quoted = quote(book, a_picture(prompt=prompt))
    assert quoted is not None
    charge = final(book, usage=quoted.usage, credits_used=None, hold_microusd=0)

    assert charge.total_microusd <= quoted.total_microusd <= charge.total_microusd + 1


def test_free_tokens_cost_nothing() -> None:
    """A category that is free is listed at nothing, as gpt-image-1's text output is."""
    free = replace(EVOLINK_PRICES, text_output=Fraction(0))

    assert {"text_output": Fraction(0)} == free.by_category(TokenUsage(text_output=5))


def test_possible_charge_is_the_whole_hold() -> None:
    """A render that nobody can account for counts as spent in full (rule 5)."""
    assert Charge(7852, {"image_output": 7852}, ChargeBasis.POSSIBLE) == possible(7852)


def test_no_charge() -> None:
    """What the upstream did not charge has no categories at all."""
    assert Charge(0, {}, ChargeBasis.NOTHING) == NO_CHARGE
