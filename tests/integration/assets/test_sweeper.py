from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.assets.sweeper import Sweeper
from gateway.background import SystemClock

DAY_S = 86_400


async def bytes_of(content: bytes) -> AsyncIterator[bytes]:
    """Stream some bytes."""
    yield content


async def test_old_pictures_go_and_young_ones_stay(tmp_path: Path) -> None:
    """What was written longer ago than it is kept is removed at the first sweep, nothing else."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))
    for name in ("team/old/0", "team/young/0"):
        await store.put(name, bytes_of(b"picture"))
    await store.ping()
    long_ago_s = SystemClock().now_ms() / 1000 - 2 * DAY_S
    for name in ("team/old/0", ".ping"):
        os.utime(tmp_path / name, (long_ago_s, long_ago_s))
    sweeping = asyncio.get_running_loop().create_task(
        Sweeper(store, SystemClock(), keep_ms=DAY_S * 1000).run()
    )
    for _ in range(100):
        if not (tmp_path / "team/old/0").exists():
            break
        await asyncio.sleep(0.01)
    sweeping.cancel()

    assert not (tmp_path / "team/old/0").exists()
    assert b"picture" == (tmp_path / "team/young/0").read_bytes()
    assert (tmp_path / ".ping").exists()


async def test_a_store_that_fails_does_not_end_the_sweeper(tmp_path: Path) -> None:
    """A sweep that could not be done is left to the next one."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}/assets"))
    (tmp_path / "assets").rmdir()
    sweeping = asyncio.get_running_loop().create_task(
        Sweeper(store, SystemClock(), keep_ms=1).run()
    )
    await asyncio.sleep(0.1)
    still_running = not sweeping.done()
    sweeping.cancel()

    assert still_running
