"""Draw a real picture: a gradient and discs from a seed, and a caption."""

import textwrap
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from random import Random

from PIL import Image, ImageDraw, ImageFont, ImageOps

_Color = tuple[int, int, int]

_CAPTION_CHARACTERS = 240
_DISCS = 5
_WHITE = (255, 255, 255)
_PANEL = (20, 22, 30)
_SAVE_OPTIONS: dict[str, dict[str, int]] = {
    # Fast rather than small: the simulator shares the machine with what it tests.
    "png": {"compress_level": 1},
    "jpeg": {"quality": 85},
    "webp": {"quality": 85, "method": 0},
}


@dataclass(frozen=True, slots=True)
class Picture:
    """Say what to draw; equal pictures give equal bytes."""

    width: int
    height: int
    output_format: str
    """``png``, ``jpeg`` or ``webp``."""
    transparent: bool
    """Leave the ground fully transparent; not for jpeg."""
    seed: int
    prompt: str
    """Its start is written into the picture."""
    note: str
    """One line of parameters below the prompt."""


def draw(picture: Picture) -> bytes:
    """Return the encoded file; takes tens of milliseconds of CPU, so keep it off the loop."""
    random = Random(picture.seed)  # noqa: S311 - a picture repeats for its seed
    image = _ground(picture, random)
    _discs(image, random)
    _caption(image, picture)
    output = BytesIO()
    image.save(output, format=picture.output_format, **_SAVE_OPTIONS[picture.output_format])
    return output.getvalue()


@lru_cache(maxsize=32)
def plain(width: int, height: int, output_format: str, *, transparent: bool) -> bytes:
    """Return a grey file of this size, or a clear one; drawn once, for tests under load."""
    ground = ("RGBA", (0, 0, 0, 0)) if transparent else ("RGB", (128, 128, 128))
    output = BytesIO()
    Image.new(ground[0], (width, height), ground[1]).save(
        output, format=output_format, **_SAVE_OPTIONS[output_format]
    )
    return output.getvalue()


def _color(random: Random) -> _Color:
    return random.randrange(256), random.randrange(256), random.randrange(256)


def _ground(picture: Picture, random: Random) -> Image.Image:
    size = (picture.width, picture.height)
    black, white = _color(random), _color(random)
    if picture.transparent:
        return Image.new("RGBA", size, (0, 0, 0, 0))
    return ImageOps.colorize(Image.linear_gradient("L").resize(size), black, white)


def _discs(image: Image.Image, random: Random) -> None:
    pen = ImageDraw.Draw(image)
    for _ in range(_DISCS):
        x, y = random.randrange(image.width), random.randrange(image.height)
        radius = random.randrange(1, max(2, min(image.size) // 5))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_color(random))


def _caption(image: Image.Image, picture: Picture) -> None:
    font_size = max(8, min(image.size) // 28)
    font = ImageFont.load_default(font_size)
    columns = max(8, int(image.width * 0.9 / (font_size * 0.55)))
    start = " ".join(picture.prompt.split())[:_CAPTION_CHARACTERS]
    lines = [*textwrap.wrap(start, columns), *textwrap.wrap(picture.note, columns)]
    text = "\n".join(lines)
    pen = ImageDraw.Draw(image)
    corner = (image.width // 20, image.height // 20)
    left, top, right, bottom = pen.multiline_textbbox(corner, text, font=font)
    margin = font_size // 2
    panel = (left - margin, top - margin, right + margin, bottom + margin)
    pen.rectangle(panel, fill=_PANEL)
    pen.multiline_text(corner, text, font=font, fill=_WHITE)
