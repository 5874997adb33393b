"""Pictures to edit, and forms as clients write them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable

from PIL import Image


def a_picture(
    fmt: str = "PNG",
    size: tuple[int, int] = (64, 48),
    *,
    alpha: bool = False,
    shade: int = 120,
) -> bytes:
    """Draw a small picture of one colour."""
    mode, colour = ("RGBA", (shade, 30, 60, 0)) if alpha else ("RGB", (shade, 30, 60))
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, fmt)
    return buffer.getvalue()


def a_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """Write the beginning of a PNG that promises so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")
    )


def a_large_picture(size_bytes: int, *, shade: int = 120) -> bytes:
    """Draw a picture that is followed by noise that nobody reads, up to so many bytes."""
    small = a_picture(shade=shade)
    end = small.index(b"IEND") - 4
    filler = bytes([shade]) * (size_bytes - len(small) - 12)
    return small[:end] + _chunk(b"noIs", filler) + small[end:]


def a_signed_picture(kind: str, manifest: bytes) -> bytes:
    """Draw a picture with a C2PA manifest, where the standard puts it in a file of the kind.

    A chunk of its own in PNG and WebP, an APP11 segment in JPEG (C2PA 2.1, appendix A).
    """
    plain = a_picture(kind)
    match kind:
        case "PNG":
            after_header = 8 + 25
            return plain[:after_header] + _chunk(b"caBX", manifest) + plain[after_header:]
        case "JPEG":
            segment = b"JP\x00\x01\x00\x00\x00\x01" + manifest
            return (
                plain[:2] + b"\xff\xeb" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
            )
    padded = manifest + bytes(len(manifest) % 2)
    chunks = plain[12:] + b"C2PA" + struct.pack("<I", len(manifest)) + padded
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


Part = tuple[str, bytes]


def a_part(name: str, content: bytes | str, *, filename: str | None = None, kind: str = "") -> Part:
    """Build the headers and the content of one part."""
    headers = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        headers += f'; filename="{filename}"'
    if kind:
        headers += f"\r\nContent-Type: {kind}"
    return headers, content.encode() if isinstance(content, str) else content


def a_file(content: bytes, name: str = "image", *, kind: str = "image/png") -> Part:
    """Build the part of a file."""
    return a_part(name, content, filename="upload", kind=kind)


def a_form(
    parts: Iterable[Part], *, boundary: str = "x-boundary-x", epilogue: bytes = b""
) -> bytes:
    """Join parts to a form."""
    lines = [
        b"--" + boundary.encode() + b"\r\n" + headers.encode() + b"\r\n\r\n" + content + b"\r\n"
        for headers, content in parts
    ]
    return b"".join(lines) + b"--" + boundary.encode() + b"--\r\n" + epilogue


def form_headers(boundary: str = "x-boundary-x") -> dict[str, str]:
    """Return the header that a form needs."""
    return {"content-type": f"multipart/form-data; boundary={boundary}"}
