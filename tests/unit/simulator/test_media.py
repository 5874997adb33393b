from io import BytesIO

import pytest
from PIL import Image

from gateway.simulator.media import media_type


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_pictures(kind: str) -> None:
    """The four documented types are known by their content."""
    output = BytesIO()
    Image.new("RGB", (4, 4)).save(output, kind)

    assert f"image/{kind}" == media_type(output.getvalue())


@pytest.mark.parametrize("content", [b"", b"<html>", b"BM6", b"RIFF\x00\x00\x00\x00WAVE"])
def test_others(content: bytes) -> None:
    """Everything else has no type."""
    assert "" == media_type(content)
