from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.assets.chunks import only
from gateway.assets.interface import (
    AssetUnavailableError,
    ByteSpan,
    Ingested,
    LinkUnavailableError,
    OpenPicture,
)
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.assets.straight import REMEMBERED, StraightAssets
from gateway.domain.ids import TaskId
from gateway.domain.images import Output, PictureFormat
from gateway.domain.task import RenderState, Task
from tests.support.factories import a_picture_in_store, a_render, a_result, a_task

DONE = a_render(state=RenderState.COMPLETED, result=a_result())
KEY = a_picture_in_store().key


class Links:
    """An upstream whose links all give the same picture, or fail."""

    def __init__(self) -> None:
        self.fails = False
        self.size_bytes: int | None = 7
        self.opened: list[tuple[str, Output]] = []

    async def ingest(
        self, link: str, key: str, output: Output, *, beats_bytes: int = -1
    ) -> Ingested:
        """Never asked."""
        raise AssertionError(link, key, output, beats_bytes)

    async def open(self, link: str, output: Output, *, chunk_bytes: int) -> OpenPicture:
        """Give the picture."""
        self.opened.append((link, output))
        if self.fails:
            raise LinkUnavailableError("HTTP 503")
        return OpenPicture(output.format, self.size_bytes, only(b"picture"))


class World:
    """A store in a folder that may vanish, and links."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links = Links()
        self.store = ObjectAssetStore.open(AssetPlace(f"file:{folder}"))
        self.assets = StraightAssets(self.store, {"evolink": self.links})

    def break_store(self) -> None:
        """Let nothing be written or read any more."""
        self.folder.rename(self.folder.with_name("gone"))
        self.folder.write_bytes(b"")

    async def read(self, part: ByteSpan | None = None) -> bytes:
        """Read the picture."""
        pieces = self.assets.read(KEY, chunk_bytes=4, part=part)
        return b"".join([piece async for piece in pieces])


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a store that works."""
    return World(tmp_path / "assets")


async def stream(content: bytes) -> AsyncIterator[bytes]:
    """Yield it."""
    yield content


async def test_what_is_not_stored_is_told_as_its_link_gives_it(world: World) -> None:
    """With its size and the format it is delivered as; what has an end already stays as it is."""
    lost = replace(DONE, index=1, result=a_result(lost=True))
    task = replace(a_task(DONE, lost), output=Output(PictureFormat.WEBP, 50))

    told = await world.assets.with_straight(task)

    first, second = told.renders
    assert first.result is not None
    assert first.result.stored is not None
    assert (KEY, 7, "webp") == (
        *(first.result.stored.key, first.result.stored.size_bytes),
        first.result.stored.format,
    )
    assert second == lost
    assert b"picture" == await world.read()
    assert [task.output] * 2 == [output for _, output in world.links.opened]


@pytest.mark.parametrize("fails", [True, False])
async def test_a_picture_that_cannot_be_announced_is_waited_for(world: World, fails: bool) -> None:
    """A link that fails, or one that says no size, is passed on to nobody."""
    world.links.fails, world.links.size_bytes = fails, None
    task = a_task(DONE)

    assert task == await world.assets.with_straight(task)


async def test_a_stored_picture_that_cannot_be_read_comes_from_its_link(world: World) -> None:
    """A store that is down at the very end costs nobody the picture."""
    world.assets.remember(a_task(DONE), DONE)
    await world.assets.put(KEY, stream(b"stored!"))
    stored = await world.read()
    world.break_store()

    assert (b"stored!", b"picture") == (stored, await world.read())


@pytest.mark.parametrize("part", [None, ByteSpan(0, 3)])
async def test_what_neither_gives_is_unavailable(world: World, part: ByteSpan | None) -> None:
    """And so is a part of what the store does not give: only whole pictures are passed on."""
    world.assets.remember(a_task(DONE), DONE)
    world.links.fails = part is None
    world.break_store()

    with pytest.raises(AssetUnavailableError):
        await world.read(part)


async def test_only_the_latest_links_are_remembered(world: World) -> None:
    """What a process knows of them does not grow for ever."""
    world.assets.remember(a_task(DONE), DONE)
    for number in range(1, REMEMBERED + 1):
        world.assets.remember(_task(number), DONE)

    with pytest.raises(AssetUnavailableError):
        await world.read()


def _task(number: int) -> Task:
    return replace(a_task(DONE), id=TaskId(f"imgtask_{number:032}"))
