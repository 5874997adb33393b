from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.domain.catalog import Model
from gateway.domain.errors import InvalidRequest, NotFound
from gateway.domain.images import ImageRequest, Operation
from gateway.edge.evolink_fields import Submit, parse_batch, parse_object, parse_submit
from tests.support.factories import FREE_SIZES, a_model, an_offer

LINK = "https://x.example/a.png"

MODELS = {
    "gpt-image-1.5": a_model(),
    "gpt-image-2": a_model(
        "gpt-image-2",
        offers=(
            an_offer(sizes=FREE_SIZES),
            replace(
                an_offer(sizes=FREE_SIZES, operation=Operation.EDIT, max_references=3), masks=True
            ),
        ),
    ),
    "edits-only": a_model(
        "edits-only",
        offers=(an_offer(operation=Operation.EDIT, qualities=("high",), max_references=1),),
    ),
}


def find(name: str) -> Model | None:
    """Return a model of the two families."""
    return MODELS.get(name)


def submitted(model: str = "gpt-image-1.5", **fields: object) -> Submit:
    """Read a body with a model and a prompt."""
    return parse_submit({"model": model, "prompt": "a fox"} | fields, find)


def parsed(model: str = "gpt-image-1.5", **fields: object) -> ImageRequest:
    """Read such a body, and return what it asks for."""
    return submitted(model, **fields).request


def refused(model: str = "gpt-image-1.5", **fields: object) -> InvalidRequest:
    """Return how such a body is refused."""
    with pytest.raises(InvalidRequest) as refusal:
        parsed(model, **fields)
    return refusal.value


def test_what_is_left_out_or_null_is_auto() -> None:
    """Only model and prompt are needed; our own defaults stand in for the rest."""
    least = parsed()

    assert ImageRequest(model="gpt-image-1.5", prompt="a fox") == least
    assert least == parsed(n=None, size=None, quality=None, image_urls=None, callback_url=None)


def test_every_field_reaches_the_request() -> None:
    """What EvoLink documents for the family and can be made here is taken."""
    asked = parsed(
        n=4,
        size="2:3",
        quality="high",
        resolution="1k",
        background="opaque",
        output_format="webp",
        image_urls=[],
        mask_url="https://x.example/mask.png",
        callback_url="https://x.example/hook",
    )

    assert asked == ImageRequest(
        model="gpt-image-1.5",
        prompt="a fox",
        n=4,
        size="1024x1536",
        quality="high",
        background="opaque",
        output_format="webp",
        callback_url="https://x.example/hook",
    )


def test_references_and_their_mask_are_named_in_order() -> None:
    """Links are at most as long as one may be; a data URL is as long as its picture."""
    data = "data:image/png;base64," + "A" * 4000
    edit = submitted("gpt-image-2", image_urls=[LINK, data], mask_url="https://x.example/m.png")

    assert ((LINK, data), "https://x.example/m.png") == (edit.links, edit.mask)
    assert MODELS["gpt-image-2"] is edit.model


def test_without_references_a_mask_is_of_nothing() -> None:
    """EvoLink ignores it (protocols/evolink.md §2.3); so it is here."""
    words = submitted("gpt-image-2", image_urls=[], mask_url=LINK)

    assert ((), None) == (words.links, words.mask)


