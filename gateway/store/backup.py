"""Backups of the embedded server: everything in it at one moment, in one file.

The server itself writes the snapshot (BGSAVE: a fork of it, so nothing moves under its pen), while
gateways go on. A backup is a tar of `backup.json`, which says what it is, and `store.rdb`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

import orjson

from gateway.store.client import Store
from gateway.store.data_dir import locked, taken
from gateway.store.embedded import EmbeddedServer
from gateway.store.journals import JOURNAL, SNAPSHOT, STAGE, replace_journal

#: Raised when a file of this kind is read that a newer release has written otherwise.
FORMAT = 1

_ABOUT, _SNAPSHOT = "backup.json", "store.rdb"
_LOOK_EVERY_S = 0.05
#: How long the server of a gateway that was killed may take to go.
_PATIENCE_S = 15.0
_CHUNK_BYTES = 1 << 20
_MS_PER_S = 1000
#: While one of these is set, the server does not begin another snapshot.
_BUSY = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
_NOT_WRITTEN = "The server could not write: is its disk full? See valkey.log."

#: Told each step as it is over, by its name: for tests of what a kill there leaves.
Reached = Callable[[str], None]


def _ignore(_: str) -> None:
    """Take note of no step."""


class BackupError(Exception):
    """The backup cannot be made, or not be used; the message tells the operator why."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup says of itself: when it was made (Unix ms), by whom, and how much it holds."""

    made_at_ms: int
    gateway: str
    keys: int
    bytes: int
    sha256: str
    format: int = FORMAT


async def write_backup(
    store: Store,
    data_dir: Path,
    file: Path,
    *,
    now_ms: int,
    version: str,
    reached: Reached = _ignore,
) -> Backup:
    """Write what the server of `data_dir` holds now into a file, which only its owner may read.

    The file appears under its name when it is whole and on the disk; what is there before that
    stays. Killed, it leaves a snapshot in `data_dir` and a `.<file>.partial`, which the next backup
    replaces. Raises BackupError, OSError, and StoreUnavailable.
    """
    # Two at once would take each other's snapshot.
    lock = locked(data_dir / "backup.lock")
    if lock is None:
        raise BackupError(f"Another backup of {data_dir} is being made.")
    snapshot = data_dir / SNAPSHOT
    with lock:
        try:
            await _save(store)
            reached("saved")
            keys = await store.command("DBSIZE")
            about = Backup(
                made_at_ms=now_ms,
                gateway=version,
                keys=keys if isinstance(keys, int) else 0,
                bytes=snapshot.stat().st_size,
                sha256=await asyncio.to_thread(_digest_of, snapshot),
            )
            await asyncio.to_thread(_pack, about, snapshot, file, reached)
        finally:
            snapshot.unlink(missing_ok=True)
    return about


def read_backup(file: Path) -> Backup:
    """Return what a backup says of itself. Raises BackupError, also when it is damaged."""
    with _opened(file) as tar:
        about = _about(tar)
        member = tar.extractfile(_SNAPSHOT)
        digest = "" if member is None else _digest(member)
    if digest != about.sha256:
        raise BackupError(f"{file} is damaged: its contents are not those that were written.")
    return about


@dataclass(frozen=True, slots=True)
class Staged:
    """A backup that a server has read, and where that server listens; not in force yet."""

    backup: Backup
    url: str


@asynccontextmanager
async def restoring(
    file: Path, data_dir: Path, *, now_ms: int, replaces: bool, reached: Reached = _ignore
) -> AsyncIterator[Staged]:
    """Yield the books of a backup, to be made ready; they are in force once that has gone well.

    A server of their own holds them until then, and what `data_dir` holds stays as it is: after an
    error, and after being killed, too. With `replaces` it is put aside under a name, without it is
    refused. Raises BackupError, OSError, and what starting a server raises.
    """
    about = await asyncio.to_thread(read_backup, file)
    async with taken(data_dir, patience_s=_PATIENCE_S):
        stage, journal = data_dir / STAGE, data_dir / JOURNAL
        if journal.exists() and not replaces:
            raise BackupError(
                f"{data_dir} holds books already{_origin(journal)}."
                " With --replace they are put aside."
            )
        stage.mkdir(mode=0o700)
        try:
            await asyncio.to_thread(_unpack, file, stage / _SNAPSHOT)
            reached("unpacked")
            log_file = data_dir / "valkey.log"
            server = EmbeddedServer(stage, snapshot=_SNAPSHOT, log_file=log_file)
            try:
                await server.start()
                await _write_journal(server.url, about)
                reached("read")
                yield Staged(about, server.url)
            finally:
                await server.stop()
            (stage / JOURNAL / _ABOUT).write_bytes(_described(about))
            reached("ready")
            replace_journal(data_dir, now_ms=now_ms, reached=reached)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _origin(journal: Path) -> str:
    """Return of which backup these books are, in words; nothing when of none."""
    try:
        about = _read_about((journal / _ABOUT).read_bytes())
    except (OSError, KeyError):
        return ""
    made_at = datetime.fromtimestamp(about.made_at_ms / _MS_PER_S, UTC)
    return f", restored from the backup of {made_at:%Y-%m-%d %H:%M:%S} UTC"


