"""Which fields a call may have: one table, by operation, model and strictness.

Strict is exactly today's OpenAI (protocols/openai_images.md §2 and §7); lenient takes what real
clients send beside it (§12). The gateway's own `max_cost_usd` and `callback_url` are in both.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from gateway.domain.catalog import TRANSPARENT, Model, Offer
from gateway.domain.errors import UnsupportedImage
from gateway.domain.images import Operation, Size
from gateway.domain.sizes import FreeSizes, SizeFault, SizeRule, ratios_of
from gateway.edge.params import (
    Checker,
    Param,
    boolean,
    choice,
    dollars,
    integer,
    label,
    links,
    mapping,
    text,
    wrong_type,
)

#: OpenAI's limit for its image models (protocols/openai_images.md §2.1).
PROMPT_MAX_CHARS = 32_000

#: EvoLink's limit of a callback's address (protocols/evolink.md §6).
MAX_URL_CHARS = 2_048

#: EvoLink's field for references by their links (protocols/evolink.md §2).
LINKS = "image_urls"

#: What the qualities of dall-e became (protocols/openai_images.md §2.1, §12).
OLD_QUALITIES = {"standard": "medium", "hd": "high"}

#: Fields of OpenAI's newest models, which nothing here makes anything of.
NEWEST = ("complexity", "frame_count", "frame_duration_ms", "svg")


def prompt_field(model: Model, operation: Operation) -> Param:
    """Return the field for the prompt, as long as the most patient of the model's offers takes."""
    offers = model.offers_for(operation)
    chars = [offer.prompt.chars or PROMPT_MAX_CHARS for offer in offers]
    most = min(max(chars, default=PROMPT_MAX_CHARS), PROMPT_MAX_CHARS)
    # Without a limit of one of them there is none.
    sizes = [offer.prompt.bytes or sys.maxsize for offer in offers]
    most_bytes = max(sizes, default=sys.maxsize)
    return Param("prompt", text(maximum_chars=most, maximum_bytes=most_bytes), nullable=False)


def links_field(model: Model) -> Param:
    """Return EvoLink's field for references by their links: as many as an offer takes."""
    most = max((offer.max_references for offer in model.offers_for(Operation.EDIT)), default=0)
    taken = links(maximum=most, maximum_chars=MAX_URL_CHARS)

    def check(name: str, value: object) -> object:
        if not most:
            raise UnsupportedImage(
                f"The model '{model.name}' does not take references here.",
                param=name,
                code="invalid_value",
            )
        return taken(name, value)

    return Param(LINKS, Checker(check, taken.schema if most else {"not": {}}))


def field_table(model: Model, operation: Operation, *, strict: bool) -> tuple[Param, ...]:
    """Return the fields beside `model`, `prompt` and pictures, in the order they are checked."""
    return (*_openai_fields(model, operation, strict=strict), *_more_fields(strict=strict))


def _openai_fields(model: Model, operation: Operation, *, strict: bool) -> tuple[Param, ...]:
    """Return OpenAI's fields, in the order of protocols/openai_images.md §2.1."""
    offers = model.offers_for(operation)
    fidelity = Param("input_fidelity", choice(["high", "low"]), ignored=True)
    return (
        Param("n", integer(1, 10)),
        Param("quality", _quality(offers, strict=strict)),
        Param("output_compression", integer(0, 100)),
        Param("size", _size([offer.sizes for offer in offers], strict=strict)),
        Param("background", choice(["transparent", "opaque", "auto"])),
        Param("output_format", choice(["png", "webp", "jpeg"])),
        Param("moderation", choice(["auto", "low"])),
        *([fidelity] if operation is Operation.EDIT or not strict else []),
        Param("partial_images", integer(0, 3)),
        Param("stream", boolean()),
        Param("complexity", choice(["low", "medium", "high"])),
        Param("frame_count", integer(2, 16)),
        Param("frame_duration_ms", integer(0, 655_350)),
        Param("svg", mapping()),
        Param("user", label()),
        Param("safety_identifier", label()),
    )


def _more_fields(*, strict: bool) -> tuple[Param, ...]:
    """Return what is taken beside OpenAI's fields."""
    lenient = (
        Param("response_format", choice(["url", "b64_json"])),
        Param("style", choice(["vivid", "natural"]), ignored=True),
    )
    return (
        *(() if strict else lenient),
        Param("max_cost_usd", dollars()),
        Param("callback_url", text(maximum_chars=MAX_URL_CHARS)),
    )


def offered(
    model: Model, operation: Operation, *, strict: bool
) -> Mapping[str, tuple[object, ...]]:
    """Return, for fields of which not every value is made here, the values that are."""
    transparent = any(offer.transparent for offer in model.offers_for(operation)) and (
        model.openai.transparent or not strict
    )
    return {
        "background": ("opaque", "auto", *([TRANSPARENT] if transparent else [])),
        **dict.fromkeys(NEWEST, ()),
    }


