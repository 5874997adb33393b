"""Models and the offers behind them, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from gateway.domain.errors import InvalidRequest
from gateway.domain.images import ImageRequest, Operation, Picture, Size
from gateway.domain.latency import Lognormal
from gateway.domain.pricing import PriceBook, Quote, configured, list_price, quote


@dataclass(frozen=True, slots=True)
class FixedSizes:
    """A list of sizes, and nothing else."""

    sizes: tuple[Size, ...]

    def allows(self, size: Size) -> bool:
        """Tell whether the size is in the list."""
        return size in self.sizes


class SizeFault(StrEnum):
    """Which bound of `FreeSizes` a size breaks."""

    STEP = "step"
    EDGE = "edge"
    ASPECT = "aspect"
    TOO_FEW_PIXELS = "too_few_pixels"
    TOO_MANY_PIXELS = "too_many_pixels"


@dataclass(frozen=True, slots=True)
class FreeSizes:
    """Any size within bounds, all of them inclusive.

    Edges are multiples of `step` pixels; the longer is at most `max_aspect` times the shorter.
    """

    step: int
    min_edge: int
    max_edge: int
    min_pixels: int
    max_pixels: int
    max_aspect: int

    def fault(self, size: Size) -> SizeFault | None:
        """Return the first bound that this size breaks, or None."""
        short, long = sorted((size.width, size.height))
        if short % self.step or long % self.step:
            return SizeFault.STEP
        if short < self.min_edge or long > self.max_edge:
            return SizeFault.EDGE
        if long > short * self.max_aspect:
            return SizeFault.ASPECT
        if size.pixels < self.min_pixels:
            return SizeFault.TOO_FEW_PIXELS
        return SizeFault.TOO_MANY_PIXELS if size.pixels > self.max_pixels else None

    def allows(self, size: Size) -> bool:
        """Tell whether the size keeps to every bound."""
        return self.fault(size) is None


SizeRule = FixedSizes | FreeSizes


@dataclass(frozen=True, slots=True)
class Offer:
    """One upstream's way to make a picture: what it can do and what it costs.

    `prompt_max_chars` is None where no limit is known. `latency` is what is believed of the seconds
    it takes, by quality, until enough was seen.
    """

    provider: str
    upstream_model: str
    operation: Operation
    sizes: SizeRule
    qualities: tuple[str, ...]
    prompt_max_chars: int | None
    book: PriceBook
    max_references: int = 0
    latency: Mapping[str, Lognormal] = field(default_factory=dict)

    def makes(self, picture: Picture) -> bool:
        """Tell whether this offer can make the picture, whatever it costs."""
        return (
            self.operation is picture.operation
            and self.sizes.allows(picture.size)
            and picture.quality in self.qualities
            and picture.references <= self.max_references
            and (self.prompt_max_chars is None or len(picture.prompt) <= self.prompt_max_chars)
        )


@dataclass(frozen=True, slots=True)
class Bid:
    """What one offer asks for one picture.

    `listed` is the published price in exact micro-dollars, `quote` the most it can cost; both are
    None where the offer has no price for it.
    """

    offer: Offer
    listed: Fraction | None
    quote: Quote | None


@dataclass(frozen=True, slots=True)
class Model:
    """A name that clients ask for.

    `created_s` is Unix seconds as `/v1/models` shows it; `shutdown_date` is YYYY-MM-DD or None.
    `unpriced_hold_microusd` is held for pictures without a price; None refuses them.
    `input_fidelity` is the values of that field which OpenAI takes for it.
    """

    name: str
    created_s: int
    owned_by: str
    shutdown_date: str | None
    default_size: Size
    default_quality: str
    offers: tuple[Offer, ...]
    unpriced_hold_microusd: int | None = None
    input_fidelity: tuple[str, ...] = ()

    def offers_for(self, operation: Operation) -> tuple[Offer, ...]:
        """Return the offers that do this operation, in the order they are tried."""
        return tuple(offer for offer in self.offers if offer.operation is operation)

    def picture(
        self,
        request: ImageRequest,
        *,
        default_size: str | None = None,
        default_quality: str | None = None,
        references: int = 0,
    ) -> Picture:
        """Return the picture that is asked for, with `auto` replaced.

        The given defaults stand in for it, else the model's. Raises ValueError for a size that is
        none.
        """
        size = request.size if request.size != "auto" else default_size
        quality = request.quality if request.quality != "auto" else default_quality
        return Picture(
            operation=Operation.EDIT if references else Operation.GENERATION,
            prompt=request.prompt,
            size=Size.parse(size) if size is not None else self.default_size,
            quality=quality if quality is not None else self.default_quality,
            references=references,
        )

    def bids(self, picture: Picture) -> tuple[Bid, ...]:
        """Return what each offer that can make this picture asks for it, in the order of offers."""
        return tuple(
            Bid(offer, list_price(offer.book, picture), quote(offer.book, picture))
            for offer in self.offers
            if offer.makes(picture)
        )

    def best(self, picture: Picture) -> tuple[Offer, Quote] | None:
        """Return the cheapest offer, the first of equals, and the most that it can cost.

        When no offer has a price, the first is taken at the configured amount. None when there is
        no such amount either, or nobody can make the picture: see `unpriced`.
        """
        bids = self.bids(picture)
        priced = [(bid.offer, bid.quote) for bid in bids if bid.quote is not None]
        if priced:
            return min(priced, key=lambda pair: pair[1].total_microusd)
        if bids and self.unpriced_hold_microusd is not None:
            return bids[0].offer, configured(self.unpriced_hold_microusd)
        return None


def unpriced(model: Model, picture: Picture) -> InvalidRequest:
    """Return the refusal of a picture that nobody makes at a known price."""
    return InvalidRequest(
        f"There is no price for '{model.name}' at size {picture.size} and quality"
        f" '{picture.quality}', so it is not made here.",
        param=None,
        code="unpriced",
    )


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models by name."""

    models: dict[str, Model]

    def get(self, name: str) -> Model | None:
        """Return the model of that name, or None."""
        return self.models.get(name)
