from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.domain.errors import InvalidRequest
from gateway.domain.images import Operation
from gateway.domain.sizes import FreeSizes
from gateway.edge.openapi.images import generation_schemas
from gateway.edge.parse import FieldRules, parse_generation
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


LENIENT = FieldRules(MODELS.get)
STRICT = FieldRules(MODELS.get, strict=True)


def _validator(rules: FieldRules) -> Draft202012Validator:
    """Return what the document says of a generation's body."""
    schemas = generation_schemas([*MODELS.values()], rules)
    return Draft202012Validator(
        {"$ref": "#/components/schemas/Generation", "components": {"schemas": schemas}}
    )


def _parses(body: dict[str, Any], rules: FieldRules) -> bool:
    try:
        parse_generation(json.dumps(body).encode(), rules)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("rules", [LENIENT, STRICT], ids=["lenient", "strict"])
@pytest.mark.parametrize("model", ["gpt-image-1.5", "gpt-image-2"])
@pytest.mark.parametrize(
    "fields",
    [
        *({"n": n} for n in (0, 1, 1.0, 1.5, 10, 11, None, True, "1")),
        *({"quality": quality} for quality in ("low", "auto", "hd", "standard", "", None, 1)),
        *({"size": size} for size in ("auto", "1024x1024", "2:3", "1x", "big", None, 5)),
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
        *({"response_format": answer} for answer in ("b64_json", "url", "gif", None)),
        *({"style": style} for style in ("vivid", "bold", None)),
        *({"input_fidelity": fidelity} for fidelity in ("high", "off", None)),
        *({"complexity": complexity} for complexity in ("low", None)),
        *({"frame_count": frames} for frames in (4, None)),
        *({"svg": svg} for svg in ({"model": "x"}, None)),
        *({"image_urls": links} for links in (["https://x.example/a"], ["ftp://x"], [], None)),
        {"model": "nope"},
        {"unknown": 1},
    ],
    ids=lambda fields: json.dumps(fields)[:40],
)
def test_the_schema_takes_what_the_parser_takes(
    rules: FieldRules, model: str, fields: dict[str, Any]
) -> None:
    """For every field and value the document and the server agree."""
    body = {"model": model, "prompt": "x"} | fields

    assert _parses(body, rules) == _validator(rules).is_valid(body)


def test_a_body_needs_model_and_prompt() -> None:
    """Both are required, and nothing else is."""
    validator = _validator(LENIENT)

    assert validator.is_valid({"model": "gpt-image-1.5", "prompt": "x"})
    assert not validator.is_valid({"model": "gpt-image-1.5"})
    assert not validator.is_valid({"prompt": "x"})


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("told", [{}, {"model": None}])
def test_a_model_that_is_left_out(strict: bool, told: dict[str, None]) -> None:
    """Where one stands in for it, the document says so, too."""
    rules = FieldRules(MODELS.get, strict=strict, default_model="gpt-image-2")

    assert _validator(rules).is_valid({"prompt": "x", **told}) is not strict
    assert _parses({"prompt": "x", **told}, rules) is not strict


def test_free_sizes_are_told_in_words() -> None:
    """Bounds that no pattern can say stand in the description."""
    schema: Any = generation_schemas([MODELS["gpt-image-2"]], STRICT)["Generation_gpt-image-2"]

    assert "multiples of 16 from 256 to 3840" in schema["properties"]["size"]["description"]


def test_a_model_that_cannot_generate_is_not_offered_for_it() -> None:
    """The parser takes it, and nobody has a price for it: the document does not name it."""
    assert not _validator(LENIENT).is_valid({"model": "edits-only", "prompt": "x"})


def test_names_of_components() -> None:
    """A model's name may hold what a component's may not."""
    assert "Generation_openai_gpt-image-2" in generation_schemas(
        [a_model("openai/gpt-image-2")], STRICT
    )
