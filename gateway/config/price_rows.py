"""The shapes of prices in a catalogue: sheets of three forms, and tokens of three."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from gateway.config.values import Count, Exact, Section, parse_exact
from gateway.domain.images import Size
from gateway.domain.money import MICROUSD_PER_USD
from gateway.domain.pricing import (
    AreaFormula,
    Billing,
    CallBilling,
    CallTier,
    FlatTokens,
    OutputTokens,
    PictureBilling,
    TokenBilling,
    TokenPrices,
    TokenTable,
)


def parse_price(number: object) -> Fraction:
    """Return a price as `parse_exact` does, and nothing at all for ``"0"``: what is free."""
    return Fraction(0) if number == "0" else parse_exact(number)


Amount = Annotated[Fraction, BeforeValidator(parse_price)]
Whole = Annotated[int, Field(strict=True, ge=0)]
ParsedSize = Annotated[Size, PlainValidator(Size.parse)]
Category = Literal[
    "text_input",
    "text_cached_input",
    "image_input",
    "image_cached_input",
    "image_output",
    "text_output",
]


class Fact(Section):
    """Something the catalogue says; what is assumed must say why."""

    assumed: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _explain(self) -> Self:
        if self.assumed and not self.note:
            raise ValueError("an assumption needs a note")
        return self


class Tokens(Fact):
    """A number of tokens that a price reckons with."""

    tokens: Whole


class TokenRow(Section):
    """Image output tokens of one picture; what is assumed is explained by the table's note."""

    quality: str
    size: ParsedSize
    tokens: Count
    assumed: bool = False


class Sourced(Section):
    """Where a block of figures comes from, and from when it is."""

    source: str = Field(min_length=1)
    date: str = Field(min_length=4)
    note: str = Field(min_length=1)


class TableRows(Sourced):
    """Image output tokens by quality and size."""

    form: Literal["table"]
    rows: tuple[TokenRow, ...]

    def output(self) -> OutputTokens:
        """Return the table as a price book holds it."""
        return TokenTable({(row.quality, str(row.size)): row.tokens for row in self.rows})


class AreaBases(Sourced):
    """The base number of each quality in the formula of `AreaFormula`."""

    form: Literal["area"]
    bases: Mapping[str, Count]

    def output(self) -> OutputTokens:
        """Return the formula as a price book holds it."""
        return AreaFormula(dict(self.bases))


class EachTokens(Sourced):
    """The same number of tokens for every picture."""

    form: Literal["flat"]
    each: Count

    def output(self) -> OutputTokens:
        """Return the number as a price book holds it."""
        return FlatTokens(self.each)


OutputTable = TableRows | AreaBases | EachTokens
OutputRow = Annotated[OutputTable, Field(discriminator="form")]


class PriceSheet(Sourced):
    """Prices of one form, in dollars or in the provider's credits."""

    unit: Literal["usd", "credits"] = "usd"

    def microusd(self, amount: Fraction, credits_per_usd: Fraction) -> Fraction:
        """Return an amount of this sheet in exact micro-dollars."""
        per_usd = credits_per_usd if self.unit == "credits" else 1
        return amount * MICROUSD_PER_USD / per_usd


class TokenSheet(PriceSheet):
    """Prices for `per_tokens` tokens by category; `assumed` names those that no source confirms.

    `output_tokens` names the block that tells how many tokens a picture is.
    """

    form: Literal["tokens"]
    per_tokens: Count
    text_input: Amount
    text_cached_input: Amount
    image_input: Amount
    image_cached_input: Amount
    image_output: Amount
    text_output: Amount
    assumed: tuple[Category, ...] = ()
    output_tokens: str
    reference: Tokens
    thinking: Tokens

    def billing(self, outputs: Mapping[str, OutputTable], credits_per_usd: Fraction) -> Billing:
        """Return the billing of this sheet."""

        def price(amount: Fraction) -> Fraction:
            return self.microusd(amount, credits_per_usd) / self.per_tokens

        return TokenBilling(
            prices=TokenPrices(
                text_input=price(self.text_input),
                text_cached_input=price(self.text_cached_input),
                image_input=price(self.image_input),
                image_cached_input=price(self.image_cached_input),
                image_output=price(self.image_output),
                text_output=price(self.text_output),
            ),
            output=outputs[self.output_tokens].output(),
            reference_tokens=self.reference.tokens,
            thinking_tokens=self.thinking.tokens,
        )


class TierRow(Section):
    """The price of one call for pictures of up to `max_pixels`; any, when it is left out."""

    max_pixels: Count | None = None
    price: Exact


class CallSheet(PriceSheet):
    """Prices for a call, by tiers of area in rising order, and for each reference image.

    `assumed` says that no source confirms them.
    """

    form: Literal["call"]
    tiers: tuple[TierRow, ...] = Field(min_length=1)
    reference: Amount = Fraction(0)
    assumed: bool = False

    def billing(
        self,
        outputs: Mapping[str, OutputTable],  # noqa: ARG002 - the form of every sheet
        credits_per_usd: Fraction,
    ) -> Billing:
        """Return the billing of this sheet."""
        return CallBilling(
            tuple(
                CallTier(tier.max_pixels, self.microusd(tier.price, credits_per_usd))
                for tier in self.tiers
            ),
            reference=self.microusd(self.reference, credits_per_usd),
        )


class PictureRow(Section):
    """The price of one picture."""

    quality: str
    size: ParsedSize
    price: Exact


class PictureSheet(PriceSheet):
    """Prices for a picture by quality and size, and for each reference image."""

    form: Literal["picture"]
    rows: tuple[PictureRow, ...] = Field(min_length=1)
    reference: Amount

    def billing(
        self,
        outputs: Mapping[str, OutputTable],  # noqa: ARG002 - the form of every sheet
        credits_per_usd: Fraction,
    ) -> Billing:
        """Return the billing of this sheet."""
        return PictureBilling(
            rows={
                (row.quality, str(row.size)): self.microusd(row.price, credits_per_usd)
                for row in self.rows
            },
            reference=self.microusd(self.reference, credits_per_usd),
        )


SheetRow = Annotated[TokenSheet | CallSheet | PictureSheet, Field(discriminator="form")]
