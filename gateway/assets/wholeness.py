"""Whether a picture's bytes end where a picture ends; nothing is decoded.

A host may send half of a file as if it were all of it, with a length that agrees: because its own
copy was cut off, or because somebody is still writing it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from gateway.domain.images import PictureFormat

#: What a format ends with: PNG's last chunk with its checksum (it is always the same), and JPEG's
#: end of image. Some writers put a few bytes after it.
_ENDS = {
    PictureFormat.PNG: b"\x00\x00\x00\x00IEND\xaeB`\x82",
    PictureFormat.JPEG: b"\xff\xd9",
}
_TAIL_BYTES = 1024
#: A RIFF container (WebP) tells its length after its name (RFC 9649 §2.4).
_RIFF_BYTES = 8


class Wholeness:
    """Looks at the bytes of one picture as they pass by."""

    def __init__(self, picture_format: PictureFormat) -> None:
        self._format = picture_format
        self._head = self._tail = b""
        self.seen_bytes = 0

    async def watched(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Pass bytes on, and look at them."""
        async for chunk in chunks:
            self.seen_bytes += len(chunk)
            if len(self._head) < _RIFF_BYTES:
                self._head += chunk[: _RIFF_BYTES - len(self._head)]
            self._tail = (self._tail + chunk[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            yield chunk

    @property
    def is_whole(self) -> bool:
        """Whether what was seen so far ends as a picture of its format does."""
        end = _ENDS.get(self._format)
        if end is not None:
            return end in self._tail
        told_bytes = int.from_bytes(self._head[4:], "little") + _RIFF_BYTES
        return len(self._head) == _RIFF_BYTES and self.seen_bytes >= told_bytes
