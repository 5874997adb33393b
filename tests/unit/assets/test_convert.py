import io
from collections.abc import AsyncIterator

import pytest
from PIL import Image, ImageCms

from gateway.assets.convert import Converter, UnconvertibleError
from gateway.domain.images import Output, PictureFormat

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def drawn(kind: str, mode: str = "RGB", **saved: object) -> bytes:
    """Return a picture whose left half is red and whose right half is clear, or black."""
    made = Image.new(mode, (32, 16))
    made.paste((200, 0, 0) if mode == "RGB" else (200, 0, 0, 255), (0, 0, 16, 16))
    target = io.BytesIO()
    made.save(target, kind, **saved)
    return target.getvalue()


@pytest.fixture
async def converter() -> AsyncIterator[Converter]:
    """Return a converter for pictures of up to 32 × 32."""
    made = Converter(max_pixels=1024)
    yield made
    made.close()


@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("wanted", list(PictureFormat))
async def test_any_format_becomes_any_other(
    converter: Converter, source: str, wanted: PictureFormat
) -> None:
    """Size and colours stay; the bytes are those of the wanted format."""
    made = await converter.convert(drawn(source), Output(wanted, 90))

    with Image.open(io.BytesIO(made)) as picture:
        assert (wanted, (32, 16)) == ((picture.format or "").lower(), picture.size)
        red, green, _ = picture.convert("RGB").getpixel((4, 8))
    assert red > 180
    assert green < 30


async def test_compression_is_honoured(converter: Converter) -> None:
    """A lower quality makes fewer bytes; zero is a quality, too."""
    target = io.BytesIO()
    Image.effect_noise((32, 32), 80).save(target, "PNG")
    for wanted in (PictureFormat.JPEG, PictureFormat.WEBP):
        sizes = [
            len(await converter.convert(target.getvalue(), Output(wanted, percent)))
            for percent in (0, 50, 100)
        ]
        assert sorted(set(sizes)) == sizes


@pytest.mark.parametrize(
    ("wanted", "right_half"),
    [
        (PictureFormat.WEBP, (0, 0, 0, 0)),
        (PictureFormat.PNG, (0, 0, 0, 0)),
        (PictureFormat.JPEG, (255, 255, 255, 255)),
    ],
)
async def test_what_is_clear_stays_clear_or_becomes_white(
    converter: Converter, wanted: PictureFormat, right_half: tuple[int, ...]
) -> None:
    """Where the format has no transparency the ground is white, not whatever lay beneath."""
    made = await converter.convert(drawn("PNG", "RGBA"), Output(wanted, 100))

    with Image.open(io.BytesIO(made)) as picture:
        assert right_half == picture.convert("RGBA").getpixel((30, 8))


async def test_colour_profile_and_exif_are_kept(converter: Converter) -> None:
    """Colours are shown as before, and the picture stays the right way up."""
    exif = Image.Exif()
    exif[0x0112] = 6
    made = await converter.convert(
        drawn("JPEG", icc_profile=PROFILE, exif=exif), Output(PictureFormat.WEBP)
    )

    with Image.open(io.BytesIO(made)) as picture:
        assert PROFILE == picture.info["icc_profile"]
        assert picture.getexif()[0x0112] == 6


async def test_a_bomb_is_refused_from_its_header(converter: Converter) -> None:
    """A picture of too many pixels is not decoded."""
    target = io.BytesIO()
    Image.new("1", (33, 32)).save(target, "PNG")

    with pytest.raises(UnconvertibleError, match="more than 1024 pixels"):
        await converter.convert(target.getvalue(), Output(PictureFormat.WEBP))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", drawn("PNG")[:-40]])
async def test_what_is_no_whole_picture_is_refused(converter: Converter, content: bytes) -> None:
    """Nothing half is made of half a picture."""
    with pytest.raises(UnconvertibleError):
        await converter.convert(content, Output(PictureFormat.WEBP))
