"""Backups of the embedded server, made and read by real servers."""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
from pathlib import Path

import pytest

from gateway.store.backup import Backup, BackupError, read_backup, restoring, write_backup
from gateway.store.client import Store
from gateway.store.data_dir import DataDirInUseError
from gateway.store.embedded import EmbeddedServer

NOW_MS = 1_790_000_000_000


async def a_backup(folder: Path, **values: str) -> Path:
    """Return a backup of a server that holds these values."""
    file, data_dir = folder / "backup.tar", folder / "origin"
    server = EmbeddedServer(data_dir)
    await server.start()
    try:
        async with Store(server.url, timeout_ms=15_000) as store:
            for name, value in values.items():
                await store.command("SET", name, value)
            await write_backup(store, data_dir, file, now_ms=NOW_MS, version="1")
            await store.command("SET", "later", "is not in it")
    finally:
        await server.stop()
    return file


async def restore(file: Path, data_dir: Path, *, now_ms: int | None = None) -> Backup:
    """Restore a backup and change nothing in it; with `now_ms` it replaces what is there."""
    staging = restoring(file, data_dir, now_ms=now_ms or 0, replaces=now_ms is not None)
    async with staging as staged:
        return staged.backup


async def held(data_dir: Path) -> dict[str, str]:
    """Return what a server of this directory holds."""
    server = EmbeddedServer(data_dir)
    await server.start()
    try:
        async with Store(server.url, timeout_ms=15_000) as store:
            names = await store.command("KEYS", "*")
            assert isinstance(names, list)
            return {
                name.decode(): (await store.command("GET", name)).decode()  # type: ignore[union-attr,arg-type]
                for name in names
            }
    finally:
        await server.stop()


async def test_what_was_there_is_back_and_is_journaled(tmp_path: Path) -> None:
    """In a new directory, also after one more start: what was restored stands in the journal."""
    file = await a_backup(tmp_path, one="1", two="2")
    about = await restore(file, tmp_path / "new")

    assert {"one": "1", "two": "2"} == await held(tmp_path / "new")
    assert (2, NOW_MS) == (about.keys, about.made_at_ms)
    assert not (tmp_path / "new" / "dump.rdb").exists()
    assert not (tmp_path / "origin" / "dump.rdb").exists()
    assert 0o600 == file.stat().st_mode & 0o777


async def test_books_are_not_overwritten_by_accident(tmp_path: Path) -> None:
    """Refused where there are some; with `replace` they are put aside, whole."""
    file = await a_backup(tmp_path, one="1")
    origin = tmp_path / "origin"
    with pytest.raises(BackupError, match="--replace"):
        await restore(file, origin)
    assert {"one": "1", "later": "is not in it"} == await held(origin)

    await restore(file, origin, now_ms=17)
    with pytest.raises(BackupError, match="from the backup of 2026-09-21 14:13:20 UTC"):
        await restore(file, origin)
    assert {"one": "1"} == await held(origin)

    (origin / "appendonlydir").rename(origin / "unwanted")
    (origin / "appendonlydir.17").rename(origin / "appendonlydir")
    assert {"one": "1", "later": "is not in it"} == await held(origin)


async def test_books_are_in_force_as_they_were_made_ready(tmp_path: Path) -> None:
    """Meanwhile the old ones are, and stay so when making them ready fails."""
    file = await a_backup(tmp_path, one="1")
    origin = tmp_path / "origin"
    with pytest.raises(OSError, match="upstream"):
        async with restoring(file, origin, now_ms=17, replaces=True):
            raise OSError("no upstream")
    assert {"one": "1", "later": "is not in it"} == await held(origin)

    async with (
        restoring(file, origin, now_ms=18, replaces=True) as staged,
        Store(staged.url, timeout_ms=15_000) as store,
    ):
        await store.command("SET", "ready", "yes")
    assert {"one": "1", "ready": "yes"} == await held(origin)
    assert not list(origin.glob("*.17"))


async def test_two_backups_at_once_do_not_mix(tmp_path: Path) -> None:
    """The second is refused; one that the server still writes for a killed one is waited for."""
    server = EmbeddedServer(tmp_path / "origin")
    await server.start()
    try:
        async with Store(server.url, timeout_ms=15_000) as store:
            await store.command("CONFIG", "SET", "rdb-key-save-delay", "20000")
            await store.command("MSET", *(word for n in range(20) for word in (f"k{n}", "v")))
            await store.command("BGSAVE")
            await store.command("SET", "last", "v")
            arguments = {"now_ms": NOW_MS, "version": "1"}
            first = write_backup(store, tmp_path / "origin", tmp_path / "a", **arguments)  # type: ignore[arg-type]
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(first)
                await asyncio.sleep(0.05)
                with pytest.raises(BackupError, match="Another backup"):
                    await write_backup(store, tmp_path / "origin", tmp_path / "b", **arguments)  # type: ignore[arg-type]
    finally:
        await server.stop()
    await restore(tmp_path / "a", tmp_path / "new")

    assert 21 == writing.result().keys
    assert (await held(tmp_path / "new"))["last"] == "v"


async def test_a_server_that_runs_is_left_alone(tmp_path: Path) -> None:
    """While a gateway has the directory nothing in it is touched."""
    file = await a_backup(tmp_path, one="1")
    server = EmbeddedServer(tmp_path / "origin")
    await server.start()
    try:
        with pytest.raises(DataDirInUseError):
            await restore(file, tmp_path / "origin", now_ms=17)
    finally:
        await server.stop()

    assert {"one": "1", "later": "is not in it"} == await held(tmp_path / "origin")


async def test_a_snapshot_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    """The server ends on it; the books that were put aside are back in their place."""
    file = await a_backup(tmp_path, one="1")
    snapshot = tmp_path / "store.rdb"
    snapshot.write_bytes(b"REDIS0011 no more")
    broken = _repacked(file, snapshot, tmp_path / "broken.tar", honest=True)
    with pytest.raises(Exception, match=rf"ended with code .* \(more in {tmp_path}/origin/valkey"):
        await restore(broken, tmp_path / "origin", now_ms=17)

    assert {"one": "1", "later": "is not in it"} == await held(tmp_path / "origin")


async def test_damaged_files_are_told(tmp_path: Path) -> None:
    """One that is no backup, one that was cut, one whose contents were changed."""
    file = await a_backup(tmp_path, one="1")
    text, cut = tmp_path / "text", tmp_path / "cut"
    text.write_text("not a backup")
    cut.write_bytes(file.read_bytes()[:700])
    snapshot = tmp_path / "store.rdb"
    snapshot.write_bytes(b"something else")
    changed = _repacked(file, snapshot, tmp_path / "changed.tar", honest=False)

    for path in (text, cut, changed, tmp_path / "nowhere"):
        with pytest.raises(BackupError, match=str(path)):
            read_backup(path)


def _repacked(file: Path, snapshot: Path, target: Path, *, honest: bool) -> Path:
    """Return a backup with another snapshot; an honest one says so."""
    with tarfile.open(file) as origin, tarfile.open(target, "w") as out:
        about = origin.extractfile("backup.json")
        assert about is not None
        described = about.read()
        if honest:
            old = read_backup(file).sha256.encode()
            described = described.replace(
                old, hashlib.sha256(snapshot.read_bytes()).hexdigest().encode()
            )
        entry = snapshot.with_suffix(".json")
        entry.write_bytes(described)
        out.add(entry, arcname="backup.json")
        out.add(snapshot, arcname="store.rdb")
    return target
