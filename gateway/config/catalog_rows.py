"""The shapes of a catalogue: what models there are, what makes them, and what that costs.

The packaged `catalog.toml` has them, and a settings file may add to it (docs/models.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from gateway.config.price_rows import Fact, OutputRow, ParsedSize, SheetRow, Whole
from gateway.config.values import Count, Section
from gateway.domain.catalog import Channel, OpenAiRules, PromptLimits, SizeWords, Wording
from gateway.domain.images import Operation, PictureFormat
from gateway.domain.pricing import PriceBook
from gateway.domain.sizes import FixedSizes, FreeSizes, RatioSizes, SizeRule, named_sizes

#: The quality of models that have none to choose from.
STANDARD = "standard"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
OptionalDay = Annotated[date | None, BeforeValidator(lambda day: day or None)]
Ratio = Annotated[str, Field(pattern=r"^[1-9][0-9]?:[1-9][0-9]?$")]


class Created(Fact):
    """When a model appeared, in Unix seconds."""

    unix_s: Whole


class SizeRows(Section):
    """Sizes that are no list: names, free sizes within bounds, or both.

    `ratios` are named in every one of `tiers`, the pixels of whose squares are told, the usual tier
    first. Bounds are in pixels and inclusive; without them nothing but the named sizes is made.
    """

    ratios: tuple[Ratio, ...] = ()
    tiers: Mapping[str, Count] = Field(default_factory=dict)
    step: Count = 1
    min_edge: Count = 1
    max_edge: Count | None = None
    min_pixels: Count = 1
    max_pixels: Count | None = None
    max_aspect: Count | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        bounds = (self.max_edge, self.max_pixels, self.max_aspect)
        if None in bounds and any(bounds):
            raise ValueError("expected max_edge, max_pixels and max_aspect together")
        if bool(self.ratios) != bool(self.tiers) or not (self.ratios or any(bounds)):
            raise ValueError("expected ratios with tiers, bounds, or both")
        return self

    def rule(self) -> SizeRule:
        """Return the sizes as an offer holds them."""
        named = named_sizes(
            self.ratios,
            self.tiers,
            max_edge=self.max_edge or 0,
            max_pixels=self.max_pixels or 0,
        )
        if self.max_edge is None or self.max_pixels is None or self.max_aspect is None:
            return RatioSizes(named)
        bounds = FreeSizes(
            step=self.step,
            min_edge=self.min_edge,
            max_edge=self.max_edge,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            max_aspect=self.max_aspect,
        )
        return replace(bounds, named=tuple(each for each in named if bounds.allows(each.size)))


#: A list of sizes, or what makes them.
Sizes = Annotated[
    Annotated[tuple[ParsedSize, ...], Tag("list")] | Annotated[SizeRows, Tag("rules")],
    Discriminator(lambda sizes: "list" if isinstance(sizes, list | tuple) else "rules"),
]


class WordingRow(Section):
    """How the upstream model is told what to make, as `Wording` has it."""

    size: SizeWords = SizeWords.PIXELS
    tier_field: str = ""
    format_field: str = ""


class PromptRow(Section):
    """The longest prompt that is taken; `tokens` is told by the upstream, which counts them."""

    chars: Count | None = None
    bytes: Count | None = None
    tokens: Count | None = None


class LatencyRow(Fact):
    """What is believed of the seconds one picture takes, as `Lognormal` has it."""

    quality: str
    median_s: Positive
    sigma: Positive


class OfferRow(Section):
    """How providers of one kind make a model's pictures; `prices` names a sheet.

    `sizes` is a list of them, or what `SizeRows` has. Without `qualities` there is one, `standard`,
    and the upstream is told nothing of it. The first of `formats` is what is made unasked.
    """

    kind: str
    operations: tuple[Operation, ...] = Field(min_length=1)
    upstream_model: str
    channel: Channel = Channel.OFFICIAL
    retires: OptionalDay = None
    sizes: Sizes
    qualities: tuple[str, ...] = ()
    prompt: PromptRow = PromptRow()
    max_references: Whole = 0
    masks: bool = False
    formats: tuple[PictureFormat, ...] = Field(default=(PictureFormat.PNG,), min_length=1)
    transparent: bool = False
    wording: WordingRow = WordingRow()
    latency: tuple[LatencyRow, ...] = ()
    prices: str

    def size_rule(self) -> SizeRule:
        """Return the sizes as an offer holds them."""
        sizes = self.sizes
        return sizes.rule() if isinstance(sizes, SizeRows) else FixedSizes(sizes)

    def told(self) -> Wording:
        """Return how the upstream is told, as an offer holds it."""
        row = self.wording
        return Wording(row.size, row.tier_field, bool(self.qualities), row.format_field)

    def prompt_limits(self) -> PromptLimits:
        """Return the limits that can be counted here, as an offer holds them."""
        return PromptLimits(self.prompt.chars, self.prompt.bytes)


class OpenAiRow(Section):
    """What OpenAI itself takes for its own model, as `OpenAiRules` has it."""

    input_fidelity: tuple[Literal["low", "high"], ...] = ()
    transparent: bool = True

    def rules(self) -> OpenAiRules:
        """Return them as a model holds them."""
        return OpenAiRules(self.input_fidelity, self.transparent)


class ModelRow(Section):
    """A model as clients see it."""

    created: Created = Created(unix_s=0)
    owned_by: str = "system"
    default_size: ParsedSize
    default_quality: str = STANDARD
    successor: str = ""
    openai: OpenAiRow = OpenAiRow()
    offers: tuple[OfferRow, ...]


class CatalogRows(Section):
    """A whole catalogue."""

    models: Mapping[str, ModelRow]
    prices: Mapping[str, SheetRow]
    output_tokens: Mapping[str, OutputRow]

    def sizes(self) -> list[str]:
        """Return every size that some offer lists, in the order they are written."""
        listed = (row.sizes for row in self._offers() if not isinstance(row.sizes, SizeRows))
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
