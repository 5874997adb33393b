"""What a picture's file says of itself, read from its header: nothing is decoded.

A header may promise more pixels than anybody should unpack; such a file is refused before it
could be (a "pixel bomb").
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import IO

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from gateway.assets.download import recognise
from gateway.assets.interface import LinkDeadError, LinkUnavailableError
from gateway.assets.spool import SpooledFile
from gateway.domain.images import PictureFormat, Size

#: Limits of what EvoLink takes for a reference (protocols/evolink.md §2.3).
MAX_PIXELS = 178_956_970
MAX_EDGE = 23_170

#: Bytes that hold the header of any WebP picture.
_HEAD_BYTES = 32

#: Pillow's readers by themselves: `Image.open` has opinions about many pixels, and its reader of
#: WebP wants the whole file.
_READERS: dict[PictureFormat, type[ImageFile]] = {
    PictureFormat.PNG: PngImageFile,
    PictureFormat.JPEG: JpegImageFile,
}


class NotAPictureError(Exception):
    """The bytes are none of the formats that are taken, or their header is broken."""


class UnknownFormatError(NotAPictureError):
    """The bytes begin like none of the formats that are taken."""


class TooManyPixelsError(Exception):
    """The header promises more than MAX_PIXELS, or an edge above MAX_EDGE."""


@dataclass(frozen=True, slots=True)
class Header:
    """Format, size in pixels, and whether the picture can be transparent."""

    format: PictureFormat
    size: Size
    has_alpha: bool


async def inspect(file: SpooledFile) -> Header:
    """Return what the header of a file says. Raises NotAPictureError, TooManyPixelsError."""
    return await asyncio.to_thread(_inspect, file.reader())


def _inspect(file: IO[bytes]) -> Header:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    try:
        found = recognise(head)
    except (LinkDeadError, LinkUnavailableError):
        raise UnknownFormatError from None
    try:
        header = _webp(head) if found is PictureFormat.WEBP else _read_by_pillow(file, found)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow's readers raise all of the latter for headers that lie.
        raise NotAPictureError from error
    size = header.size
    if not size.pixels:
        raise NotAPictureError
    if size.pixels > MAX_PIXELS or max(size.width, size.height) > MAX_EDGE:
        raise TooManyPixelsError
    return header


def _read_by_pillow(file: IO[bytes], found: PictureFormat) -> Header:
    image = _READERS[found](file)
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    return Header(found, Size(*image.size), has_alpha)


def _webp(head: bytes) -> Header:
    """Read the first chunk of a RIFF container (RFC 9649 §2.5–§2.7, §3.4)."""
    if len(head) < _HEAD_BYTES - 2:
        raise ValueError("the header is cut off")
    match head[12:16]:
        case b"VP8X":
            size = Size(_little(head[24:27]) + 1, _little(head[27:30]) + 1)
            return Header(PictureFormat.WEBP, size, bool(head[20] & 0x10))
        case b"VP8L" if head[20] == 0x2F:  # noqa: PLR2004 - the signature
            bits = _little(head[21:25])
            size = Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
            return Header(PictureFormat.WEBP, size, bool(bits >> 28 & 1))
        case b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            size = Size(_little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF)
            return Header(PictureFormat.WEBP, size, has_alpha=False)
    raise ValueError("no picture in the container")


def _little(content: bytes) -> int:
    return int.from_bytes(content, "little")
