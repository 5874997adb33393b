"""What a picture costs: what is published for it, the most it can cost, and the truth after.

`list_price()` is what the upstream's price list says, `quote()` is what is held before the
upstream hears of the call, and `final()` is what is booked when it is done. Prices are exact
fractions of micro-dollars. How one is reckoned is a `Billing`, and there are three forms:

- `TokenBilling`: tokens times prices; the tokens of the picture are in a table or follow a formula;
- `CallBilling`: one price for a call, by tiers of the picture's area;
- `PictureBilling`: a price by quality and size, and one for each reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Protocol

from gateway.domain.images import Picture, TokenUsage
from gateway.domain.money import (
    MICROUSD_PER_USD,
    apportion,
    ceil_microusd,
    round_half_up_microusd,
)

#: The category of what nobody itemises: the picture itself.
PICTURE = "image_output"
REFERENCES = "image_input"


class QuoteBasis(StrEnum):
    """Where the figure of a quote comes from."""

    #: Tokens that the picture, the prompt and the thinking can come to, times prices.
    TOKENS = "tokens"
    #: A price for the call or the picture, whatever it takes.
    PRICE = "price"
    #: No price is known; the amount is the operator's.
    CONFIGURED = "configured"


class ChargeBasis(StrEnum):
    """Where the figure of a charge comes from."""

    #: The upstream said what it billed, in its credits.
    CREDITS = "credits"
    #: Counted tokens times our price table.
    TOKENS = "tokens"
    #: Our price for the call or the picture; the upstream said nothing.
    PRICE = "price"
    #: The upstream said nothing: the quote stands in for it.
    ESTIMATE = "estimate"
    #: Nobody knows whether there was a charge; the hold is taken for one.
    POSSIBLE = "possible"
    #: The upstream charged nothing.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Price:
    """An exact price in micro-dollars by category; `usage` is the tokens of it, None if flat."""

    by_category: dict[str, Fraction]
    usage: TokenUsage | None = None

    @property
    def total(self) -> Fraction:
        """The exact sum, in micro-dollars."""
        return sum(self.by_category.values(), Fraction(0))


class Billing(Protocol):
    """One form of billing."""

    def listed(self, picture: Picture) -> Price | None:
        """Return the published price: the picture and its references; None if it has none."""
        ...

    def bound(self, picture: Picture) -> Price | None:
        """Return the most that the upstream can bill for it, None when there is no price."""
        ...

    def used(self, usage: TokenUsage | None, picture: Picture | None) -> Price | None:
        """Return the price of what was made, None when too little is known of it."""
        ...


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """Micro-dollars per token, by the names of `TokenUsage`."""

    text_input: Fraction
    text_cached_input: Fraction
    image_input: Fraction
    image_cached_input: Fraction
    image_output: Fraction
    text_output: Fraction

    def by_category(self, usage: TokenUsage) -> dict[str, Fraction]:
        """Return the exact price of each category that was used, in micro-dollars."""
        return {
            category: getattr(self, category) * tokens
            for category, tokens in asdict(usage).items()
            if tokens
        }


class OutputTokens(Protocol):
    """Tells how many tokens a picture is."""

    def tokens(self, picture: Picture) -> int | None:
        """Return the image output tokens of this picture, None when nobody knows."""
        ...


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Image output tokens that are published picture by picture, by (quality, size)."""

    rows: Mapping[tuple[str, str], int]

    def tokens(self, picture: Picture) -> int | None:
        """Return the row of this quality and size."""
        return self.rows.get((picture.quality, str(picture.size)))


@dataclass(frozen=True, slots=True)
class FlatTokens:
    """As many image output tokens for every picture."""

    each: int

    def tokens(self, picture: Picture) -> int | None:  # noqa: ARG002 - the form of every count
        """Return the tokens of any picture."""
        return self.each


