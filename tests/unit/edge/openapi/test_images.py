from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.domain.catalog import FreeSizes
from gateway.domain.errors import InvalidRequest
from gateway.domain.images import Operation
from gateway.edge.openapi.images import generation_schemas
from gateway.edge.parse import parse_generation
from tests.support.factories import a_model, an_offer

FREE = FreeSizes(
    step=16, min_edge=256, max_edge=3840, min_pixels=655_360, max_pixels=8_294_400, max_aspect=3
)
MODELS = {
    model.name: model
    for model in (
        a_model(),
        a_model("gpt-image-2", offers=(an_offer(sizes=FREE),)),
        a_model("edits-only", offers=(an_offer(operation=Operation.EDIT),)),
    )
}


@pytest.fixture
def validator() -> Draft202012Validator:
    """Return what the document says of a generation's body."""
    schemas = generation_schemas([*MODELS.values()])
    return Draft202012Validator(
        {"$ref": "#/components/schemas/Generation", "components": {"schemas": schemas}}
    )


def _parses(body: dict[str, Any]) -> bool:
    try:
        parse_generation(json.dumps(body).encode(), MODELS.get)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("model", ["gpt-image-1.5", "gpt-image-2"])
@pytest.mark.parametrize(
    "fields",
    [
        *({"n": n} for n in (0, 1, 1.0, 1.5, 10, 11, None, True, "1")),
        *({"quality": quality} for quality in ("low", "auto", "hd", "", None, 1)),
        *({"size": size} for size in ("auto", "1024x1024", "1x", "big", None, 5)),
        *({"background": background} for background in ("auto", "opaque", "transparent", None)),
        *({"output_format": output_format} for output_format in ("png", "webp", "gif", None)),
        *({"output_compression": percent} for percent in (100, 50, 101, None)),
        *(
            {"output_format": output_format, "output_compression": 50}
            for output_format in ("png", "webp", "jpeg", None)
        ),
        *({"moderation": moderation} for moderation in ("auto", "low", "high", None)),
        *({"stream": stream} for stream in (True, False, None, "false")),
        *({"partial_images": images} for images in (0, 3, 4, None)),
        *({"max_cost_usd": cost} for cost in (0, 0.5, "0.5", -1, "x", None, [1], "0.0000001")),
        *({"user": user} for user in ("u", 1, None, {"a": 1})),
        *({"prompt": prompt} for prompt in ("", "x" * 32_000, "x" * 32_001, None, 1)),
        {"model": "nope"},
        {"unknown": 1},
    ],
    ids=lambda fields: json.dumps(fields)[:40],
)
def test_the_schema_takes_what_the_parser_takes(
    validator: Draft202012Validator, model: str, fields: dict[str, Any]
) -> None:
    """For every field and value the document and the server agree."""
    body = {"model": model, "prompt": "x"} | fields

    assert _parses(body) == validator.is_valid(body)


def test_a_body_needs_model_and_prompt(validator: Draft202012Validator) -> None:
    """Both are required, and nothing else is."""
    assert validator.is_valid({"model": "gpt-image-1.5", "prompt": "x"})
    assert not validator.is_valid({"model": "gpt-image-1.5"})
    assert not validator.is_valid({"prompt": "x"})


def test_free_sizes_are_told_in_words() -> None:
    """Bounds that no pattern can say stand in the description."""
    schema: Any = generation_schemas([MODELS["gpt-image-2"]])["Generation_gpt-image-2"]

    assert "multiples of 16 from 256 to 3840" in schema["properties"]["size"]["description"]


def test_a_model_that_cannot_generate_is_not_offered_for_it(
    validator: Draft202012Validator,
) -> None:
    """The parser takes it, and nobody has a price for it: the document does not name it."""
    assert not validator.is_valid({"model": "edits-only", "prompt": "x"})


def test_names_of_components() -> None:
    """A model's name may hold what a component's may not."""
    assert "Generation_openai_gpt-image-2" in generation_schemas([a_model("openai/gpt-image-2")])
