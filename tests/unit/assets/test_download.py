import pytest

from gateway.assets.download import recognise
from gateway.assets.interface import LinkDeadError, LinkUnavailableError
from gateway.domain.images import PictureFormat


@pytest.mark.parametrize(
    ("head", "recognised"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", PictureFormat.PNG),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", PictureFormat.JPEG),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", PictureFormat.WEBP),
    ],
)
def test_pictures_are_recognised_by_their_first_bytes(
    head: bytes, recognised: PictureFormat
) -> None:
    """PNG, JPEG and WebP are told by magic numbers, not by names or headers."""
    assert recognised is recognise(head)


@pytest.mark.parametrize(
    "head",
    [
        b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00",
        b"<html><body>404</body>",
        b'{"error":"expired"}',
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"<svg xmlns='http://'>",
        b"\x89P",
        b"\x00" * 16,
    ],
)
def test_anything_else_is_no_picture(head: bytes) -> None:
    """Other formats, pages and errors are not stored as pictures."""
    with pytest.raises(LinkDeadError, match="not a PNG, JPEG or WebP picture"):
        recognise(head)


def test_an_empty_answer_may_be_better_next_time() -> None:
    """No bytes at all say nothing about the picture."""
    with pytest.raises(LinkUnavailableError, match="empty"):
        recognise(b"")
