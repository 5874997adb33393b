"""The published billing formulas of EvoLink, in credits (protocols/evolink.md §12).

This is the simulator's own copy on purpose: it shares no code with the gateway's ledger, so that
an agreement between the two proves something.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

CREDITS_PER_USD = 68
CREDITS_PER_CNY = 10
REFERENCE_IMAGE_TOKENS = 1536
"""Image-input tokens that EvoLink's estimate counts for each reference picture."""

_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")
_MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Prices:
    """Hold credits per 1,000 tokens, by category."""

    image_output: Decimal
    image_input: Decimal
    image_cached_input: Decimal
    text_input: Decimal
    text_cached_input: Decimal


@dataclass(frozen=True, slots=True)
class Usage:
    """Count the tokens of one task; field names are those of the wire (§4.2)."""

    image_output_tokens: int
    image_input_tokens: int
    text_input_tokens: int
    image_cached_input_tokens: int = 0
    text_cached_input_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Sum the five categories, as the recorded answer does."""
        return (
            self.image_output_tokens
            + self.image_input_tokens
            + self.text_input_tokens
            + self.image_cached_input_tokens
            + self.text_cached_input_tokens
        )


FREE = Prices(Decimal(0), Decimal(0), Decimal(0), Decimal(0), Decimal(0))
"""For models that are not billed by tokens."""


@dataclass(frozen=True, slots=True)
class PicturePrices:
    """Hold credits for one picture by tiers of its area, and for one reference."""

    tiers: tuple[tuple[int | None, Decimal], ...]
    """(largest area in pixels, credits), rising; ``None`` is everything beyond."""
    reference: Decimal = Decimal(0)

    def charge(self, pictures: int, width: int, height: int, references: int) -> Decimal:
        """Return the exact credits of some equal pictures and some references."""
        each = next(price for most, price in self.tiers if most is None or width * height <= most)
        return pictures * each + references * self.reference


def charge(prices: Prices, usage: Usage) -> Decimal:
    """Return the exact credits that ``usage`` costs; nothing is rounded."""
    per_thousand = (
        usage.image_output_tokens * prices.image_output
        + usage.image_input_tokens * prices.image_input
        + usage.image_cached_input_tokens * prices.image_cached_input
        + usage.text_input_tokens * prices.text_input
        + usage.text_cached_input_tokens * prices.text_cached_input
    )
    return per_thousand.scaleb(-3)


def usd(credits_used: Decimal, per_usd: int = CREDITS_PER_USD) -> Decimal:
    """Convert credits to dollars, rounded half up to the micro-dollar."""
    return (credits_used / per_usd).quantize(_MICRO, ROUND_HALF_UP)


def microusd(credits_used: Decimal, per_usd: int = CREDITS_PER_USD) -> int:
    """Convert credits to whole micro-dollars, rounded half up."""
    return int(usd(credits_used, per_usd).scaleb(6))


def cny(credits_used: Decimal) -> Decimal:
    """Convert credits to yuan, exactly."""
    return credits_used / CREDITS_PER_CNY


def text_tokens(prompt: str) -> int:
    """Count prompt tokens: words and single signs, at least 1.

    EvoLink does not publish its tokenizer. This count repeats and never passes the UTF-8 bytes of
    a prompt that is not empty, which is the bound a careful buyer reserves.
    """
    return max(1, len(_WORD_OR_SIGN.findall(prompt)))


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Look image-output tokens up by quality, for square, portrait and landscape pictures."""

    rows: dict[str, tuple[int, int, int]]

    def tokens(self, quality: str, width: int, height: int) -> int:
        """Return the tokens of one picture; ``KeyError`` for a quality without a row."""
        square, portrait, landscape = self.rows[quality]
        if width == height:
            return square
        return portrait if width < height else landscape


@dataclass(frozen=True, slots=True)
class AreaFormula:
    """Compute image-output tokens from the pixels, with a base number per quality."""

    bases: dict[str, int]

    def tokens(self, quality: str, width: int, height: int) -> int:
        """Return ``ceil(b * round(b * short / long) * (2e6 + W*H) / 4e6)``, halves rounded up."""
        base = self.bases[quality]
        short, long = sorted((width, height))
        cells = base * int(Fraction(base * short, long) + Fraction(1, 2))
        return -(-cells * (2_000_000 + width * height) // 4_000_000)


@dataclass(frozen=True, slots=True)
class NoTokens:
    """Count nothing, for models that are not billed by tokens."""

    def tokens(self, quality: str, width: int, height: int) -> int:  # noqa: ARG002 - the rule's shape
        """Return 0."""
        return 0
