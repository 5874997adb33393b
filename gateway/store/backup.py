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
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from gateway.store.client import Store
from gateway.store.embedded import EmbeddedServer

#: Raised when a file of this kind is read that a newer release has written otherwise.
FORMAT = 1

_ABOUT, _SNAPSHOT = "backup.json", "store.rdb"
#: What the server calls its snapshot, and the folder of its journal, inside its directory.
_SERVER_SNAPSHOT, _JOURNAL = "dump.rdb", "appendonlydir"
_LOOK_EVERY_S = 0.05
_CHUNK_BYTES = 1 << 20


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
    store: Store, data_dir: Path, file: Path, *, now_ms: int, version: str
) -> Backup:
    """Write what the server of `data_dir` holds now into a file, which only its owner may read.

    The file appears under its name when it is whole and on the disk. Raises BackupError, OSError,
    and StoreUnavailable.
    """
    # Two at once would take each other's snapshot.
    snapshot = data_dir / _SERVER_SNAPSHOT
    try:
        await store.command("BGSAVE")
        await _until_done(store, "rdb_bgsave_in_progress", "rdb_last_bgsave_status")
        keys = await store.command("DBSIZE")
        about = Backup(
            made_at_ms=now_ms,
            gateway=version,
            keys=keys if isinstance(keys, int) else 0,
            bytes=snapshot.stat().st_size,
            sha256=await asyncio.to_thread(_digest_of, snapshot),
        )
        await asyncio.to_thread(_pack, about, snapshot, file)
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


async def restore_backup(file: Path, data_dir: Path, *, replace_at_ms: int | None) -> Backup:
    """Make a backup the contents of `data_dir`, whose server must not run.

    A journal that is there already is refused, or put aside under a name with `replace_at_ms`.
    Raises BackupError, OSError, and what starting a server raises;
    what was there is then as it was.
    """
    about = await asyncio.to_thread(read_backup, file)
    change = _Change(file, data_dir, replace_at_ms)
    server = EmbeddedServer(data_dir, from_snapshot=True)
    try:
        await server.start(around=change)
        await _write_journal(server.url, about)
        change.is_done = True
    finally:
        await server.stop()
    return about


class _Change:
    """Puts a snapshot where the server reads it, and what was there aside, or back."""

    def __init__(self, file: Path, data_dir: Path, replace_at_ms: int | None) -> None:
        self.is_done = False
        self._file = file
        self._snapshot = data_dir / _SERVER_SNAPSHOT
        self._journal = data_dir / _JOURNAL
        self._replaces = replace_at_ms is not None
        self._aside = data_dir / f"{_JOURNAL}.{replace_at_ms}"

    def __enter__(self) -> None:
        if self._journal.exists():
            if not self._replaces:
                raise BackupError(
                    f"{self._journal.parent} holds books already. With --replace they are put"
                    " aside."
                )
            self._journal.rename(self._aside)
        try:
            _unpack(self._file, self._snapshot)
        except BaseException:  # also when interrupted: the old books go back to their place
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._snapshot.unlink(missing_ok=True)
        if not self.is_done:
            shutil.rmtree(self._journal, ignore_errors=True)
            if self._aside.exists():
                self._aside.rename(self._journal)


async def _write_journal(url: str, about: Backup) -> None:
    """Let a server that has read a snapshot keep a journal from now on, and wait for it."""
    async with Store(url, timeout_ms=60_000) as store:
        keys = await store.command("DBSIZE")
        # What has expired meanwhile is not there any more; nothing else may be missing.
        if not isinstance(keys, int) or (about.keys and not keys):
            raise BackupError("The server read nothing of the backup; see valkey.log.")
        await store.command("CONFIG", "SET", "appendonly", "yes")
        await _until_done(store, "aof_rewrite_in_progress", "aof_last_bgrewrite_status")


async def _until_done(store: Store, flag: str, status: str) -> None:
    while True:
        # The client reads this one answer into names and values.
        told: Any = await store.command("INFO", "persistence")
        if not told[flag] and not told.get("aof_rewrite_scheduled"):
            break
        await asyncio.sleep(_LOOK_EVERY_S)
    if told[status] != "ok":
        raise BackupError("The server could not write: is its disk full? See valkey.log.")


def _pack(about: Backup, snapshot: Path, file: Path) -> None:
    described = orjson.dumps(asdict(about), option=orjson.OPT_INDENT_2)
    number, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(number, "wb") as out:
            with tarfile.open(fileobj=out, mode="w") as tar:
                entry = tarfile.TarInfo(_ABOUT)
                entry.size = len(described)
                tar.addfile(entry, io.BytesIO(described))
                tar.add(snapshot, arcname=_SNAPSHOT)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(file)
    except BaseException:  # also when interrupted: half a backup must not be taken for one
        Path(name).unlink(missing_ok=True)
        raise


def _unpack(file: Path, snapshot: Path) -> None:
    with _opened(file) as tar:
        member = tar.extractfile(_SNAPSHOT)
        if member is None:
            raise BackupError(f"{file} is no backup of a gateway.")
        with snapshot.open("wb") as out:
            snapshot.chmod(0o600)
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
    try:
        fields: dict[str, Any] = orjson.loads(b"" if member is None else member.read())
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
