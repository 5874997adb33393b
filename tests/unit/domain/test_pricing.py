from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.images import Size, TokenUsage
from gateway.domain.pricing import (
    NO_CHARGE,
    AreaFormula,
    CallBilling,
    CallTier,
    Charge,
    ChargeBasis,
    PictureBilling,
    Quote,
    QuoteBasis,
    configured,
    final,
    list_price,
    possible,
    quote,
)
from tests.support.factories import (
    EVOLINK_PRICES,
    LANDSCAPE,
    PORTRAIT,
    SQUARE,
    a_book,
    a_picture,
    a_token_billing,
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
    """A quote lists the tokens it is made of, and categories that add up to its total."""
    expected = Quote(
        total_microusd=21_215,
        by_category={
            "image_output": 7834,
            "image_input": 11_059,
            "text_input": 18,
            "text_output": 2304,
        },
        basis=QuoteBasis.TOKENS,
        usage=TokenUsage(text_input=4, image_input=1536, image_output=272, text_output=256),
    )

    assert expected == quote(a_book(thinking_tokens=256), a_picture(prompt="cats", references=1))


def test_a_prompt_that_is_no_text_is_bounded_too() -> None:
    """Half of a surrogate pair cannot be sent as UTF-8; three bytes bound it all the same."""
    quoted = quote(a_book(), a_picture(prompt="\ud83e"))

    assert quoted is not None
    assert quoted.usage == TokenUsage(text_input=3, image_output=272)


@pytest.mark.parametrize(
    ("references", "microusd"), [(0, "7833.6"), (1, "18892.8"), (16, "184780.8")]
)
def test_list_price(references: int, microusd: str) -> None:
    """What is published is the picture and its references: no prompt, no thinking, no rounding."""
    picture = a_picture(prompt="cats and cats", references=references)

    assert Fraction(microusd) == list_price(a_book(thinking_tokens=256), picture)


@pytest.mark.parametrize(
    ("quality", "size", "tokens"),
    [
        # Published by EvoLink and seen in OpenAI's usage (protocols/openai_images.md §13.1).
        ("low", (1024, 1024), 196),
        ("medium", (1024, 1024), 1756),
        ("high", (1024, 1024), 7024),
        ("low", (1536, 1024), 158),
        ("high", (1024, 1536), 5488),
        ("high", (1792, 1024), 5063),
        ("medium", (2048, 1152), 1413),
        ("medium", (2880, 2880), 5930),
        ("high", (3840, 2160), 13_342),
        ("low", (1776, 592), 62),
        ("high", (2880, 2880), 23_719),
        # 16 * 1088 / 2048 is 8.5: halves go up.
        ("low", (2048, 1088), 153),
        ("max", (1024, 1024), None),
    ],
)
def test_area_formula(quality: str, size: tuple[int, int], tokens: int | None) -> None:
    """The formula gives the published tokens; a quality without a base has none."""
    formula = AreaFormula({"low": 16, "medium": 48, "high": 96})

    assert tokens == formula.tokens(a_picture(quality=quality, size=Size(*size)))


#: The bases of gpt-image-2.5 and the tokens its documents name (protocols/evolink.md §2.5).
@pytest.mark.parametrize(
    ("base", "tokens"), [(16, 196), (24, 439), (48, 1756), (64, 3122), (96, 7024)]
)
def test_area_formula_of_the_next_model(base: int, tokens: int) -> None:
    """The formula holds for the next model, too, with a base for each of its qualities."""
    assert tokens == AreaFormula({"q": base}).tokens(a_picture(quality="q"))


TIERS = CallBilling(
    (
        CallTier(1_700_000, Fraction(15_000)),
        CallTier(4_400_000, Fraction(25_500)),
        CallTier(None, Fraction(39_000)),
    )
)
ROWS = PictureBilling(rows={("low", "1024x1024"): Fraction("7485.5")}, reference=Fraction("500.25"))


@pytest.mark.parametrize(
    ("size", "microusd"),
    [
        ((1024, 1024), 15_000),
        ((1700, 1000), 15_000),
        ((1700, 1001), 25_500),
        ((4400, 1000), 25_500),
        ((4400, 1001), 39_000),
    ],
)
def test_a_price_for_the_call(size: tuple[int, int], microusd: int) -> None:
    """The first tier that the picture fits into is the price, whatever the prompt and quality."""
    picture = a_picture(prompt="x" * 1000, quality="any", size=Size(*size), references=3)
    book = a_book(billing=TIERS)

    assert microusd == list_price(book, picture)
    assert quote(book, picture) == Quote(microusd, {"image_output": microusd}, QuoteBasis.PRICE)


def test_no_price_above_the_last_tier() -> None:
    """A picture larger than every tier has no price."""
    book = a_book(billing=CallBilling(TIERS.tiers[:2]))

    assert (None, None) == (
        list_price(book, a_picture(size=Size(3000, 3000))),
        quote(book, a_picture(size=Size(3000, 3000))),
    )


@pytest.mark.parametrize(
    ("references", "listed", "by_category"),
    [
        (0, "7485.5", {"image_output": 7486}),
        (2, "8486", {"image_output": 7485, "image_input": 1001}),
    ],
)
def test_a_price_for_the_picture(references: int, listed: str, by_category: dict[str, int]) -> None:
    """A picture has the price of its row, and each reference one of its own."""
    book = a_book(billing=ROWS)
    picture = a_picture(references=references)
    total = sum(by_category.values())

    assert Fraction(listed) == list_price(book, picture)
    assert quote(book, picture) == Quote(total, by_category, QuoteBasis.PRICE)


def test_no_price_without_a_row() -> None:
    """A picture that the list does not name has no price."""
    book = a_book(billing=ROWS)

    assert (None, None) == (
        list_price(book, a_picture(size=LANDSCAPE)),
        quote(book, a_picture(size=LANDSCAPE)),
    )


def test_configured() -> None:
    """What an operator sets for pictures without a price is told as such."""
    assert configured(90_000) == Quote(
        90_000, {"image_output": 90_000}, QuoteBasis.CONFIGURED, usage=None
    )


@pytest.mark.parametrize(
    ("quality", "size"),
    [("hd", SQUARE), ("low", Size(512, 512)), ("low", Size(1536, 1536))],
)
def test_no_quote_without_a_price(quality: str, size: Size) -> None:
    """A picture that the table does not know has no price, rather than a guessed one."""
    picture = a_picture(quality=quality, size=size)

    assert (None, None) == (list_price(a_book(), picture), quote(a_book(), picture))


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
            Charge(7834, {"image_output": 7834}, ChargeBasis.CREDITS, 0),
        ),
        (
            WITH_TEXT,
            Fraction("0.5326848") + Fraction("0.001224"),
            Charge(7852, {"image_output": 7834, "text_input": 18}, ChargeBasis.CREDITS, 0),
        ),
        # What was billed wins over what the tokens would cost; they only split it.
        (
            WITH_TEXT,
            Fraction(68),
            Charge(
                1_000_000,
                {"image_output": 997_707, "text_input": 2293},
                ChargeBasis.CREDITS,
                992_148,
            ),
        ),
        (LOW_SQUARE, Fraction(0), Charge(0, {"image_output": 0}, ChargeBasis.CREDITS, -7834)),
        (None, Fraction(34), Charge(500_000, {"image_output": 500_000}, ChargeBasis.CREDITS)),
        # Half a micro-dollar goes up.
        (None, Fraction("0.000034"), Charge(1, {"image_output": 1}, ChargeBasis.CREDITS)),
        # Nothing was told: the hold stands in.
        (None, None, Charge(9999, {"image_output": 9999}, ChargeBasis.ESTIMATE)),
        (TokenUsage(), None, Charge(9999, {"image_output": 9999}, ChargeBasis.ESTIMATE)),
    ],
)
def test_final(usage: TokenUsage | None, credits_used: Fraction | None, charge: Charge) -> None:
    """Credits win, then tokens, then the hold as an estimate; rounded half up once.

    What was billed beyond our own reckoning is told where both are known.
    """
    actual = final(a_book(), usage=usage, credits_used=credits_used, hold_microusd=9999)

    assert charge == actual


