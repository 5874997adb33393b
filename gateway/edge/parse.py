"""A request body → `ImageRequest`, refused with OpenAI's words in OpenAI's order.

The order in which several faults are reported is protocols/openai_images.md §2.1: model, unknown
fields, prompt, n, the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import orjson

from gateway.domain.catalog import FixedSizes, FreeSizes, Model, SizeFault, SizeRule
from gateway.domain.errors import InvalidRequest, UnsupportedImage
from gateway.domain.images import ImageRequest, Operation, Size
from gateway.edge.params import (
    Checker,
    Param,
    boolean,
    choice,
    dollars,
    integer,
    label,
    missing,
    text,
    unknown,
    wrong_type,
)

#: OpenAI's limit for its image models (protocols/openai_images.md §2.1).
PROMPT_MAX_CHARS = 32_000

#: EvoLink's limit of a callback's address (protocols/evolink.md §6).
MAX_URL_CHARS = 2_048

PROMPT = Param("prompt", text(maximum_chars=PROMPT_MAX_CHARS), nullable=False)


def parse_generation(body: bytes, find_model: Callable[[str], Model | None]) -> ImageRequest:
    """Read the body of `POST /v1/images/generations`.

    Raises InvalidRequest or UnsupportedImage for the first fault in OpenAI's order.
    """
    fields = _json_object(body)
    model = _model(fields, find_model)
    table = generation_table(model)
    known = {param.name for param in table} | {"model", "prompt"}
    for name in fields:
        if name not in known:
            raise unknown(name)
    if "prompt" not in fields:
        raise missing("prompt")
    given = {"prompt": PROMPT.check("prompt", fields["prompt"])} | {
        param.name: param.check(param.name, fields[param.name])
        for param in table
        if param.name in fields and not (param.nullable and fields[param.name] is None)
    }
    _check_png_compression(given)
    _check_offered(given)
    given["max_cost_microusd"] = given.pop("max_cost_usd", None)
    # Every value was checked by the table for exactly the field it goes to.
    return ImageRequest(model=model.name, **given)  # type: ignore[arg-type]


def _json_object(body: bytes) -> dict[str, object]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest(
            "We could not parse the JSON body of your request. The OpenAI API expects a JSON"
            " payload, but what was sent was not valid JSON.",
            param=None,
            code=None,
        ) from None
    if not isinstance(parsed, dict):
        raise InvalidRequest(
            "The JSON body of your request must be an object.", param=None, code="invalid_type"
        )
    return parsed


def _model(fields: Mapping[str, object], find_model: Callable[[str], Model | None]) -> Model:
    if "model" not in fields:
        raise missing("model")
    name = fields["model"]
    if not isinstance(name, str):
        raise wrong_type("model", "a string", name)
    model = find_model(name)
    if model is None:
        raise UnsupportedImage(
            f"The model '{name}' does not exist.", param="model", code="invalid_value"
        )
    return model


def generation_table(model: Model) -> tuple[Param, ...]:
    """Return the fields of a generation by this model, in the order they are checked."""
    offers = model.offers_for(Operation.GENERATION)
    qualities = dict.fromkeys(quality for offer in offers for quality in offer.qualities)
    return (
        Param("n", integer(1, 10)),
        Param("quality", choice([*qualities, "auto"])),
        Param("output_compression", integer(0, 100)),
        Param("size", _size([offer.sizes for offer in offers])),
        Param("background", choice(["transparent", "opaque", "auto"])),
        Param("output_format", choice(["png", "webp", "jpeg"])),
        Param("moderation", choice(["auto", "low"])),
        Param("partial_images", integer(0, 3)),
        Param("stream", boolean()),
        Param("user", label()),
        Param("safety_identifier", label()),
        Param("max_cost_usd", dollars()),
        Param("callback_url", text(maximum_chars=MAX_URL_CHARS)),
    )


def _size(rules: Sequence[SizeRule]) -> Checker:
    """Take `auto` and what one of the rules allows."""
    listed = {
        str(size): None for rule in rules if isinstance(rule, FixedSizes) for size in rule.sizes
    }
    free = [rule for rule in rules if isinstance(rule, FreeSizes)]
    if not free:
        return choice([*listed, "auto"])

    def check(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type(name, "a string", value)
        if value == "auto" or value in listed:
            return value
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

    words = "|".join(["auto", *listed])
    return Checker(
        check,
        {
            "type": "string",
            "pattern": f"^({words}|[1-9][0-9]{{0,4}}x[1-9][0-9]{{0,4}})$",
            "description": " Or: ".join(_bounds(rule) for rule in free),
        },
    )


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


def _check_png_compression(given: Mapping[str, object]) -> None:
    if given.get("output_format", "png") == "png" and given.get("output_compression", 100) != 100:  # noqa: PLR2004 - per cent
        raise UnsupportedImage(
            "Compression less than 100 is not supported for PNG output format",
            param=None,
            code="invalid_png_output_compression",
        )


#: What offers here can do of what OpenAI knows: a png is never compressed.
OFFERED: Mapping[str, tuple[object, ...]] = {
    "background": ("opaque", "auto"),
    "output_compression": (100,),
    "output_format": ("png",),
}


def _check_offered(given: Mapping[str, object]) -> None:
    """Refuse what OpenAI knows and no offer here can do."""
    if given.get("background") == "transparent":
        raise UnsupportedImage(
            "Transparent background is not supported for this model.",
            param="background",
            code="invalid_value",
        )
    refusals = {
        "output_format": "This model makes png pictures here: 'output_format' must be 'png'.",
    }
    for name, message in refusals.items():
        if name in given and given[name] not in OFFERED[name]:
            raise InvalidRequest(message, param=name, code="unsupported_value")
