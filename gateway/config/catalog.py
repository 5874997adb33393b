"""The packaged catalogue: what models there are, what makes them, and what that costs.

`catalog.toml` is the data and these are its shapes. Routes in the settings choose which providers
serve a model; each offer of a provider's kind then becomes offers of that provider, one for each
operation.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from gateway.config.settings import ProviderSettings, Settings
from gateway.config.values import Count, Exact, Section, parse_exact
from gateway.domain.catalog import Catalog, FixedSizes, FreeSizes, Model, Offer, SizeRule
from gateway.domain.images import Operation, Size
from gateway.domain.latency import Lognormal
from gateway.domain.money import MICROUSD_PER_USD
from gateway.domain.pricing import (
    AreaFormula,
    Billing,
    CallBilling,
    CallTier,
    OutputTokens,
    PictureBilling,
    PriceBook,
    TokenBilling,
    TokenPrices,
    TokenTable,
)


def parse_price(number: object) -> Fraction:
    """Return a price as `parse_exact` does, and nothing at all for ``"0"``: what is free."""
    return Fraction(0) if number == "0" else parse_exact(number)


Amount = Annotated[Fraction, BeforeValidator(parse_price)]
Whole = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ParsedSize = Annotated[Size, PlainValidator(Size.parse)]
OptionalDate = Annotated[
    str | None,
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$"),
    BeforeValidator(lambda text: text or None),
]
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


class Created(Fact):
    """When a model appeared, in Unix seconds."""

    unix_s: Count


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


OutputRow = Annotated[TableRows | AreaBases, Field(discriminator="form")]


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

    def billing(
        self, outputs: Mapping[str, TableRows | AreaBases], credits_per_usd: Fraction
    ) -> Billing:
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
    """Prices for a call, by tiers of area in rising order."""

    form: Literal["call"]
    tiers: tuple[TierRow, ...] = Field(min_length=1)

    def billing(
        self,
        outputs: Mapping[str, TableRows | AreaBases],  # noqa: ARG002 - the form of every sheet
        credits_per_usd: Fraction,
    ) -> Billing:
        """Return the billing of this sheet."""
        return CallBilling(
            tuple(
                CallTier(tier.max_pixels, self.microusd(tier.price, credits_per_usd))
                for tier in self.tiers
            )
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
        outputs: Mapping[str, TableRows | AreaBases],  # noqa: ARG002 - the form of every sheet
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


class SizeBounds(Section):
    """Free sizes: pixels, all bounds inclusive; see `FreeSizes`."""

    step: Count
    min_edge: Count
    max_edge: Count
    min_pixels: Count
    max_pixels: Count
    max_aspect: Count

    def rule(self) -> FreeSizes:
        """Return the bounds as an offer holds them."""
        return FreeSizes(**self.model_dump())


class LatencyRow(Fact):
    """What is believed of the seconds one picture takes, as `Lognormal` has it."""

    quality: str
    median_s: Positive
    sigma: Positive


class OfferRow(Section):
    """How providers of one kind make a model's pictures; `prices` names a sheet.

    `sizes` is a list of them, or the bounds of free ones.
    """

    kind: str
    operations: tuple[Operation, ...] = Field(min_length=1)
    upstream_model: str
    sizes: tuple[ParsedSize, ...] | SizeBounds
    qualities: tuple[str, ...]
    prompt_max_chars: Count | None = None
    max_references: Whole = 0
    masks: bool = False
    latency: tuple[LatencyRow, ...] = ()
    prices: str

    def size_rule(self) -> SizeRule:
        """Return the sizes as an offer holds them."""
        sizes = self.sizes
        return sizes.rule() if isinstance(sizes, SizeBounds) else FixedSizes(sizes)


class ModelRow(Section):
    """A model as clients see it."""

    created: Created
    owned_by: str
    shutdown_date: OptionalDate = None
    default_size: ParsedSize
    default_quality: str
    offers: tuple[OfferRow, ...]


class Packaged(Section):
    """The whole of `catalog.toml`."""

    models: Mapping[str, ModelRow]
    prices: Mapping[str, SheetRow]
    output_tokens: Mapping[str, OutputRow]

    def sizes(self) -> list[str]:
        """Return every size that some offer lists, in the order they are written."""
        listed = (row.sizes for row in self._offers() if not isinstance(row.sizes, SizeBounds))
        return list(dict.fromkeys(str(size) for sizes in listed for size in sizes))

    def qualities(self) -> list[str]:
        """Return every quality that some offer makes, in the order they are written."""
        return list(dict.fromkeys(quality for row in self._offers() for quality in row.qualities))

    def book(self, prices: str, credits_per_usd: Fraction) -> PriceBook:
        """Return the price book of the sheet of that name."""
        sheet = self.prices[prices]
        return PriceBook(
            billing=sheet.billing(self.output_tokens, credits_per_usd),
            credits_per_usd=credits_per_usd,
            source=sheet.source,
            date=sheet.date,
        )

    def _offers(self) -> Iterator[OfferRow]:
        return (offer for model in self.models.values() for offer in model.offers)


@cache
def packaged() -> Packaged:
    """Return the catalogue that comes with this release."""
    text = files("gateway.config").joinpath("catalog.toml").read_text(encoding="utf-8")
    return Packaged.model_validate(tomllib.loads(text, parse_float=Decimal))


def catalog_from(settings: Settings) -> Catalog:
    """Return the models of this release that the settings route; see `routed`."""
    return routed(settings, packaged())


def routed(settings: Settings, known: Packaged) -> Catalog:
    """Return the models that the settings route, offers in the order of their routes.

    A model without a route is not offered. The settings have passed `rules.py`: every route
    exists, and every model is known.
    """
    return Catalog({name: _model(name, settings, known) for name in settings.models})


def _model(name: str, settings: Settings, known: Packaged) -> Model:
    row = known.models[name]
    return Model(
        name=name,
        created_s=row.created.unix_s,
        owned_by=row.owned_by,
        shutdown_date=row.shutdown_date,
        default_size=row.default_size,
        default_quality=row.default_quality,
        unpriced_hold_microusd=settings.models[name].unpriced_hold_microusd,
        offers=tuple(
            offer
            for provider in settings.models[name].routes
            for offered in row.offers
            if offered.kind == settings.providers[provider].kind
            for offer in _offers(offered, provider, settings.providers[provider], known)
        ),
    )


def _offers(
    row: OfferRow, name: str, provider: ProviderSettings, known: Packaged
) -> Iterator[Offer]:
    book = known.book(row.prices, provider.credits_per_usd)
    for operation in row.operations:
        yield Offer(
            provider=name,
            upstream_model=row.upstream_model,
            operation=operation,
            sizes=row.size_rule(),
            qualities=row.qualities,
            prompt_max_chars=row.prompt_max_chars,
            book=book,
            max_references=row.max_references,
            masks=row.masks,
            latency={
                believed.quality: Lognormal(believed.median_s, believed.sigma)
                for believed in row.latency
            },
        )
