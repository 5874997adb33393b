"""Streams of bytes, cut anew."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator


async def regrouped(chunks: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """Yield the same bytes in pieces of exactly `size`, the last one perhaps shorter."""
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        while len(pending) >= size:
            piece = bytes(pending[:size])
            del pending[:size]
            yield piece
    if pending:
        yield bytes(pending)


async def only(content: bytes) -> AsyncGenerator[bytes, None]:
    """Yield all of it at once."""
    yield content
