"""Bytes of a request on disk, for as long as the request lasts.

The files have no name: the kernel frees them with their last handle, so that nothing is left
behind by a request that breaks off or by a process that is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Self

from gateway.assets.interface import AssetUnavailableError

#: Bytes of a file that are in memory at once; disks are written to and read from in such pieces.
PIECE_BYTES = 512 * 1024


class SpooledFile:
    """One file: written once from its beginning to its end, then read as often as wanted."""

    def __init__(self, file: IO[bytes], *, place: str = "") -> None:
        self._file = file
        #: Tells its spool from others.
        self.place = place
        self._pending = bytearray()
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """How much was written so far."""
        return self._size_bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of what was written, in hexadecimal; after `finish`."""
        return self._digest.hexdigest()

    async def write(self, content: bytes) -> None:
        """Add bytes. Raises AssetUnavailableError."""
        self._size_bytes += len(content)
        self._pending += content
        if len(self._pending) >= PIECE_BYTES:
            await self.finish()

    async def finish(self) -> None:
        """Bring to disk what was written. Raises AssetUnavailableError."""
        if self._pending:
            piece, self._pending = bytes(self._pending), bytearray()
            await asyncio.to_thread(self._store, piece)

    def _store(self, piece: bytes) -> None:
        self._digest.update(piece)
        with _telling_unavailable():
            self._file.write(piece)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Read it from its beginning, one reader at a time. Raises AssetUnavailableError."""
        offset = 0
        while piece := await asyncio.to_thread(self._read, offset):
            offset += len(piece)
            yield piece

    def _read(self, offset: int) -> bytes:
        with _telling_unavailable():
            self._file.seek(offset)
            return self._file.read(PIECE_BYTES)

    def reader(self) -> IO[bytes]:
        """Return the file itself at its beginning, for readers that block."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Free it. May be repeated."""
        self._file.close()


class Spool:
    """The files of one request; closes them with itself. `place` tells it from other spools."""

    def __init__(self, folder: Path, *, place: str = "") -> None:
        self._folder = folder
        self._place = place
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free its files now. May be repeated."""
        self._held.close()

    def open(self) -> SpooledFile:
        """Begin a file. Raises AssetUnavailableError."""
        with _telling_unavailable():
            # Unbuffered: pieces are large already.
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by its spool
        spooled = SpooledFile(file, place=self._place)
        self._held.callback(spooled.close)
        return spooled


def open_spool_folder(folder: Path) -> Path:
    """Make the folder that spools write to, for its owner only.

    Raises AssetUnavailableError, which says what an operator has to change.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = f"references.spool_dir: cannot make {folder}: {error.strerror}"
        raise AssetUnavailableError(reason) from error
    return folder


@contextmanager
def _telling_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AssetUnavailableError(f"cannot spool: {type(error).__name__}") from error
