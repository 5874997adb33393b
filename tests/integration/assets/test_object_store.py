import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.assets.interface import AssetUnavailableError, ByteSpan
from gateway.assets.object_store import PART_BYTES, ObjectAssetStore
from gateway.assets.place import AssetPlace

LARGE = bytes(range(256)) * (PART_BYTES // 256) * 3 + b"tail"


@pytest.fixture
def store(place: AssetPlace) -> ObjectAssetStore:
    """Return an empty store of each kind."""
    return ObjectAssetStore.open(place)


async def stream(*chunks: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    """Yield the chunks, then raise the error."""
    for chunk in chunks:
        yield chunk
    if error is not None:
        raise error


async def whole(store: ObjectAssetStore, key: str, *, chunk_bytes: int = 1024) -> bytes:
    """Return an object."""
    return b"".join([piece async for piece in store.read(key, chunk_bytes=chunk_bytes)])


def files(folder: Path) -> list[str]:
    """Return every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "content",
    [b"", b"x", LARGE[:PART_BYTES], LARGE, LARGE * 4],
    ids=["empty", "small", "a part", "large", "several requests"],
)
async def test_what_was_put_is_read(store: ObjectAssetStore, content: bytes) -> None:
    """An object comes back byte for byte, whatever the sizes of the chunks that made it."""
    chunks = [content[at : at + 70_001] for at in range(0, len(content), 70_001)]

    size_bytes = await store.put("renders/a.png", stream(*chunks))

    assert size_bytes == len(content)
    assert content == await whole(store, "renders/a.png")


@pytest.mark.parametrize("chunk_bytes", [1_000, 65_536, len(LARGE), len(LARGE) + 1])
async def test_pieces_have_the_size_that_was_asked_for(
    store: ObjectAssetStore, chunk_bytes: int
) -> None:
    """All pieces but the last are exactly as large as asked, so that base64 can be made of each."""
    await store.put("a", stream(LARGE))

    sizes = [len(piece) async for piece in store.read("a", chunk_bytes=chunk_bytes)]

    full, rest = divmod(len(LARGE), chunk_bytes)
    assert [chunk_bytes] * full + ([rest] if rest else []) == sizes


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
async def test_a_stream_that_breaks_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    """A failing source passes its own error through; no object and no part of one stays."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))

    with pytest.raises(RuntimeError, match="source broke"):
        await store.put("renders/a.png", stream(content, error=RuntimeError("source broke")))

    with pytest.raises(AssetUnavailableError):
        await whole(store, "renders/a.png")
    assert files(tmp_path) == []


async def test_a_broken_stream_keeps_what_was_there(store: ObjectAssetStore) -> None:
    """A second copy that fails does not touch the first."""
    await store.put("a", stream(b"first"))

    with pytest.raises(RuntimeError):
        await store.put("a", stream(LARGE, error=RuntimeError()))

    assert await whole(store, "a") == b"first"


async def test_the_same_result_may_be_copied_twice(store: ObjectAssetStore) -> None:
    """A key is written again without complaint, so that a repeated copy is harmless."""
    await store.put("a", stream(LARGE))
    await store.put("a", stream(b"again"))

    assert await whole(store, "a") == b"again"


async def test_an_object_is_invisible_until_it_is_complete(store: ObjectAssetStore) -> None:
    """While a stream is still being written its key cannot be read."""
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield LARGE
        halfway.set()
        await go_on.wait()
        yield b"end"

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(store.put("a", slow()))
        await halfway.wait()
        with pytest.raises(AssetUnavailableError):
            await whole(store, "a")
        go_on.set()

    assert writing.result() == len(LARGE) + 3
    assert await whole(store, "a") == LARGE + b"end"


async def test_a_cancelled_write_leaves_nothing(tmp_path: Path) -> None:
    """Cancelling a put stops it and takes its parts away."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))
    halfway = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield LARGE
        halfway.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(store.put("a", endless()))
        await halfway.wait()
        assert files(tmp_path) != []
        writing.cancel()

    assert files(tmp_path) == []


async def test_reading_may_stop_early(store: ObjectAssetStore) -> None:
    """A reader that leaves after the first piece disturbs nobody."""
    await store.put("a", stream(LARGE))
    pieces = store.read("a", chunk_bytes=1000)

    first = await anext(pieces)

    assert LARGE[:1000] == first
    assert await whole(store, "a") == LARGE


async def test_a_missing_object_is_unavailable(store: ObjectAssetStore) -> None:
    """Reading what is not there is the store's error, without a path in it."""
    with pytest.raises(AssetUnavailableError, match=r"^cannot read: FileNotFoundError$"):
        await whole(store, "nothing")


async def test_a_store_that_cannot_write_is_unavailable(tmp_path: Path) -> None:
    """A directory that was replaced by a file refuses writes and pings."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path / 'assets'}"))
    (tmp_path / "assets").rmdir()
    (tmp_path / "assets").write_bytes(b"")

    with pytest.raises(AssetUnavailableError, match=r"^cannot write: \w+Error$"):
        await store.put("a", stream(b"x"))
    with pytest.raises(AssetUnavailableError, match=r"^cannot write: \w+Error$"):
        await store.ping()


async def test_a_store_that_works_answers_pings(store: ObjectAssetStore) -> None:
    """A ping may be asked again and again."""
    await store.ping()
    await store.ping()


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".ping", "a#1", "a b", "a\n", "ä", "a" * 201]
)
async def test_keys_that_could_leave_the_store_are_refused(
    store: ObjectAssetStore, key: str
) -> None:
    """A key is checked before the store sees it."""
    with pytest.raises(ValueError, match="asset key"):
        await store.put(key, stream(b"x"))
    with pytest.raises(ValueError, match="asset key"):
        await whole(store, key)
    with pytest.raises(ValueError, match="asset key"):
        await store.find(key)


@pytest.mark.parametrize(
    ("first", "end"), [(0, 1), (10, 20), (PART_BYTES - 5, PART_BYTES + 5), (0, len(LARGE))]
)
@pytest.mark.parametrize("chunk_bytes", [7, 65_536])
async def test_a_part_is_read_alone(
    store: ObjectAssetStore, first: int, end: int, chunk_bytes: int
) -> None:
    """The bytes from the first on and before the end, in pieces of the size that was asked for."""
    await store.put("a", stream(LARGE))

    pieces = [
        piece async for piece in store.read("a", chunk_bytes=chunk_bytes, part=ByteSpan(first, end))
    ]

    assert LARGE[first:end] == b"".join(pieces)
    assert all(len(piece) == chunk_bytes for piece in pieces[:-1])


async def test_what_is_known_of_an_object(store: ObjectAssetStore) -> None:
    """Its size, and a version that stays the same as long as nothing is written."""
    await store.put("renders/a.png", stream(b"first"))
    first = await store.find("renders/a.png")
    again = await store.find("renders/a.png")
    await store.put("renders/a.png", stream(b"other"))
    other = await store.find("renders/a.png")

    assert first is not None
    assert other is not None
    assert first == again
    assert (5, 5) == (first.size_bytes, other.size_bytes)
    assert first.version != other.version
    assert first.version.isalnum()


async def test_an_object_that_is_not_there_is_not_found(store: ObjectAssetStore) -> None:
    """Never written and removed are the same."""
    await store.put("a", stream(b"x"))
    await store.sweep(2**53, lambda _: 0)

    assert await store.find("a") is None
    assert await store.find("renders/b") is None


async def test_an_object_that_cannot_be_looked_for_is_unavailable(tmp_path: Path) -> None:
    """A store that is broken does not say that a picture is gone."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path / 'assets'}"))
    (tmp_path / "assets").rmdir()
    (tmp_path / "assets").write_bytes(b"")

    with pytest.raises(AssetUnavailableError, match=r"^cannot find: \w+Error$"):
        await store.find("a/b")
