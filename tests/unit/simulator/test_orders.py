from typing import Any

import pytest

from gateway.simulator.errors import RefusedError
from gateway.simulator.orders import read_order, read_prompt
from gateway.simulator.pricing import Usage
from gateway.simulator.script import Leaning

LINK = "https://files.example/a.png"


def test_defaults_of_gpt_image_1_5() -> None:
    """Without parameters the model draws one square at high quality."""
    order = read_order({"model": "gpt-image-1.5"}, "a fox")

    assert (
        order.width,
        order.height,
        order.quality,
        order.pictures,
        order.output_format,
        order.transparent,
    ) == (1024, 1024, "high", 1, "png", False)
    assert Usage(4160, 0, 2) == order.usage


def test_usage_counts_pictures_and_references() -> None:
    """Every picture and every reference adds its tokens."""
    body = {
        "model": "gpt-image-2",
        "n": 3,
        "size": "16:9",
        "resolution": "2k",
        "quality": "low",
        "image_urls": [LINK, LINK],
    }
    order = read_order(body, "a fox")

    assert (order.width, order.height) == (2736, 1536)
    assert Usage(3 * 224, 2 * 1536, 2) == order.usage


def test_gpt_image_2_formats() -> None:
    """The newer model draws other formats and transparent grounds."""
    body = {"model": "gpt-image-2", "output_format": "webp", "background": "transparent"}
    order = read_order(body, "a fox")

    assert (order.output_format, order.transparent) == ("webp", True)


def test_unknown_and_null_parameters_are_ignored() -> None:
    """The documents do not say that they are refused."""
    body = {"model": "gpt-image-1.5", "output_format": "webp", "seed": 1, "size": None, "n": None}

    assert read_order({"model": "gpt-image-1.5"}, "a fox") == read_order(body, "a fox")


@pytest.mark.parametrize(
    ("model", "changes", "param"),
    [
        ("gpt-image-1.5", {"quality": "auto"}, "quality"),
        ("gpt-image-1.5", {"quality": "hd"}, "quality"),
        ("gpt-image-1.5", {"quality": 1}, "quality"),
        ("gpt-image-1.5", {"size": "auto"}, "size"),
        ("gpt-image-1.5", {"size": "1024X1024"}, "size"),
        ("gpt-image-1.5", {"n": 2}, "n"),
        ("gpt-image-1.5", {"n": 0}, "n"),
        ("gpt-image-1.5", {"n": "1"}, "n"),
        ("gpt-image-1.5", {"n": True}, "n"),
        ("gpt-image-1.5", {"image_urls": []}, "image_urls"),
        ("gpt-image-1.5", {"image_urls": [LINK] * 17}, "image_urls"),
        ("gpt-image-1.5", {"image_urls": LINK}, "image_urls"),
        ("gpt-image-1.5", {"image_urls": ["data:image/png;base64,AAAA"]}, "image_urls"),
        ("gpt-image-1.5", {"image_urls": [7]}, "image_urls"),
        ("gpt-image-1", {"n": 11}, "n"),
        ("gpt-image-2", {"resolution": "8K", "size": "1:1"}, "resolution"),
        ("gpt-image-2", {"output_format": "gif"}, "output_format"),
        ("gpt-image-2", {"background": "auto"}, "background"),
        ("gpt-image-2", {"background": "transparent", "output_format": "jpeg"}, "background"),
    ],
)
def test_bad_parameters(model: str, changes: dict[str, Any], param: str) -> None:
    """A value outside the documents is 400 and names its parameter."""
    with pytest.raises(RefusedError) as refused:
        read_order({"model": model} | changes, "a fox")

    assert (400, param) == (refused.value.problem.status, refused.value.problem.param)


@pytest.mark.parametrize(
    ("model", "longest"),
    [("gpt-image-1.5", "fox " * 2000), ("gpt-image-2", "f" * 32_000)],
)
def test_prompt_length(model: str, longest: str) -> None:
    """Token and character limits are inclusive."""
    assert longest == read_order({"model": model}, longest).prompt
    with pytest.raises(RefusedError, match="too long"):
        read_order({"model": model}, longest + "x")


@pytest.mark.parametrize(
    ("body", "status"), [({}, 400), ({"model": 5}, 400), ({"model": "gpt-image-9"}, 404)]
)
def test_bad_models(body: dict[str, Any], status: int) -> None:
    """A missing model is 400; one that does not exist has only the older 404 row."""
    with pytest.raises(RefusedError) as refused:
        read_order(body, "a fox")

    assert status == refused.value.problem.status


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": None}, {"prompt": ["a fox"]}])
def test_prompt_is_required(body: dict[str, Any]) -> None:
    """A prompt is a string that is not empty."""
    with pytest.raises(RefusedError) as refused:
        read_prompt(body)

    assert refused.value.problem.param == "prompt"


def test_prompt_length_in_bytes() -> None:
    """The newest documents of gpt-image-2 limit bytes too, the older ones do not."""
    prompt = "\u00e9" * 30_001
    assert "\u00e9" * 30_000 == read_order({"model": "gpt-image-2"}, "\u00e9" * 30_000).prompt
    with pytest.raises(RefusedError, match="too long"):
        read_order({"model": "gpt-image-2"}, prompt)

    read_order({"model": "gpt-image-2"}, prompt, leanings=frozenset({Leaning.OTHER}))


@pytest.mark.parametrize(
    ("body", "mask"),
    [
        ({"model": "gpt-image-2", "image_urls": [LINK], "mask_url": LINK + "?m"}, LINK + "?m"),
        ({"model": "gpt-image-2", "image_urls": [LINK]}, ""),
        # Silently ignored, whatever it is.
        ({"model": "gpt-image-2", "mask_url": "ftp://files.example/m.png"}, ""),
        ({"model": "gpt-image-1.5", "image_urls": [LINK], "mask_url": 7}, ""),
    ],
)
def test_masks(body: dict[str, Any], mask: str) -> None:
    """A mask counts for models that know it, and together with a reference."""
    assert mask == read_order(body, "a fox").mask


def test_odd_mask() -> None:
    """A mask is a link."""
    with pytest.raises(RefusedError) as refused:
        read_order({"model": "gpt-image-2", "image_urls": [LINK], "mask_url": "m.png"}, "a fox")

    assert "mask_url" == refused.value.problem.param
