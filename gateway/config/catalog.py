"""The packaged catalogue: what models there are, what makes them, and what that costs.

`catalog.toml` is the data and these are its shapes. Routes in the settings choose which providers
serve a model; each offer of a provider's kind then becomes an offer of that provider.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from gateway.config.settings import ProviderSettings, Settings
from gateway.config.values import Count, Exact, Section
from gateway.domain.catalog import Catalog, Model, Offer
from gateway.domain.images import Operation, Size
from gateway.domain.money import MICROUSD_PER_USD
from gateway.domain.pricing import PriceBook, TokenPrices

ParsedSize = Annotated[Size, PlainValidator(Size.parse)]
OptionalDate = Annotated[
    str | None,
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$"),
    BeforeValidator(lambda text: text or None),
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


class Thinking(Fact):
    """Tokens of text that a hold has room for."""

    tokens: Annotated[int, Field(strict=True, ge=0)]


class Prices(Fact):
    """Dollars for `per_tokens` tokens, by category, and where they come from."""

    per_tokens: Count
    text_input: Exact
    text_cached_input: Exact
    image_input: Exact
    image_cached_input: Exact
    image_output: Exact
    text_output: Exact
    source: str = Field(min_length=1)
    date: str = Field(min_length=4)

    def per_token(self) -> TokenPrices:
        """Return the prices in micro-dollars per token, exact."""

        def microusd(usd: Fraction) -> Fraction:
            return usd * MICROUSD_PER_USD / self.per_tokens

        return TokenPrices(
            text_input=microusd(self.text_input),
            text_cached_input=microusd(self.text_cached_input),
            image_input=microusd(self.image_input),
            image_cached_input=microusd(self.image_cached_input),
            image_output=microusd(self.image_output),
            text_output=microusd(self.text_output),
            source=self.source,
            date=self.date,
        )


class TokenRow(Section):
    """Image output tokens of one picture; what is assumed is explained by the table's note."""

    quality: str
    size: ParsedSize
    tokens: Count
    assumed: bool = False


class TokenTable(Section):
    """Image output tokens by quality and size, and where they come from."""

    source: str = Field(min_length=1)
    date: str = Field(min_length=4)
    note: str = Field(min_length=1)
    rows: tuple[TokenRow, ...]

    def by_picture(self) -> dict[tuple[str, str], int]:
        """Return the tokens by (quality, size), as a price book holds them."""
        return {(row.quality, str(row.size)): row.tokens for row in self.rows}


class OfferRow(Section):
    """How providers of one kind make a model's pictures; prices and tokens by name."""

    kind: str
    operation: Operation
    upstream_model: str
    sizes: tuple[ParsedSize, ...]
    qualities: tuple[str, ...]
    prompt_max_chars: Count | None = None
    prices: str
    output_tokens: str
    thinking: Thinking


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
    prices: Mapping[str, Prices]
    output_tokens: Mapping[str, TokenTable]

    def sizes(self) -> list[str]:
        """Return every size that some offer makes, in the order they are written."""
        return list(dict.fromkeys(str(size) for row in self._offers() for size in row.sizes))

    def qualities(self) -> list[str]:
        """Return every quality that some offer makes, in the order they are written."""
        return list(dict.fromkeys(quality for row in self._offers() for quality in row.qualities))

    def book(self, row: OfferRow, credits_per_usd: Fraction) -> PriceBook:
        """Return all that is needed to price an offer of this row."""
        return PriceBook(
            prices=self.prices[row.prices].per_token(),
            output_tokens=self.output_tokens[row.output_tokens].by_picture(),
            thinking_tokens=row.thinking.tokens,
            credits_per_usd=credits_per_usd,
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
        offers=tuple(
            _offer(offer, provider, settings.providers[provider], known)
            for provider in settings.models[name].routes
            for offer in row.offers
            if offer.kind == settings.providers[provider].kind
        ),
    )


def _offer(row: OfferRow, name: str, provider: ProviderSettings, known: Packaged) -> Offer:
    return Offer(
        provider=name,
        upstream_model=row.upstream_model,
        operation=row.operation,
        sizes=row.sizes,
        qualities=row.qualities,
        prompt_max_chars=row.prompt_max_chars,
        book=known.book(row, provider.credits_per_usd),
    )