async def _write_journal(url: str, about: Backup) -> None:
    """Let a server that has read a snapshot keep a journal from now on, and wait for it."""
    async with Store(url, timeout_ms=60_000) as store:
        keys = await store.command("DBSIZE")
        # What has expired meanwhile is not there any more; nothing else may be missing.
        if not isinstance(keys, int) or (about.keys and not keys):
            raise BackupError("The server read nothing of the backup; see valkey.log.")
        await store.command("CONFIG", "SET", "appendonly", "yes")
        if (await _until_done(store))["aof_last_bgrewrite_status"] != "ok":
            raise BackupError(_NOT_WRITTEN)


async def _save(store: Store) -> None:
    """Let the server write its snapshot. Raises BackupError, and StoreUnavailable."""
    # One that a killed backup has asked for is older than what is to be in this one.
    await _until_done(store)
    await store.command("BGSAVE")
    if (await _until_done(store))["rdb_last_bgsave_status"] != "ok":
        raise BackupError(_NOT_WRITTEN)


async def _until_done(store: Store) -> Any:
    """Wait until the server writes neither a snapshot nor a journal; return what it tells then."""
    while True:
        told: Any = await store.command("INFO", "persistence")
        if not any(map(told.get, _BUSY)):
            return told
        await asyncio.sleep(_LOOK_EVERY_S)


def _pack(about: Backup, snapshot: Path, file: Path, reached: Reached) -> None:
    described = _described(about)
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)  # of a backup that was killed
    try:
        with _created(partial) as out:
            with tarfile.open(fileobj=out, mode="w") as tar:
                entry = tarfile.TarInfo(_ABOUT)
                entry.size = len(described)
                tar.addfile(entry, io.BytesIO(described))
                tar.add(snapshot, arcname=_SNAPSHOT)
            out.flush()
            os.fsync(out.fileno())
        reached("packed")
        partial.replace(file)
    except BaseException:  # also when interrupted: half a backup must not be taken for one
        partial.unlink(missing_ok=True)
        raise


def _created(path: Path) -> BinaryIO:
    """Return a new file that only its owner may read. Raises OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _unpack(file: Path, snapshot: Path) -> None:
    with _opened(file) as tar:
        member = tar.extractfile(_SNAPSHOT)
        if member is None:
            raise BackupError(f"{file} is no backup of a gateway.")
        with _created(snapshot) as out:
            shutil.copyfileobj(member, out, _CHUNK_BYTES)


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, mode="r:") as tar:
            yield tar
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise BackupError(f"{file} is no backup of a gateway.") from error
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}.") from error


def _about(tar: tarfile.TarFile) -> Backup:
    member = tar.extractfile(_ABOUT)
    return _read_about(b"" if member is None else member.read())


def _described(about: Backup) -> bytes:
    return orjson.dumps(asdict(about), option=orjson.OPT_INDENT_2)


def _read_about(text: bytes) -> Backup:
    """Return what a backup says of itself. Raises BackupError, and KeyError when it is none."""
    try:
        fields: dict[str, Any] = orjson.loads(text)
        if fields["format"] != FORMAT:
            raise BackupError("The backup was made by a newer release; restore it with that one.")
        return Backup(**{name: fields[name] for name in Backup.__slots__})
    except (orjson.JSONDecodeError, TypeError) as error:
        raise KeyError(_ABOUT) from error


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # reads only
