"""What a picture costs: an upper bound before, the truth after.

`quote()` is what is held before the upstream hears of the call; `final()` is what is booked
when it is done. Prices are exact fractions of micro-dollars per token and carry their source.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction

from gateway.domain.images import Picture, TokenUsage
from gateway.domain.money import (
    MICROUSD_PER_USD,
    apportion,
    ceil_microusd,
    round_half_up_microusd,
)


class ChargeBasis(StrEnum):
    """Where the figure of a charge comes from."""

    #: The upstream said what it billed, in its credits.
    CREDITS = "credits"
    #: Counted tokens times our price table.
    TOKENS = "tokens"
    #: The upstream said nothing: the quote stands in for it.
    ESTIMATE = "estimate"
    #: Nobody knows whether there was a charge; the hold is taken for one.
    POSSIBLE = "possible"
    #: The upstream charged nothing.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """Micro-dollars per token, by the names of `TokenUsage`; `source` and `date` say whence."""

    text_input: Fraction
    text_cached_input: Fraction
    image_input: Fraction
    image_cached_input: Fraction
    image_output: Fraction
    text_output: Fraction
    source: str
    date: str

    def by_category(self, usage: TokenUsage) -> dict[str, Fraction]:
        """Return the exact price of each category that was used, in micro-dollars."""
        return {
            category: getattr(self, category) * tokens
            for category, tokens in asdict(usage).items()
            if tokens
        }


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All that is needed to price one offer.

    `output_tokens` maps (quality, size) to image output tokens; `thinking_tokens` is the
    allowance for text the model may write while it draws; `credits_per_usd` is the upstream's
    rate of exchange.
    """

    prices: TokenPrices
    output_tokens: dict[tuple[str, str], int]
    thinking_tokens: int
    credits_per_usd: Fraction


@dataclass(frozen=True, slots=True)
class Quote:
    """An upper bound for one render, in micro-dollars, and the tokens it assumes."""

    total_microusd: int
    usage: TokenUsage


@dataclass(frozen=True, slots=True)
class Charge:
    """What one render costs: micro-dollars that add up to the total, and why."""

    total_microusd: int
    by_category: dict[str, int]
    basis: ChargeBasis


NO_CHARGE = Charge(total_microusd=0, by_category={}, basis=ChargeBasis.NOTHING)


def quote(book: PriceBook, picture: Picture) -> Quote | None:
    """Return the most that this picture can cost, or None when there is no price for it.

    A tokenizer never makes more tokens than the prompt has UTF-8 bytes, so the bytes are the
    bound for text. Rounded up once.
    """
    image_output = book.output_tokens.get((picture.quality, str(picture.size)))
    if image_output is None:
        return None
    usage = TokenUsage(
        text_input=len(picture.prompt.encode()),
        image_output=image_output,
        text_output=book.thinking_tokens,
    )
    exact = sum(book.prices.by_category(usage).values(), Fraction(0))
    return Quote(total_microusd=ceil_microusd(exact), usage=usage)


def final(
    book: PriceBook,
    *,
    usage: TokenUsage | None,
    credits_used: Fraction | None,
    hold_microusd: int,
) -> Charge:
    """Return what a completed render costs, rounded half up once.

    What the upstream says it billed wins (`credits_used`), else the tokens at our prices; when it
    says neither, the hold is booked as an estimate.
    """
    exact_by_category = book.prices.by_category(usage) if usage is not None else {}
    weights = exact_by_category or {"image_output": Fraction(1)}
    if credits_used is not None:
        exact = credits_used * MICROUSD_PER_USD / book.credits_per_usd
        basis = ChargeBasis.CREDITS
    elif exact_by_category:
        exact = sum(exact_by_category.values(), Fraction(0))
        basis = ChargeBasis.TOKENS
    else:
        exact = Fraction(hold_microusd)
        basis = ChargeBasis.ESTIMATE
    total = round_half_up_microusd(exact)
    return Charge(total_microusd=total, by_category=apportion(total, weights), basis=basis)


def possible(hold_microusd: int) -> Charge:
    """Return the charge of a render that nobody can account for: its whole hold."""
    return Charge(
        total_microusd=hold_microusd,
        by_category={"image_output": hold_microusd},
        basis=ChargeBasis.POSSIBLE,
    )
