from decimal import Decimal
from typing import Any

import pytest

from gateway.simulator.errors import RefusedError
from gateway.simulator.models import MODELS
from gateway.simulator.orders import read_order
from gateway.simulator.script import Leaning

LINK = "https://files.example/a.png"


def a_body(name: str, **fields: Any) -> dict[str, Any]:
    """Return a request for a model, with a reference where one is needed."""
    rule = MODELS[name].references
    needs_one = rule is not None and rule.required
    return {"model": name} | ({"image_urls": [LINK]} if needs_one else {}) | fields


@pytest.mark.parametrize(
    ("name", "fields", "size"),
    [
        ("gemini-3.1-flash-image-preview", {"size": "1:8", "quality": "1k"}, (368, 2896)),
        ("gemini-3.1-flash-image-preview", {"quality": "4K"}, (4096, 4096)),
        ("gemini-3-pro-image-preview", {"size": "16:9"}, (2736, 1536)),
        ("gemini-3.1-flash-lite-image", {"model_params": {"thinking_level": "high"}}, (1024, 1024)),
        ("nano-banana-beta", {"size": "2:3", "quality": "anything"}, (832, 1248)),
        ("doubao-seedream-4.0", {"size": "1280x720", "n": 15}, (1280, 720)),
        ("doubao-seedream-4.5", {"quality": "4K", "size": "1:1"}, (4096, 4096)),
        ("doubao-seedream-5.0-lite", {"model_params": {"output_format": "png"}}, (2048, 2048)),
        ("doubao-seedream-5.0-pro", {"quality": "1.5K", "output_format": "png"}, (1536, 1536)),
        ("z-image-turbo", {"size": "1:2", "seed": 7, "nsfw_check": True}, (720, 1456)),
        ("qwen-image-edit-plus", {"size": "512x2048", "watermark": True}, (512, 2048)),
        ("qwen-image-3.0-pro", {"n": 6, "negative_prompt": "x" * 500}, (1024, 1024)),
        ("wan2.5-text-to-image", {"size": "1440x1440", "prompt_extend": False}, (1440, 1440)),
        ("wan2.5-image-to-image", {"size": "whatever"}, (1024, 1024)),
        ("grok-imagine-image-2.0", {"resolution": "2K", "quality": "low"}, (2048, 2048)),
    ],
)
def test_documented_values(name: str, fields: dict[str, Any], size: tuple[int, int]) -> None:
    """Each family takes what its documents list."""
    order = read_order(a_body(name, **fields), "a fox")

    assert size == (order.width, order.height)


@pytest.mark.parametrize(
    ("name", "fields", "param"),
    [
        ("gemini-3.1-flash-image-preview", {"quality": "high"}, "quality"),
        ("gemini-3.1-flash-lite-image", {"quality": "2K"}, "quality"),
        ("gemini-3.1-flash-image-preview", {"image_urls": ["https://a.test"] * 15}, "image_urls"),
        ("gemini-3-pro-image-preview", {"size": "1:8"}, "size"),
        (
            "gemini-3-pro-image-preview",
            {"model_params": {"web_search": "yes"}},
            "model_params.web_search",
        ),
        ("doubao-seedream-4.0", {"n": 16}, "n"),
        ("doubao-seedream-4.0", {"n": 14, "image_urls": ["https://a.test"] * 2}, "n"),
        ("doubao-seedream-4.0", {"size": "640x480"}, "size"),
        ("doubao-seedream-4.5", {"prompt_priority": "fast"}, "prompt_priority"),
        (
            "doubao-seedream-5.0-lite",
            {"model_params": {"tools": [{"type": "other"}]}},
            "model_params.tools",
        ),
        ("z-image-turbo", {"seed": 0}, "seed"),
        ("z-image-turbo", {"size": "375x800"}, "size"),
        ("qwen-image-edit", {"image_urls": None}, "image_urls"),
        ("qwen-image-edit-plus", {"n": 2, "size": "512x512"}, "size"),
        ("qwen-image-3.0-pro", {"negative_prompt": "x" * 501}, "negative_prompt"),
        ("wan2.5-text-to-image", {"size": "16:9"}, "size"),
        ("grok-imagine-image-2.0", {"image_urls": ["https://a.test"] * 4}, "image_urls"),
    ],
)
def test_undocumented_values(name: str, fields: dict[str, Any], param: str) -> None:
    """Each family refuses what its documents do not list."""
    with pytest.raises(RefusedError) as refused:
        read_order(a_body(name, **fields), "a fox")

    assert (400, param) == (refused.value.problem.status, refused.value.problem.param)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("doubao-seedream-5.0-pro", {"quality": "1.5K"}),
        ("gemini-3-pro-image-preview", {"image_urls": ["https://a.test"] * 11}),
    ],
)
def test_other_rules_may_be_stricter(name: str, fields: dict[str, Any]) -> None:
    """What the other document refuses is refused when the prompt asks for its rules."""
    read_order(a_body(name, **fields), "a fox")

    with pytest.raises(RefusedError):
        read_order(a_body(name, **fields), "a fox", leanings=frozenset({Leaning.OTHER}))


@pytest.mark.parametrize(
    ("name", "fields", "price"),
    [
        ("z-image-turbo", {}, "0.2448"),
        ("gemini-3.1-flash-image-preview", {"image_urls": [LINK] * 2}, "6.46"),
        ("gemini-3.1-flash-image-preview", {"quality": "4K"}, "9.588"),
    ],
)
def test_prices_by_picture(name: str, fields: dict[str, Any], price: str) -> None:
    """Models without tokens cost by tiers of area, and by references."""
    order = read_order(a_body(name, **fields), "a fox", leanings=frozenset({Leaning.OTHER}))

    assert Decimal(price) == order.price_of(1)
    assert 0 == order.usage.total_tokens


def test_recorded_bill() -> None:
    """57 text tokens and one picture of Nano Banana 2 Lite were 1.783 credits."""
    order = read_order({"model": "gemini-3.1-flash-lite-image"}, "word " * 57)

    assert (57, 1120) == (order.usage.text_input_tokens, order.usage.image_output_tokens)
    assert Decimal("1.783") == round(order.price_of(1), 3)
