from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.assets.folder import ABANDONED_MS, free_bytes, mark_of
from gateway.assets.interface import AssetFullError
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.background import SystemClock


async def bytes_of(content: bytes) -> AsyncIterator[bytes]:
    """Stream some bytes."""
    yield content


def files(folder: Path) -> list[str]:
    """Return what is below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


async def test_what_a_killed_writer_left_goes_with_the_next_copy(tmp_path: Path) -> None:
    """The picture is written again under its key; halves of it stay nowhere."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))
    (tmp_path / "design" / "task").mkdir(parents=True)
    for name in ("0#1", "0#2", "00#1", "0#x"):
        (tmp_path / "design" / "task" / name).write_bytes(b"half")

    await store.put("design/task/0", bytes_of(b"picture"))

    left = [path.name for path in (tmp_path / "design" / "task").iterdir()]
    assert ["0", "0#x", "00#1"] == sorted(left)


async def test_what_nobody_writes_again_goes_with_a_sweep(tmp_path: Path) -> None:
    """Once no living writer can have it; directories that are empty then go, too."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))
    for task in ("old", "young"):
        (tmp_path / "design" / task).mkdir(parents=True)
        (tmp_path / "design" / task / "0#1").write_bytes(b"half")
    now_ms = SystemClock().now_ms()
    long_ago_s = (now_ms - ABANDONED_MS) / 1000 - 60
    os.utime(tmp_path / "design" / "old" / "0#1", (long_ago_s, long_ago_s))

    assert 1 == await store.sweep(now_ms, lambda _: 10**12)
    assert ["design", "design/young", "design/young/0#1"] == files(tmp_path)


async def test_pictures_leave_room_on_the_disk(tmp_path: Path) -> None:
    """What would take the last of it is refused: the ledger may be on the same disk."""
    told: list[tuple[str, str]] = []
    store = ObjectAssetStore.open(
        AssetPlace(f"file:{tmp_path}"),
        min_free_bytes=free_bytes(tmp_path) * 2,
        observe=lambda verb, reason: told.append((verb, reason)),
    )

    with pytest.raises(AssetFullError):
        await store.put("design/task/0", bytes_of(b"picture"))

    assert store.is_full
    assert [("write", "full")] == told
    assert [] == files(tmp_path)
    await store.ping()


async def test_a_disk_without_room_is_told_as_full(tmp_path: Path) -> None:
    """Whatever the watermark says, the kernel has the last word: a file system of one megabyte."""
    if os.system(f"mount -t tmpfs -o size=1m none {tmp_path} 2>/dev/null") != 0:  # noqa: S605
        pytest.skip("mounting a file system needs root")
    try:
        store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}/assets"))
        with pytest.raises(AssetFullError):
            await store.put("design/task/0", bytes_of(bytes(3 << 20)))
        full = store.is_full
        left = [path for path in (tmp_path / "assets").rglob("*") if path.is_file()]
        await store.put("design/task/0", bytes_of(b"picture"))
    finally:
        os.system(f"umount -l {tmp_path}")  # noqa: S605

    assert (full, store.is_full, left) == (True, False, [])


#: Writes a picture of three megabytes, says so when most of it is written, and waits to be killed.
WRITER = """
import asyncio, sys
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace

async def chunks():
    for _ in range(8):
        yield bytes(1 << 20)
    await asyncio.sleep(0.2)
    print("written", flush=True)
    await asyncio.sleep(60)

async def main():
    await ObjectAssetStore.open(AssetPlace("file:" + sys.argv[1])).put("design/task/0", chunks())

asyncio.run(main())
"""


async def test_a_writer_that_is_killed_leaves_no_picture_and_the_next_one_no_trace(
    tmp_path: Path,
) -> None:
    """Half of a picture is never seen under its key, and what it was written to goes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITER, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert b"written\n" == await process.stdout.readline()
    process.kill()
    await process.communicate()
    left = files(tmp_path)
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))
    found = await store.find("design/task/0")
    await store.put("design/task/0", bytes_of(b"picture"))

    assert ["design", "design/task", "design/task/0#1"] == left
    assert found is None
    assert ["design", "design/task", "design/task/0"] == files(tmp_path)


def test_a_folder_has_one_mark_wherever_it_is_seen(tmp_path: Path) -> None:
    """Whoever comes first has made it; another folder has another one, and no sweep takes it."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    (tmp_path / "again").symlink_to(one)
    marks = [mark_of(each, os.urandom) for each in (one, tmp_path / "again", one, other)]

    assert (32, marks[0], marks[0]) == (len(marks[0]), marks[1], marks[2])
    assert marks[0] != marks[3]
    assert [".place"] == files(one)


async def test_a_mark_is_no_picture(tmp_path: Path) -> None:
    """A sweep leaves it alone, however old it is."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))
    mark = mark_of(tmp_path, os.urandom)

    assert 0 == await store.sweep(2**53, lambda _: 0)
    assert mark == mark_of(tmp_path, os.urandom)


async def test_objects_are_removed_by_two_at_once(tmp_path: Path) -> None:
    """A directory goes with its last object, whoever else looks for something in it."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))
    keys = [f"design/references/{number}/0a" for number in range(20)]
    for key in keys:
        await store.put(key, bytes_of(b"picture"))
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(store.remove(keys))

    assert [] == files(tmp_path)


async def test_what_is_not_there_is_removed_already(tmp_path: Path) -> None:
    """Two that delete the same object are both done, its directory being gone as well."""
    store = ObjectAssetStore.open(AssetPlace(f"file:{tmp_path}"))
    await store.put("design/task/0", bytes_of(b"picture"))

    await store.remove(["design/task/0"])
    await store.remove(["design/task/0", "design/other/0"])

    assert [] == [each for each in files(tmp_path) if each != ".place"]
