import io

import pytest
from PIL import Image

from gateway.assets.chunks import regrouped
from gateway.assets.wholeness import Wholeness
from gateway.domain.images import PictureFormat

FORMATS = list(PictureFormat)


def picture(kind: PictureFormat, **options: object) -> bytes:
    """Return a small real picture."""
    target = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(target, kind.value, **options)
    return target.getvalue()


async def is_whole(kind: PictureFormat, content: bytes, *, chunk_bytes: int = 1000) -> bool:
    """Let a picture pass by in chunks of a size."""

    async def whole() -> object:
        yield content

    wholeness = Wholeness(kind)
    arriving = regrouped(whole(), chunk_bytes)  # type: ignore[arg-type]
    passed = b"".join([chunk async for chunk in wholeness.watched(arriving)])
    assert (content, len(content)) == (passed, wholeness.seen_bytes)
    return wholeness.is_whole


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 5000])
async def test_a_whole_picture(kind: PictureFormat, chunk_bytes: int) -> None:
    """However it arrives, and whatever its writer put after it."""
    content = picture(kind)

    assert await is_whole(kind, content, chunk_bytes=chunk_bytes)
    assert await is_whole(kind, content + b"\n\0", chunk_bytes=chunk_bytes)


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_picture_that_is_cut_off(kind: PictureFormat) -> None:
    """Wherever it is, by a single byte or down to nothing."""
    content = picture(kind)
    for left_bytes in (len(content) - 1, len(content) // 2, 20, 4, 0):
        assert not await is_whole(kind, content[:left_bytes])


async def test_the_end_of_a_thumbnail_is_not_the_end() -> None:
    """A JPEG has pictures of itself in its header; cut off after one, it is cut off."""
    thumbnail = picture(PictureFormat.JPEG)
    exif = b"Exif\0\0" + thumbnail
    content = picture(PictureFormat.JPEG, exif=exif, quality=95)
    cut = content[: content.rindex(thumbnail) + len(thumbnail) + 1500]

    assert await is_whole(PictureFormat.JPEG, content)
    assert not await is_whole(PictureFormat.JPEG, cut)