@dataclass(frozen=True, slots=True)
class AreaFormula:
    """Image output tokens that follow from the area; `bases` holds a number for each quality.

    With b for the base, protocols/evolink.md §12 says
    ``ceil(b * round(b * short / long) * (2_000_000 + W * H) / 4_000_000)``, halves rounded up.
    """

    bases: Mapping[str, int]

    def tokens(self, picture: Picture) -> int | None:
        """Return the tokens of this picture; integers all the way."""
        base = self.bases.get(picture.quality)
        if base is None:
            return None
        width, height = picture.size.width, picture.size.height
        short, long = sorted((width, height))
        cells = base * ((2 * base * short + long) // (2 * long))
        return -(-cells * (2_000_000 + width * height) // 4_000_000)


@dataclass(frozen=True, slots=True)
class TokenBilling:
    """Tokens times prices.

    `reference_tokens` is what one reference image costs in image input tokens at the most;
    `thinking_tokens` is the allowance for text the model may write while it draws.
    """

    prices: TokenPrices
    output: OutputTokens
    reference_tokens: int
    thinking_tokens: int

    def listed(self, picture: Picture) -> Price | None:
        """Price the output and the references."""
        usage = self._listed_usage(picture)
        return None if usage is None else self._priced(usage)

    def bound(self, picture: Picture) -> Price | None:
        """Price the prompt and the thinking as well.

        No tokenizer makes more tokens of a prompt than it has UTF-8 bytes, so those are the bound.
        """
        usage = self._listed_usage(picture)
        if usage is None:
            return None
        prompt_bytes = len(picture.prompt.encode("utf-8", "surrogatepass"))
        return self._priced(
            replace(usage, text_input=prompt_bytes, text_output=self.thinking_tokens)
        )

    def used(self, usage: TokenUsage | None, picture: Picture | None) -> Price | None:  # noqa: ARG002 - the form of every billing
        """Price the tokens that were counted; a count of nothing at all is no count."""
        return self._priced(usage) if usage is not None and usage != TokenUsage() else None

    def _listed_usage(self, picture: Picture) -> TokenUsage | None:
        tokens = self.output.tokens(picture)
        if tokens is None:
            return None
        return TokenUsage(
            image_input=picture.references * self.reference_tokens, image_output=tokens
        )

    def _priced(self, usage: TokenUsage) -> Price:
        return Price(self.prices.by_category(usage), usage)


@dataclass(frozen=True, slots=True)
class CallTier:
    """The price of a call, in micro-dollars, for pictures of up to `max_pixels` (None: any)."""

    max_pixels: int | None
    price: Fraction


@dataclass(frozen=True, slots=True)
class CallBilling:
    """One price for a call, whatever its quality, and one for each reference.

    The first tier that the picture fits counts.
    """

    tiers: tuple[CallTier, ...]
    reference: Fraction = Fraction(0)

    def listed(self, picture: Picture) -> Price | None:
        """Return the price of the picture's tier and of its references."""
        pixels = picture.size.pixels
        for tier in self.tiers:
            if tier.max_pixels is None or pixels <= tier.max_pixels:
                by_category = {PICTURE: tier.price}
                if picture.references and self.reference:
                    by_category[REFERENCES] = self.reference * picture.references
                return Price(by_category)
        return None

    def bound(self, picture: Picture) -> Price | None:
        """Return the same: nothing comes on top."""
        return self.listed(picture)

    def used(self, usage: TokenUsage | None, picture: Picture | None) -> Price | None:  # noqa: ARG002 - tokens do not count
        """Return the same, for whoever knows what was ordered."""
        return None if picture is None else self.listed(picture)


@dataclass(frozen=True, slots=True)
class PictureBilling:
    """A price for each picture by (quality, size), and one for each reference; micro-dollars."""

    rows: Mapping[tuple[str, str], Fraction]
    reference: Fraction

    def listed(self, picture: Picture) -> Price | None:
        """Return the price of the row and of the references."""
        price = self.rows.get((picture.quality, str(picture.size)))
        if price is None:
            return None
        by_category = {PICTURE: price}
        if picture.references:
            by_category[REFERENCES] = self.reference * picture.references
        return Price(by_category)

    def bound(self, picture: Picture) -> Price | None:
        """Return the same: nothing comes on top."""
        return self.listed(picture)

    def used(self, usage: TokenUsage | None, picture: Picture | None) -> Price | None:  # noqa: ARG002 - tokens do not count
        """Return the same, for whoever knows what was ordered."""
        return None if picture is None else self.listed(picture)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All that is needed to price one offer; `source` and `date` say whence the prices are.

    `credits_per_usd` is the upstream's rate of exchange.
    """

    billing: Billing
    credits_per_usd: Fraction
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class Quote:
    """An upper bound for one render: micro-dollars that add up to the total, and why.

    `usage` is the tokens it assumes, None where tokens do not count.
    """

    total_microusd: int
    by_category: dict[str, int]
    basis: QuoteBasis
    usage: TokenUsage | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """What one render costs: micro-dollars that add up to the total, and why.

    `drift_microusd` is what the upstream billed beyond our own reckoning (below zero: less); None
    where one of the two is not known.
    """

    total_microusd: int
    by_category: dict[str, int]
    basis: ChargeBasis
    drift_microusd: int | None = None


NO_CHARGE = Charge(total_microusd=0, by_category={}, basis=ChargeBasis.NOTHING)


def list_price(book: PriceBook, picture: Picture) -> Fraction | None:
    """Return the published price in exact micro-dollars, or None when there is none.

    It covers the picture and its references and no text: that is what published ranges mean.
    """
    price = book.billing.listed(picture)
    return None if price is None else price.total


def quote(book: PriceBook, picture: Picture) -> Quote | None:
    """Return the most that this picture can cost, or None when there is no price for it.

    Rounded up once.
    """
    price = book.billing.bound(picture)
    if price is None:
        return None
    total = ceil_microusd(price.total)
    return Quote(
        total_microusd=total,
        by_category=apportion(total, price.by_category),
        basis=QuoteBasis.PRICE if price.usage is None else QuoteBasis.TOKENS,
        usage=price.usage,
    )


def configured(hold_microusd: int) -> Quote:
    """Return what stands in for the quote of a picture without a price."""
    return Quote(
        total_microusd=hold_microusd,
        by_category={PICTURE: hold_microusd},
        basis=QuoteBasis.CONFIGURED,
    )


def final(
    book: PriceBook,
    *,
    usage: TokenUsage | None,
    credits_used: Fraction | None,
    hold_microusd: int,
    picture: Picture | None = None,
) -> Charge:
    """Return what a completed render costs, rounded half up once.

    What the upstream says it billed wins (`credits_used`), else our own reckoning: tokens times
    prices, or the flat price of `picture`, which need not be told where tokens count. When neither
    is known the hold is booked as an estimate.
    """
    ours = book.billing.used(usage, picture)
    weights = {PICTURE: Fraction(1)} if ours is None else ours.by_category
    if credits_used is not None:
        total = round_half_up_microusd(credits_used * MICROUSD_PER_USD / book.credits_per_usd)
        basis = ChargeBasis.CREDITS
        drift = None if ours is None else total - round_half_up_microusd(ours.total)
    elif ours is not None:
        total = round_half_up_microusd(ours.total)
        basis = ChargeBasis.PRICE if ours.usage is None else ChargeBasis.TOKENS
        drift = None
    else:
        total, basis, drift = hold_microusd, ChargeBasis.ESTIMATE, None
    return Charge(total, apportion(total, weights), basis, drift)


def estimate(hold_microusd: int) -> Charge:
    """Return the charge of a render that is done and that nobody can price: its whole hold."""
    return Charge(
        total_microusd=hold_microusd,
        by_category={PICTURE: hold_microusd},
        basis=ChargeBasis.ESTIMATE,
    )


def possible(hold_microusd: int) -> Charge:
    """Return the charge of a render that nobody can account for: its whole hold."""
    return Charge(
        total_microusd=hold_microusd,
        by_category={PICTURE: hold_microusd},
        basis=ChargeBasis.POSSIBLE,
    )
