from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from gateway.simulator.pictures import Picture, draw, plain

PICTURE = Picture(
    width=320,
    height=208,
    output_format="png",
    transparent=False,
    seed=1,
    prompt="a red fox in the snow",
    note="gpt-image-1.5  320x208  low  1/1",
)


@pytest.mark.parametrize(
    ("output_format", "transparent", "mode"),
    [
        ("png", False, "RGB"),
        ("jpeg", False, "RGB"),
        ("webp", False, "RGB"),
        ("png", True, "RGBA"),
        ("webp", True, "RGBA"),
    ],
)
def test_real_files_of_the_asked_size(output_format: str, transparent: bool, mode: str) -> None:
    """The bytes decode as the asked format, size and mode."""
    content = draw(replace(PICTURE, output_format=output_format, transparent=transparent))
    with Image.open(BytesIO(content)) as image:
        image.load()

        assert (output_format.upper(), (320, 208), mode) == (image.format, image.size, image.mode)


def test_transparent_ground_is_clear() -> None:
    """Some pixels of a transparent picture have no opacity."""
    with Image.open(BytesIO(draw(replace(PICTURE, transparent=True)))) as image:
        assert image.getchannel("A").getextrema() == (0, 255)


def test_equal_pictures_have_equal_bytes() -> None:
    """Drawing twice gives the same file, so nothing needs to be kept."""
    assert draw(PICTURE) == draw(PICTURE)


@pytest.mark.parametrize(
    "changes", [{"seed": 2}, {"prompt": "a red fox in the rain"}, {"note": "other"}]
)
def test_seed_prompt_and_note_show(changes: dict[str, object]) -> None:
    """Seed, prompt and parameters change the picture."""
    assert draw(PICTURE) != draw(replace(PICTURE, **changes))  # type: ignore[arg-type]


def test_only_the_start_of_a_long_prompt_is_written() -> None:
    """A prompt of any length and script can be drawn."""
    long = "여우 " * 5000

    assert draw(replace(PICTURE, prompt=long)) == draw(replace(PICTURE, prompt=long + "x"))


def test_smallest_edges() -> None:
    """An edge of sixteen pixels still has a picture."""
    with Image.open(BytesIO(draw(replace(PICTURE, width=16, height=16)))) as image:
        assert image.size == (16, 16)


@pytest.mark.parametrize(
    ("output_format", "transparent", "pixel"),
    [("png", False, (128, 128, 128)), ("webp", True, (0, 0, 0, 0))],
)
def test_plain_pictures(output_format: str, transparent: bool, pixel: tuple[int, ...]) -> None:
    """One colour, of the asked size and format, and made once."""
    content = plain(320, 208, output_format, transparent=transparent)
    with Image.open(BytesIO(content)) as image:
        assert (output_format.upper(), (320, 208)) == (image.format, image.size)
        assert {pixel} == set(image.get_flattened_data())
    assert content is plain(320, 208, output_format, transparent=transparent)
