"""Headers of pictures: what they say, and when they lie."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.assets.inspection import (
    MAX_EDGE,
    Header,
    NotAPictureError,
    TooManyPixelsError,
    UnknownFormatError,
    _inspect,
    inspect,
)
from gateway.assets.spool import Spool
from gateway.domain.images import PictureFormat, Size
from tests.support.uploads import a_bomb, a_picture


async def _inspected(folder: Path, content: bytes) -> Header:
    with Spool(folder) as spool:
        file = spool.open()
        await file.write(content)
        await file.finish()
        return await inspect(file)


def _webp(*, alpha: bool, lossless: bool, extended: bool = False) -> bytes:
    buffer = io.BytesIO()
    picture = Image.new("RGBA" if alpha else "RGB", (31, 17), (1, 2, 3, 4)[: 4 if alpha else 3])
    extra = {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"} if extended else {}
    picture.save(buffer, "WEBP", lossless=lossless, **extra)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "fmt", "size", "alpha"),
    [
        (a_picture("PNG"), PictureFormat.PNG, (64, 48), False),
        (a_picture("PNG", alpha=True), PictureFormat.PNG, (64, 48), True),
        (a_picture("JPEG"), PictureFormat.JPEG, (64, 48), False),
        (_webp(alpha=False, lossless=False), PictureFormat.WEBP, (31, 17), False),
        (_webp(alpha=True, lossless=False), PictureFormat.WEBP, (31, 17), True),
        (_webp(alpha=False, lossless=True), PictureFormat.WEBP, (31, 17), False),
        (_webp(alpha=True, lossless=True), PictureFormat.WEBP, (31, 17), True),
        (_webp(alpha=False, lossless=False, extended=True), PictureFormat.WEBP, (31, 17), False),
    ],
)
async def test_what_a_header_says(
    tmp_path: Path, content: bytes, fmt: PictureFormat, size: tuple[int, int], alpha: bool
) -> None:
    """Format, size and alpha are those that the picture was written with."""
    assert Header(fmt, Size(*size), alpha) == await _inspected(tmp_path, content)


async def test_a_palette_may_be_transparent(tmp_path: Path) -> None:
    """A colour of a palette that is transparent is an alpha channel, too."""
    buffer = io.BytesIO()
    Image.new("P", (8, 8)).save(buffer, "PNG", transparency=0)

    assert (await _inspected(tmp_path, buffer.getvalue())).has_alpha


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", UnknownFormatError),
        (b"hello", UnknownFormatError),
        (a_picture("GIF"), UnknownFormatError),
        (a_picture("PNG")[:20], NotAPictureError),
        (a_picture("JPEG")[:30], NotAPictureError),
        (a_picture("WEBP")[:20], NotAPictureError),
        (b"RIFF\0\0\0\0WEBPnope" + bytes(32), NotAPictureError),
        (a_bomb(), TooManyPixelsError),
        (a_bomb(MAX_EDGE + 1, 1), TooManyPixelsError),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6 + bytes(8), TooManyPixelsError),
    ],
)
async def test_what_is_refused(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    """Nothing is unpacked for it: a bomb is known by its header."""
    with pytest.raises(error):
        await _inspected(tmp_path, content)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([a_picture("PNG"), a_picture("JPEG"), _webp(alpha=True, lossless=True)]),
    st.lists(st.tuples(st.integers(8, 400), st.binary(max_size=9)), max_size=4),
    st.integers(0, 900),
)
@example(a_picture("PNG"), [(33, struct.pack(">I", 2**31))], 900)
def test_a_header_with_any_damage(
    content: bytes, damage: list[tuple[int, bytes]], length: int
) -> None:
    """It is read or refused, and nothing else happens."""
    damaged = bytearray(content)
    for place, written in damage:
        damaged[place : place + len(written)] = written
    try:
        header = _inspect(io.BytesIO(bytes(damaged[:length])))
    except (NotAPictureError, TooManyPixelsError):
        return
    assert header.size.pixels > 0