@pytest.mark.parametrize(
    ("model", "size", "resolution", "pixels"),
    [
        ("gpt-image-1.5", "auto", None, "auto"),
        ("gpt-image-1.5", "1:1", None, "1024x1024"),
        ("gpt-image-1.5", "3:2", None, "1536x1024"),
        ("gpt-image-1.5", "1024x1536", None, "1024x1536"),
        ("gpt-image-2", "auto", "4K", "auto"),
        ("gpt-image-2", "16:9", None, "1360x768"),
        ("gpt-image-2", "16:9", "2k", "2736x1536"),
        ("gpt-image-2", "9:16", "4K", "2160x3840"),
        ("gpt-image-2", "1824x1024", "4K", "1824x1024"),
        ("gpt-image-2", "1824\u00d71024", None, "1824x1024"),
    ],
)
def test_sizes_are_pixels_in_the_end(
    model: str, size: str, resolution: str | None, pixels: str
) -> None:
    """A ratio and its resolution name a size; pixels say it all (protocols/evolink.md §2.3)."""
    assert pixels == parsed(model, size=size, resolution=resolution).size


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        ("gpt-image-1.5", {"prompt": None}, "prompt"),
        ("gpt-image-1.5", {"prompt": ""}, "prompt"),
        ("gpt-image-1.5", {"prompt": "x" * 32_001}, "prompt"),
        ("gpt-image-1.5", {"n": 0}, "n"),
        ("gpt-image-1.5", {"n": 11}, "n"),
        ("gpt-image-1.5", {"n": "1"}, "n"),
        ("gpt-image-1.5", {"size": "16:9"}, "size"),
        ("gpt-image-1.5", {"size": "512x512"}, "size"),
        ("gpt-image-1.5", {"size": 1024}, "size"),
        ("gpt-image-1.5", {"quality": "ultra"}, "quality"),
        ("gpt-image-1.5", {"resolution": "2K"}, "resolution"),
        ("gpt-image-1.5", {"background": "transparent"}, "background"),
        ("gpt-image-1.5", {"output_format": "gif"}, "output_format"),
        ("gpt-image-1.5", {"image_urls": ["https://x.example/a.png"]}, "image_urls"),
        ("gpt-image-1.5", {"image_urls": "https://x.example/a.png"}, "image_urls"),
        ("gpt-image-1.5", {"mask_url": 1}, "mask_url"),
        ("gpt-image-1.5", {"callback_url": ["https://x.example"]}, "callback_url"),
        ("gpt-image-1.5", {"callback_url": "https://x.example/" + "x" * 2048}, "callback_url"),
        ("gpt-image-1.5", {"seed": 1}, "seed"),
        ("gpt-image-2", {"image_urls": [LINK] * 4}, "image_urls"),
        ("gpt-image-2", {"image_urls": [LINK, 1]}, "image_urls[1]"),
        ("gpt-image-2", {"image_urls": [LINK + "x" * 2048]}, "image_urls[0]"),
        ("gpt-image-2", {"image_urls": [LINK], "mask_url": 1}, "mask_url"),
        ("edits-only", {}, "image_urls"),
        ("edits-only", {"image_urls": []}, "image_urls"),
        ("edits-only", {"image_urls": [LINK], "mask_url": LINK}, "mask_url"),
        ("edits-only", {"image_urls": [LINK], "quality": "low"}, "quality"),
        ("gpt-image-2", {"size": "7:5"}, "size"),
        ("gpt-image-2", {"size": "100x100"}, "size"),
        ("gpt-image-2", {"size": ""}, "size"),
        ("gpt-image-2", {"size": "16:9", "resolution": "8K"}, "resolution"),
        ("gpt-image-2", {"size": "16:9", "resolution": 2}, "resolution"),
    ],
)
def test_what_cannot_be_made_is_refused(model: str, fields: dict[str, object], param: str) -> None:
    """The refusal names the field; nothing is made without what was asked for."""
    assert param == refused(model, **fields).param


def test_a_refused_size_says_what_there_is() -> None:
    """Whoever reads the message knows what to send."""
    assert refused(size="16:9").message == (
        "Invalid 'size': '16:9' with resolution 1K is not made by 'gpt-image-1.5'. Expected"
        " 'auto', '1:1', '2:3', '3:2', '1024x1024', '1024x1536', '1536x1024'."
    )
    assert refused("gpt-image-2", size="9x9").message.endswith(
        "Expected 'auto', a ratio such as '16:9', WIDTHxHEIGHT, multiples of 16 with 655360 to"
        " 8294400 pixels in all."
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """A submit and a batch are JSON objects."""
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        parse_object(body)
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        parse_batch(body)


def test_models() -> None:
    """One is needed, as text; one that does not exist is not found."""
    with pytest.raises(InvalidRequest, match="Missing required parameter: 'model'"):
        parse_submit({"prompt": "x"}, find)
    with pytest.raises(InvalidRequest, match="expected a string"):
        parse_submit({"prompt": "x", "model": ["gpt-image-2"]}, find)
    with pytest.raises(NotFound, match="Specified model not found"):
        parsed("dall-e-9")


def test_a_batch_is_a_list_of_ids() -> None:
    """Each once, in the order of the request."""
    assert parse_batch(b'{"task_ids": ["b", "a", "b"]}') == ("b", "a")
    assert parse_batch(json.dumps({"task_ids": [str(n) for n in range(50)]}).encode())


@pytest.mark.parametrize(
    "fields",
    [{}, {"task_ids": "a"}, {"task_ids": [1]}, {"task_ids": None}, {"task_ids": ["a"] * 51}],
)
def test_other_batches_are_refused(fields: dict[str, object]) -> None:
    """At most fifty texts (protocols/evolink.md §5)."""
    with pytest.raises(InvalidRequest) as refusal:
        parse_batch(json.dumps(fields).encode())

    assert refusal.value.param == "task_ids"