def check_offered(
    given: Mapping[str, object], model: Model, operation: Operation, *, strict: bool
) -> None:
    """Refuse what OpenAI knows and nothing here makes; every value has passed the table.

    Nobody pays for another picture than was asked for.
    """
    _check_png_compression(given)
    if given.get("background") == TRANSPARENT and given.get("output_format") == "jpeg":
        raise UnsupportedImage(
            "Transparent background is not supported for JPEG output format",
            param="background",
            code="invalid_value",
        )
    made = offered(model, operation, strict=strict)
    for name, words in _REFUSALS.items():
        if name in given and given[name] not in made[name]:
            raise UnsupportedImage(words.format(model=model.name), param=name, code="invalid_value")
    if strict and given.get("input_fidelity") not in (None, *model.openai.input_fidelity):
        raise UnsupportedImage(
            f"The model '{model.name}' does not support the 'input_fidelity' parameter.",
            param="input_fidelity",
            code="invalid_input_fidelity_model",
        )


#: What is told about fields whose value is not made here. The first is OpenAI's own.
_REFUSALS = {
    "background": "Transparent background is not supported for this model.",
    **{name: f"The model '{{model}}' does not support the '{name}' parameter." for name in NEWEST},
}


def _check_png_compression(given: Mapping[str, object]) -> None:
    if given.get("output_format", "png") == "png" and given.get("output_compression", 100) != 100:  # noqa: PLR2004 - per cent
        raise UnsupportedImage(
            "Compression less than 100 is not supported for PNG output format",
            param=None,
            code="invalid_png_output_compression",
        )


def _quality(offers: Sequence[Offer], *, strict: bool) -> Checker:
    """Take what the offers make and `auto`; lenient also the words of dall-e."""
    qualities = dict.fromkeys(quality for offer in offers for quality in offer.qualities)
    old = {
        word: quality
        for word, quality in OLD_QUALITIES.items()
        if quality in qualities and word not in qualities and not strict
    }
    return choice([*qualities, "auto"], also=old)


def _size(rules: Sequence[SizeRule], *, strict: bool) -> Checker:
    """Take `auto` and what one of the rules allows; lenient also EvoLink's ratios."""
    listed = {
        str(size): None for rule in rules if not isinstance(rule, FreeSizes) for size in rule.sizes
    }
    ratios = {} if strict else _ratios(rules)
    free = [rule for rule in rules if isinstance(rule, FreeSizes)]
    if not free:
        return choice([*listed, "auto"], also=ratios)

    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type(name, "a string", value)
        if value == "auto" or value in listed:
            return value
        if value in ratios:
            return ratios[value]
        try:
            size = Size.parse(value)
        except ValueError:
            raise _refused_size(
                name,
                f"Invalid size '{value}'. Expected WIDTHxHEIGHT, for example '1824x1024'.",
            ) from None
        faults = [(fault, rule) for rule in free if (fault := rule.fault(size)) is not None]
        if len(faults) == len(free):
            fault, rule = faults[0]
            raise _refused_size(name, _SIZE_FAULTS[fault].format(size=size, rule=rule))
        return value

    words = "|".join(["auto", *listed, *ratios])
    return Checker(
        check,
        {
            "type": "string",
            "pattern": f"^({words}|[1-9][0-9]{{0,4}}x[1-9][0-9]{{0,4}})$",
            "description": " Or: ".join(_bounds(rule) for rule in free),
        },
    )


def _ratios(rules: Sequence[SizeRule]) -> dict[str, str]:
    """Return the pixels behind each ratio that one of the rules has, the first rule's."""
    pixels: dict[str, str] = {}
    for rule in rules:
        for ratio, size in ratios_of(rule).items():
            pixels.setdefault(ratio, str(size))
    return pixels


def _bounds(rule: FreeSizes) -> str:
    return (
        f"WIDTHxHEIGHT in multiples of {rule.step} from {rule.min_edge} to {rule.max_edge}, in all"
        f" {rule.min_pixels} to {rule.max_pixels} pixels; the longer edge is at most"
        f" {rule.max_aspect} times the shorter one."
    )


#: Why a free size is refused: the first and the fourth are OpenAI's (protocols/openai_images.md
#: §7.3), the others are not on record there and in the same manner.
_SIZE_FAULTS = {
    SizeFault.STEP: (
        "Invalid size '{size}'. Width and height must both be divisible by {rule.step}."
    ),
    SizeFault.EDGE: (
        "Invalid size '{size}'. Width and height must both be between {rule.min_edge} and"
        " {rule.max_edge}."
    ),
    SizeFault.ASPECT: (
        "Invalid size '{size}'. The longer edge must be at most {rule.max_aspect} times the"
        " shorter one."
    ),
    SizeFault.TOO_FEW_PIXELS: "Requested resolution is below the current minimum pixel budget.",
    SizeFault.TOO_MANY_PIXELS: "Requested resolution is above the current maximum pixel budget.",
}


def _refused_size(name: str, message: str) -> UnsupportedImage:
    return UnsupportedImage(message, param=name, code="invalid_value")
