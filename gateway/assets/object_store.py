"""Pictures in an object store, through obstore: a folder, memory, S3, GCS or Azure."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from gateway.assets.chunks import regrouped
from gateway.assets.folder import (
    free_bytes,
    remove_abandoned,
    remove_directories,
    remove_unfinished,
)
from gateway.assets.interface import (
    AssetFullError,
    AssetUnavailableError,
    ByteSpan,
    KeepOf,
    StoredObject,
)
from gateway.assets.place import AssetPlace, open_place

#: Bytes written at once; with WRITERS_AT_ONCE this is all of an object that is in memory. S3 takes
#: no smaller part than FAR_PART_BYTES, and what is smaller as a whole is one request there.
PART_BYTES = 128 * 1024
FAR_PART_BYTES = 5 * 1024 * 1024
WRITERS_AT_ONCE = 2
#: Seconds that a store may take to answer a ping.
PING_TIMEOUT_S = 5.0
#: Hex digits of an object's version: two are never the same by accident.
VERSION_DIGITS = 32

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_MAX_KEY_CHARS = 200
#: Objects looked at together while old ones are removed.
LIST_CHUNK = 500
#: What is the store's own begins with a dot: keys begin with a letter or a digit.
_OWN, _PING_KEY = ".", ".ping"
#: Seconds for which a write that went well shows that the store works.
PROOF_S = 10.0

#: ENOSPC and EDQUOT as obstore tells them.
_NO_ROOM = re.compile(r"\(os error (28|122)\)")

#: Called once for each call that failed, with what it was to do and why it did not.
Observe = Callable[[str, str], None]
FULL, UNAVAILABLE = "full", "unavailable"


def _nobody(_verb: str, _reason: str) -> None:
    """Tell nobody."""


class ObjectAssetStore:
    """Keeps pictures in an object store; implements `AssetStore`.

    A key is one or more segments of letters, digits, ``.``, ``_`` and ``-``, separated by ``/``;
    ValueError for any other.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        part_bytes: int = PART_BYTES,
        folder: Path | None = None,
        min_free_bytes: int = 0,
        observe: Observe = _nobody,
    ) -> None:
        self._store = store
        self._part_bytes = part_bytes
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._observe = observe
        self._is_full = False
        self._written_s: float | None = None

    @classmethod
    def open(
        cls, place: AssetPlace, *, min_free_bytes: int = 0, observe: Observe = _nobody
    ) -> Self:
        """Return the store at a place; see `open_place`.

        In a folder nothing is written that would leave less than `min_free_bytes` of room: the
        ledger may be on the same disk. `observe` hears of each call that failed.
        """
        far = place.folder is None and place.url != "memory:"
        return cls(
            open_place(place),
            part_bytes=FAR_PART_BYTES if far else PART_BYTES,
            folder=place.folder,
            min_free_bytes=min_free_bytes,
            observe=observe,
        )

    @property
    def free_bytes(self) -> int | None:
        """The room that is left; None where nobody knows."""
        if self._folder is None:
            return None
        try:
            return free_bytes(self._folder)
        except OSError:
            return None

    @property
    def is_full(self) -> bool:
        """Whether it takes no pictures for lack of room, as far as it was tried or can be seen."""
        free = self.free_bytes
        return self._is_full or (free is not None and free < self._min_free_bytes)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a whole object from a stream and return its bytes; visible only when complete.

        Raises AssetUnavailableError, AssetFullError among them; what `chunks` raises passes through
        and nothing is stored.
        """
        self._check_room()
        writer = obstore.open_writer_async(
            self._store,
            _checked(key),
            buffer_size=self._part_bytes,
            max_concurrency=WRITERS_AT_ONCE,
        )
        size_bytes = 0
        try:
            async with aclosing(regrouped(chunks, PART_BYTES)) as parts:
                async for part in parts:
                    with self._telling_unavailable("write"):
                        await writer.write(part)
                    size_bytes += len(part)
            with self._telling_unavailable("write"):
                await writer.close()
        finally:
            # Only close() publishes; a writer that is dropped unclosed takes its parts with it.
            # A traceback would keep it, and them, alive.
            del writer
        self._has_written()
        if self._folder is not None:
            with self._telling_unavailable("write"):
                remove_unfinished(self._folder, key)
        return size_bytes

    def _check_room(self) -> None:
        free = self.free_bytes
        if free is not None and free < self._min_free_bytes:
            self._is_full = True
            self._observe("write", FULL)
            raise AssetFullError("cannot write: too little room is left")

    def _has_written(self) -> None:
        self._is_full = False
        self._written_s = asyncio.get_running_loop().time()

    async def find(self, key: str) -> StoredObject | None:
        """Return what is known of an object, None when there is none by this key.

        Raises AssetUnavailableError.
        """
        with self._telling_unavailable("find"):
            try:
                found = await obstore.head_async(self._store, _checked(key))
            except FileNotFoundError:
                return None
        # Not every store names versions; and what they call one may tell of their insides.
        told = f"{found['e_tag']} {found['size']} {found['last_modified'].timestamp()}"
        version = hashlib.sha256(told.encode()).hexdigest()[:VERSION_DIGITS]
        return StoredObject(found["size"], version)

    async def read(
        self, key: str, *, chunk_bytes: int, part: ByteSpan | None = None
    ) -> AsyncGenerator[bytes]:
        """Stream an object, or a part of it, in pieces of exactly `chunk_bytes`.

        The last may be shorter. Raises AssetUnavailableError.
        """
        async with (
            aclosing(self._stream(_checked(key), chunk_bytes, part)) as stream,
            aclosing(regrouped(stream, chunk_bytes)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, those that are not there included. Raises AssetUnavailableError."""
        with self._telling_unavailable("remove"):
            for key in keys:
                with suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, _checked(key))
                if self._folder is not None:
                    remove_unfinished(self._folder, key)
                    remove_directories(self._folder, key)

    async def sweep(self, now_ms: int, keep_ms: KeepOf) -> int:
        """Remove what was kept for long enough, and what killed writers left; return how many.

        Raises AssetUnavailableError; what was removed until then stays removed.
        """
        removed = 0
        if self._folder is not None:
            removed += await asyncio.to_thread(remove_abandoned, self._folder, now_ms)
        with self._telling_unavailable("remove"):
            async for batch in obstore.list(self._store, chunk_size=LIST_CHUNK):
                old = [
                    entry["path"]
                    for entry in batch
                    if not entry["path"].startswith(_OWN)
                    and entry["last_modified"].timestamp() * 1000 < now_ms - keep_ms(entry["path"])
                ]
                if old:
                    await obstore.delete_async(self._store, old)
                removed += len(old)
        return removed

    async def ping(self) -> None:
        """Return when the store takes a write; AssetUnavailableError when it does not.

        What was written a moment ago is proof enough. A store without room is no broken one.
        """
        now_s = asyncio.get_running_loop().time()
        if self._written_s is not None and now_s - self._written_s < PROOF_S:
            return
        try:
            with self._telling_unavailable("write"):
                async with asyncio.timeout(PING_TIMEOUT_S):
                    await obstore.put_async(self._store, _PING_KEY, b"")
        except AssetFullError:
            self._is_full = True
        else:
            self._written_s = now_s

    @contextmanager
    def _telling_unavailable(self, verb: str) -> Iterator[None]:
        # obstore raises built-in OSErrors beside its own; a timeout is one, too.
        try:
            yield
        except (BaseError, OSError) as error:
            # The class only: messages hold paths, and those of remote stores hold signed URLs.
            reason = f"cannot {verb}: {type(error).__name__}"
            if _NO_ROOM.search(str(error)):
                self._is_full = True
                self._observe(verb, FULL)
                raise AssetFullError(reason) from error
            self._observe(verb, UNAVAILABLE)
            raise AssetUnavailableError(reason) from error

    async def _stream(
        self, key: str, chunk_bytes: int, part: ByteSpan | None
    ) -> AsyncGenerator[bytes, None]:
        with self._telling_unavailable("read"):
            found = await obstore.get_async(
                self._store, key, options={"range": (part.first, part.end)} if part else {}
            )
            async for chunk in found.stream(min_chunk_size=chunk_bytes):
                yield chunk


def _checked(key: str) -> str:
    if len(key) > _MAX_KEY_CHARS or _KEY.fullmatch(key) is None:
        raise ValueError("an asset key is made of letters, digits, '.', '_', '-' and '/'")
    return key
