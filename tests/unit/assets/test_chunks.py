from collections.abc import AsyncIterator

import pytest

from gateway.assets.chunks import only, regrouped


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield the chunks."""
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(
    ("chunks", "pieces"),
    [
        ((), []),
        ((b"abc",), [b"abc"]),
        ((b"a", b"b", b"cd", b"e"), [b"abc", b"de"]),
        ((b"abcdefg",), [b"abc", b"def", b"g"]),
    ],
)
async def test_pieces_are_of_one_size(chunks: tuple[bytes, ...], pieces: list[bytes]) -> None:
    """However the bytes come, all pieces but the last are exactly as large as asked."""
    assert pieces == [piece async for piece in regrouped(stream(*chunks), 3)]


async def test_all_of_it_at_once() -> None:
    """One chunk."""
    assert [b"abc"] == [piece async for piece in only(b"abc")]
