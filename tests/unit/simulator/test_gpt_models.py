from decimal import Decimal
from typing import Any

import pytest

from gateway.simulator.errors import RefusedError
from gateway.simulator.models import MODELS
from gateway.simulator.orders import read_order
from gateway.simulator.script import Leaning

LINK = "https://files.example/a.png"


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1.5"])
@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        ("1:1", (1024, 1024)),
        ("2:3", (1024, 1536)),
        ("3:2", (1536, 1024)),
        ("1024x1024", (1024, 1024)),
        ("1024x1536", (1024, 1536)),
        ("1536x1024", (1536, 1024)),
        ("auto", None),
        ("16:9", None),
        ("2048x2048", None),
    ],
)
def test_older_models_take_six_sizes(model: str, size: str, pixels: tuple[int, int] | None) -> None:
    """The first family has a fixed list and no auto."""
    assert pixels == MODELS[model].sizes.pixels(size, "")


@pytest.mark.parametrize(
    ("size", "resolution", "pixels"),
    [
        ("auto", "4K", (1024, 1024)),
        ("1:1", "1K", (1024, 1024)),
        ("1:1", "2K", (2048, 2048)),
        ("16:9", "2K", (2736, 1536)),
        ("9:16", "4K", (2160, 3840)),
        ("9:21", "1K", (672, 1568)),
        ("4:5", "1K", (912, 1152)),
        ("7:5", "1K", None),
        ("square", "1K", None),
        ("1024x1024", "4K", (1024, 1024)),
        ("2048\u00d71088", "1K", (2048, 1088)),
        ("3840x2160", "1K", (3840, 2160)),
        ("1024x1000", "1K", None),
        ("3856x1600", "1K", None),
        ("0x1024", "1K", None),
        ("800x800", "1K", None),
        ("3840x2176", "1K", None),
        ("2048x640", "1K", None),
        ("1920x640", "1K", (1920, 640)),
    ],
)
def test_newer_model_takes_ratios_and_pixels(
    size: str, resolution: str, pixels: tuple[int, int] | None
) -> None:
    """Ratios follow the table, pixels the limits, and auto is a square."""
    assert pixels == MODELS["gpt-image-2"].sizes.pixels(size, resolution)


def a_body(name: str, **fields: Any) -> dict[str, Any]:
    """Return a request for a model, with a reference where one is needed."""
    rule = MODELS[name].references
    needs_one = rule is not None and rule.required
    return {"model": name} | ({"image_urls": [LINK]} if needs_one else {}) | fields


@pytest.mark.parametrize(
    ("name", "fields", "size"),
    [
        ("gpt-image-1.5-lite", {"quality": "auto"}, (1024, 1024)),
        ("gpt-image-1.5-beta", {"quality": "auto"}, (1024, 1024)),
        ("gpt-4o-image", {"n": 4}, (1024, 1024)),
        ("gpt-image-2-beta", {"size": "16:9"}, (1360, 768)),
        ("gpt-image-2.5-flare", {"quality": "max"}, (1024, 1024)),
        ("gpt-image-2.5-sunburst", {"quality": "xhigh", "size": "3:1"}, (1776, 592)),
    ],
)
def test_documented_values(name: str, fields: dict[str, Any], size: tuple[int, int]) -> None:
    """Each family takes what its documents list."""
    order = read_order(a_body(name, **fields), "a fox")

    assert size == (order.width, order.height)


@pytest.mark.parametrize(
    ("name", "fields", "param"),
    [
        ("gpt-4o-image", {"n": 3}, "n"),
        ("gpt-image-2-beta", {"size": "1024x1024"}, "size"),
        ("gpt-image-2-beta", {"resolution": "2K"}, "resolution"),
        ("gpt-image-2.5-flare", {"quality": "auto"}, "quality"),
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
        ("gpt-image-1.5", {"n": 10, "quality": "auto"}),
        ("gpt-image-2-beta", {"size": "2048x2048"}),
        ("gpt-image-2-beta", {"size": "1:1", "resolution": "4K"}),
    ],
)
def test_other_rules(name: str, fields: dict[str, Any]) -> None:
    """What one document refuses and another allows is allowed when the prompt asks for it."""
    with pytest.raises(RefusedError):
        read_order(a_body(name, **fields), "a fox")

    read_order(a_body(name, **fields), "a fox", leanings=frozenset({Leaning.OTHER}))


@pytest.mark.parametrize(
    ("name", "fields", "price"),
    [
        # The published tiers (§12).
        ("gpt-image-2-beta", {"size": "1:1"}, "1.02"),
        ("gpt-image-2-beta", {"size": "1:1", "resolution": "2K"}, "1.734"),
        ("gpt-image-2-beta", {"size": "1:1", "resolution": "4K"}, "2.652"),
    ],
)
def test_prices_by_picture(name: str, fields: dict[str, Any], price: str) -> None:
    """Models without tokens cost by tiers of area, and by references."""
    order = read_order(a_body(name, **fields), "a fox", leanings=frozenset({Leaning.OTHER}))

    assert Decimal(price) == order.price_of(1)
    assert 0 == order.usage.total_tokens


@pytest.mark.parametrize(
    ("quality", "tokens"),
    [("low", 196), ("medium", 439), ("high", 1756), ("xhigh", 3122), ("max", 7024)],
)
def test_tokens_of_the_newest_family(quality: str, tokens: int) -> None:
    """The documented tokens of a square (§2.5)."""
    order = read_order({"model": "gpt-image-2.5-flare", "quality": quality}, "a fox")

    assert tokens == order.usage.image_output_tokens
