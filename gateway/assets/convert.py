"""Pictures of one format made into another, beside the event loop.

Pillow holds a whole picture, decoded: four bytes for each pixel. So only a few are converted at
once, none beyond `max_pixels`, and whoever has one waits for a place *before* reading it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from PIL import Image

from gateway.domain.images import Output, PictureFormat

#: The largest picture that is decoded: twice the largest that any model makes (4096 × 4096).
MAX_PIXELS = 2 * 4096 * 4096
#: Conversions that run at once, and pictures that are held for them, still encoded.
THREADS, PLACES = 2, 4

#: Pillow's modes that hold colours as an ICC profile of red, green and blue means them.
_COLOUR_MODES = ("RGB", "RGBA", "P")
#: WebP's effort from 0 to 6: above 2 it takes twice the time for a few percent of the bytes.
_WEBP_METHOD = 2


class UnconvertibleError(Exception):
    """The picture cannot be decoded, or is too large to be."""


class Converter:
    """Converts pictures in threads of its own; `close` ends them."""

    def __init__(self, *, max_pixels: int = MAX_PIXELS) -> None:
        self._max_pixels = max_pixels
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="convert")
        self._places = asyncio.Semaphore(PLACES)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for room for one picture."""
        async with self._places:
            yield

    async def convert(self, content: bytes, output: Output) -> bytes:
        """Return the picture as `output` asks for it, with its colour profile and its EXIF data.

        What proves where a picture comes from (C2PA) does not survive: it signs the very bytes.
        Transparency becomes white where the format has none. Raises UnconvertibleError.
        """
        running = asyncio.get_running_loop()
        return await running.run_in_executor(
            self._threads, _convert, content, output, self._max_pixels
        )

    def close(self) -> None:
        """Drop what waits, and let running conversions end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _convert(content: bytes, output: Output, max_pixels: int) -> bytes:
    target = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "WEBP"]) as picture:
            if picture.width * picture.height > max_pixels:
                raise UnconvertibleError(f"more than {max_pixels} pixels")
            kept: dict[str, object] = {}
            if exif := picture.getexif():
                kept["exif"] = exif
            if picture.mode in _COLOUR_MODES and "icc_profile" in picture.info:
                kept["icc_profile"] = picture.info["icc_profile"]
            _fitting(picture, output.format).save(
                target, output.format.value, **kept, **_effort(output)
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnconvertibleError(type(error).__name__) from error
    return target.getvalue()


def _fitting(picture: Image.Image, wanted: PictureFormat) -> Image.Image:
    """Return a picture in a mode that the format has."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    if wanted is not PictureFormat.JPEG:
        return clear
    opaque = Image.new("RGB", picture.size, "white")
    opaque.paste(clear, mask=clear.getchannel("A"))
    return opaque


def _effort(output: Output) -> dict[str, int]:
    match output.format:
        case PictureFormat.JPEG:
            # Pillow takes 0 for its default.
            return {"quality": max(output.compression, 1)}
        case PictureFormat.WEBP:
            return {"quality": output.compression, "method": _WEBP_METHOD}
        case PictureFormat.PNG:
            return {}
