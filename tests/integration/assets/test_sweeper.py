from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.assets.interface import KeepOf
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.assets.sweeper import Sweeper
from gateway.domain.errors import StoreUnavailable
from tests.support.journal import LaterClock

DAY_S = 86_400


async def bytes_of(content: bytes) -> AsyncIterator[bytes]:
    """Stream some bytes."""
    yield content


async def keep() -> KeepOf:
    """Keep what the team `archive` has made for a week, and the rest for a day."""
    return lambda key: (7 if key.startswith("archive/") else 1) * DAY_S * 1000


async def keep_nobody_knows() -> KeepOf:
    """Fail as a store of settings that is down does."""
    raise StoreUnavailable


@asynccontextmanager
async def sweeping(sweeper: Sweeper) -> AsyncIterator[asyncio.Task[None]]:
    """Let a sweeper run for a moment."""
    task = asyncio.get_running_loop().create_task(sweeper.run())
    await asyncio.sleep(0.2)
    yield task
    task.cancel()


async def test_pictures_go_when_their_team_has_kept_them_for_long_enough(
    place: AssetPlace,
) -> None:
    """On every kind of store; what shows that the store works stays."""
    store, clock = ObjectAssetStore.open(place), LaterClock()
    for name in ("archive/task/0", "design/task/0"):
        await store.put(name, bytes_of(b"picture"))
    clock.advance(2 * DAY_S)
    async with sweeping(Sweeper(store, clock, read_keep=keep)):
        # Removal is a request of its own where the store is far away.
        async with asyncio.timeout(60):
            while await store.find("design/task/0") is not None:  # noqa: ASYNC110 - sets no event
                await asyncio.sleep(0.02)

    assert await store.find("design/task/0") is None
    assert await store.find("archive/task/0") is not None


async def test_nothing_goes_when_nobody_knows_for_how_long_it_is_kept(folder: AssetPlace) -> None:
    """Settings that cannot be read remove nobody's pictures."""
    store, clock = ObjectAssetStore.open(folder), LaterClock()
    await store.put("design/task/0", bytes_of(b"picture"))
    clock.advance(2 * DAY_S)
    async with sweeping(Sweeper(store, clock, read_keep=keep_nobody_knows)) as task:
        assert not task.done()

    assert await store.find("design/task/0") is not None


async def test_a_store_that_fails_does_not_end_the_sweeper(tmp_path: Path) -> None:
    """A sweep that could not be done is left to the next one."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}/assets"))
    (tmp_path / "assets").rmdir()
    async with sweeping(Sweeper(store, LaterClock(), read_keep=keep)) as task:
        assert not task.done()
