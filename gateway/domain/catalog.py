"""Models and the offers behind them, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from fractions import Fraction

from gateway.domain.errors import InvalidRequest, UnsupportedImage
from gateway.domain.images import ImageRequest, Operation, Picture, PictureFormat, Size
from gateway.domain.latency import Lognormal
from gateway.domain.price_books import NOT_WRITTEN, WrittenBook
from gateway.domain.pricing import PriceBook, Quote, configured, list_price, quote
from gateway.domain.sizes import SizeRule

#: The compression that leaves pictures as they are, in percent.
WHOLE = 100

#: The background of a picture whose background is left out.
TRANSPARENT = "transparent"


class SizeWords(StrEnum):
    """How an upstream is told which size to make."""

    #: As ``1024x1536``.
    PIXELS = "pixels"
    #: As a ratio, with its tier in a field of its own where there are tiers.
    RATIO = "ratio"
    #: It is not: the upstream makes the one size it makes.
    NONE = "none"


class Channel(StrEnum):
    """How an upstream came by a model, as far as it says."""

    OFFICIAL = "official"
    UNOFFICIAL = "unofficial"


@dataclass(frozen=True, slots=True)
class Wording:
    """How an upstream is told what to make, where upstream models differ.

    Names of fields are empty where the upstream model has none; one with a dot is a field inside of
    an object.
    """

    size: SizeWords = SizeWords.PIXELS
    tier_field: str = ""
    has_quality: bool = True
    format_field: str = ""


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """The longest prompt that is taken, in code points and in bytes of UTF-8; None: unknown."""

    chars: int | None = None
    bytes: int | None = None

    def allow(self, prompt: str) -> bool:
        """Tell whether a prompt keeps to every limit."""
        return (self.chars is None or len(prompt) <= self.chars) and (
            self.bytes is None or len(prompt.encode("utf-8", "surrogatepass")) <= self.bytes
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """One upstream's way to make a picture: what it can do and what it costs.

    `formats` are what it makes, the one it makes unasked first; `transparent` tells whether it can
    leave the background out. `retires` is the first day on which it is gone. `latency` is what is
    believed of the seconds it takes, by quality, until enough was seen. `written` is `book` as
    it is kept for whoever settles its tasks.
    """

    provider: str
    upstream_model: str
    operation: Operation
    sizes: SizeRule
    qualities: tuple[str, ...]
    book: PriceBook
    prompt: PromptLimits = PromptLimits()
    max_references: int = 0
    masks: bool = False
    formats: tuple[PictureFormat, ...] = (PictureFormat.PNG,)
    transparent: bool = False
    wording: Wording = Wording()
    channel: Channel = Channel.OFFICIAL
    retires: date | None = None
    latency: Mapping[str, Lognormal] = field(default_factory=dict)
    written: WrittenBook = NOT_WRITTEN

    def makes(self, picture: Picture) -> bool:
        """Tell whether this offer can make the picture, whatever it costs."""
        return (
            self.operation is picture.operation
            and self.sizes.allows(picture.size)
            and picture.quality in self.qualities
            and picture.references <= self.max_references
            and (self.masks or not picture.masked)
            and (self.transparent or picture.background != TRANSPARENT)
            and self.prompt.allow(picture.prompt)
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
class OpenAiRules:
    """What OpenAI itself takes for a model of its own: where compat is strict, nothing else."""

    input_fidelity: tuple[str, ...] = ()
    transparent: bool = True


@dataclass(frozen=True, slots=True)
class Model:
    """A name that clients ask for.

    `created_s` is Unix seconds as `/v1/models` shows it. `unpriced_hold_microusd` is held for
    pictures without a price; None refuses them. `successor` is the model to go to when this one is
    gone; empty where nobody has named one. `openai` is what OpenAI itself takes for it.
    """

    name: str
    created_s: int
    owned_by: str
    default_size: Size
    default_quality: str
    offers: tuple[Offer, ...]
    unpriced_hold_microusd: int | None = None
    successor: str = ""
    openai: OpenAiRules = OpenAiRules()

    @property
    def shutdown_date(self) -> date | None:
        """The first day on which nobody makes its pictures any more, as far as is known."""
        ends = [offer.retires for offer in self.offers]
        known = [end for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None

    def on(self, day: date) -> Model:
        """Return the model with the offers that there still are on that day."""
        kept = tuple(o for o in self.offers if o.retires is None or day < o.retires)
        return self if len(kept) == len(self.offers) else replace(self, offers=kept)

    def offers_for(self, operation: Operation) -> tuple[Offer, ...]:
        """Return the offers that do this operation, in the order they are tried."""
        return tuple(offer for offer in self.offers if offer.operation is operation)

    @property
    def takes_masks(self) -> bool:
        """Whether one of its edits can be told by a mask where to be made."""
        return any(offer.masks for offer in self.offers_for(Operation.EDIT))

    def picture(
        self,
        request: ImageRequest,
        *,
        default_size: str | None = None,
        default_quality: str | None = None,
        references: int = 0,
    ) -> Picture:
        """Return the picture that is asked for, with `auto` replaced.

        The given defaults stand in for it where the model has them, else the model's. Raises
        ValueError for a size that is none.
        """
        references = references or len(request.references.pictures)
        operation = Operation.EDIT if references else Operation.GENERATION
        size, quality = self.default_size, self.default_quality
        if request.size != "auto":
            size = Size.parse(request.size)
        elif default_size is not None and self._has_size(Size.parse(default_size)):
            size = Size.parse(default_size)
        if request.quality != "auto":
            quality = request.quality
        elif default_quality is not None and self._has_quality(default_quality):
            quality = default_quality
        return Picture(
            operation=operation,
            prompt=request.prompt,
            size=size,
            quality=quality,
            references=references,
            masked=request.references.mask is not None,
            background=request.background,
            # What is compressed later on is compressed once.
            output_format=request.output_format if request.output_compression == WHOLE else "png",
        )

    def _has_size(self, size: Size) -> bool:
        return any(offer.sizes.allows(size) for offer in self.offers)

    def _has_quality(self, quality: str) -> bool:
        return any(quality in offer.qualities for offer in self.offers)

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


def no_such_model(name: str, *, successor: str = "") -> UnsupportedImage:
    """Return OpenAI's refusal of names that nobody knows, and of models that are gone."""
    instead = f" It has been shut down; use '{successor}' instead." if successor else ""
    return UnsupportedImage(
        f"The model '{name}' does not exist.{instead}", param="model", code="invalid_value"
    )


def unmade(model: Model, picture: Picture) -> InvalidRequest:
    """Return the refusal of a picture that nobody makes, or at no known price."""
    if model.bids(picture):
        return InvalidRequest(
            f"There is no price for '{model.name}' at size {picture.size} and quality"
            f" '{picture.quality}', so it is not made here.",
            param=None,
            code="unpriced",
        )
    return UnsupportedImage(
        f"The model '{model.name}' does not make such a picture here: {picture.operation.value} at"
        f" size {picture.size}, quality '{picture.quality}', background '{picture.background}',"
        f" {picture.references} references.",
        param=None,
        code="invalid_value",
    )


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models by name; `aliases` are other names for some of them."""

    models: dict[str, Model]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Model | None:
        """Return the model of that name, or None."""
        return self.models.get(name)

    def find(self, name: str, day: date) -> Model | None:
        """Return a model by a name or an alias, as it is on a day; None when there is none."""
        model = self.models.get(self.aliases.get(name, name))
        return None if model is None else model.on(day)