FLAT = Charge(7486, {"image_output": 7486}, ChargeBasis.PRICE)


@pytest.mark.parametrize(
    ("billing", "credits_used", "told", "charge"),
    [
        (ROWS, None, True, FLAT),
        (
            TIERS,
            None,
            True,
            replace(FLAT, total_microusd=15_000, by_category={"image_output": 15_000}),
        ),
        # 0.51 credits are 7,500 micro-dollars: 14 more than the price in our list.
        (
            ROWS,
            Fraction("0.51"),
            True,
            Charge(7500, {"image_output": 7500}, ChargeBasis.CREDITS, 14),
        ),
        # Nobody remembers what was ordered: there is no price to compare with or to book.
        (
            ROWS,
            Fraction("0.51"),
            False,
            Charge(7500, {"image_output": 7500}, ChargeBasis.CREDITS),
        ),
        (ROWS, None, False, Charge(9999, {"image_output": 9999}, ChargeBasis.ESTIMATE)),
        (TIERS, None, False, Charge(9999, {"image_output": 9999}, ChargeBasis.ESTIMATE)),
    ],
)
def test_final_of_a_flat_price(
    billing: CallBilling | PictureBilling, credits_used: Fraction | None, told: bool, charge: Charge
) -> None:
    """Where tokens do not count, our own reckoning is the price of what was ordered."""
    actual = final(
        a_book(billing=billing),
        usage=WITH_TEXT,
        credits_used=credits_used,
        hold_microusd=9999,
        picture=a_picture() if told else None,
    )

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
    book = a_book(billing=a_token_billing(thinking_tokens=thinking_tokens))
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
