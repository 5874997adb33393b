"""A request body → `ImageRequest`, refused with OpenAI's words in OpenAI's order.

The order in which several faults are reported is protocols/openai_images.md §2.1: model, unknown
fields, prompt, n, the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson

from gateway.domain.catalog import Model
from gateway.domain.errors import InvalidRequest, UnsupportedImage
from gateway.domain.images import ImageRequest, Operation
from gateway.edge.params import (
    Param,
    boolean,
    choice,
    integer,
    label,
    missing,
    text,
    unknown,
    wrong_type,
)

#: OpenAI's limit for its image models (protocols/openai_images.md §2.1).
PROMPT_MAX_CHARS = 32_000

PROMPT = Param("prompt", text(maximum_chars=PROMPT_MAX_CHARS), nullable=False)


def parse_generation(body: bytes, find_model: Callable[[str], Model | None]) -> ImageRequest:
    """Read the body of `POST /v1/images/generations`.

    Raises InvalidRequest or UnsupportedImage for the first fault in OpenAI's order.
    """
    fields = _json_object(body)
    model = _model(fields, find_model)
    table = _generation_table(model)
    known = {param.name for param in table} | {"model", "prompt"}
    for name in fields:
        if name not in known:
            raise unknown(name)
    if "prompt" not in fields:
        raise missing("prompt")
    prompt = PROMPT.check("prompt", fields["prompt"])
    given = {
        param.name: param.check(param.name, fields[param.name])
        for param in table
        if param.name in fields and not (param.nullable and fields[param.name] is None)
    }
    _check_png_compression(given)
    _check_offered(given)
    given.pop("stream", None)
    given.pop("partial_images", None)
    # Every value was checked by the table for exactly the field it goes to.
    return ImageRequest(model=model.name, prompt=prompt, **given)  # type: ignore[arg-type]


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


def _generation_table(model: Model) -> tuple[Param, ...]:
    """Return the fields of a generation by this model, in the order they are checked."""
    offers = model.offers_for(Operation.GENERATION)
    sizes = dict.fromkeys(str(size) for offer in offers for size in offer.sizes)
    qualities = dict.fromkeys(quality for offer in offers for quality in offer.qualities)
    return (
        Param("n", integer(1, 10)),
        Param("quality", choice([*qualities, "auto"])),
        Param("output_compression", integer(0, 100)),
        Param("size", choice([*sizes, "auto"])),
        Param("background", choice(["transparent", "opaque", "auto"])),
        Param("output_format", choice(["png", "webp", "jpeg"])),
        Param("moderation", choice(["auto", "low"])),
        Param("partial_images", integer(0, 3)),
        Param("stream", boolean()),
        Param("user", label()),
        Param("safety_identifier", label()),
    )


def _check_png_compression(given: Mapping[str, object]) -> None:
    if given.get("output_format", "png") == "png" and given.get("output_compression", 100) != 100:  # noqa: PLR2004 - per cent
        raise UnsupportedImage(
            "Compression less than 100 is not supported for PNG output format",
            param=None,
            code="invalid_png_output_compression",
        )


def _check_offered(given: Mapping[str, object]) -> None:
    """Refuse what OpenAI knows and no offer here can do."""
    if given.get("background") == "transparent":
        raise UnsupportedImage(
            "Transparent background is not supported for this model.",
            param="background",
            code="invalid_value",
        )
    refusals = {
        "n": (1, "One picture is made per request here: 'n' must be 1."),
        "stream": (False, "Streaming is not offered here: leave 'stream' out or set it to false."),
        "output_format": (
            "png",
            "This model makes png pictures here: 'output_format' must be 'png'.",
        ),
    }
    for name, (offered, message) in refusals.items():
        if given.get(name, offered) != offered:
            raise InvalidRequest(message, param=name, code="unsupported_value")
