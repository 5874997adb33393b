"""Pictures in an object store, through obstore: a folder, memory, S3, GCS or Azure."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from gateway.assets.interface import AssetUnavailableError, ByteSpan, StoredObject
from gateway.assets.place import AssetPlace, open_place

#: Bytes written at once; with WRITERS_AT_ONCE this is all of an object that is in memory. S3 takes
#: no smaller part than FAR_PART_BYTES, and what is smaller as a whole is one request there.
PART_BYTES = 1024 * 1024
FAR_PART_BYTES = 5 * PART_BYTES
WRITERS_AT_ONCE = 2
#: Seconds that a store may take to answer a ping.
PING_TIMEOUT_S = 5.0
#: Hex digits of an object's version: two are never the same by accident.
VERSION_DIGITS = 32

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_MAX_KEY_CHARS = 200
#: Cannot collide with a picture: keys start with a letter or a digit.
#: Objects looked at together while old ones are removed.
LIST_CHUNK = 500
_PING_KEY = ".ping"


class ObjectAssetStore:
    """Keeps pictures in an object store; implements `AssetStore`.

    A key is one or more segments of letters, digits, ``.``, ``_`` and ``-``, separated by ``/``;
    ValueError for any other.
    """

    def __init__(self, store: ObjectStore, *, part_bytes: int = PART_BYTES) -> None:
        self._store = store
        self._part_bytes = part_bytes

    @classmethod
    def open(cls, place: AssetPlace) -> Self:
        """Return the store at a place; see `open_place`."""
        far = place.folder is None and place.url != "memory:"
        return cls(open_place(place), part_bytes=FAR_PART_BYTES if far else PART_BYTES)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a whole object from a stream and return its bytes; visible only when complete.

        Raises AssetUnavailableError; what `chunks` raises passes through and nothing is stored.
        """
        writer = obstore.open_writer_async(
            self._store,
            _checked(key),
            buffer_size=self._part_bytes,
            max_concurrency=WRITERS_AT_ONCE,
        )
        size_bytes = 0
        try:
            async with aclosing(_regroup(chunks, PART_BYTES)) as parts:
                async for part in parts:
                    with _telling_unavailable("write"):
                        await writer.write(part)
                    size_bytes += len(part)
            with _telling_unavailable("write"):
                await writer.close()
        finally:
            # Only close() publishes; a writer that is dropped unclosed takes its parts with it.
            # A traceback would keep it, and them, alive.
            del writer
        return size_bytes

    async def find(self, key: str) -> StoredObject | None:
        """Return what is known of an object, None when there is none by this key.

        Raises AssetUnavailableError.
        """
        with _telling_unavailable("find"):
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
            aclosing(_regroup(stream, chunk_bytes)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def remove_before(self, moment_ms: int) -> int:
        """Remove what was written before that Unix time in ms; return how many objects went."""
        removed = 0
        with _telling_unavailable("remove"):
            async for batch in obstore.list(self._store, chunk_size=LIST_CHUNK):
                old = [
                    entry["path"]
                    for entry in batch
                    if entry["last_modified"].timestamp() * 1000 < moment_ms
                    and entry["path"] != _PING_KEY
                ]
                if old:
                    await obstore.delete_async(self._store, old)
                removed += len(old)
        return removed

    async def ping(self) -> None:
        """Return when the store takes a write; AssetUnavailableError when it does not."""
        with _telling_unavailable("write"):
            async with asyncio.timeout(PING_TIMEOUT_S):
                await obstore.put_async(self._store, _PING_KEY, b"")

    async def _stream(
        self, key: str, chunk_bytes: int, part: ByteSpan | None
    ) -> AsyncGenerator[bytes, None]:
        with _telling_unavailable("read"):
            found = await obstore.get_async(
                self._store, key, options={"range": (part.first, part.end)} if part else {}
            )
            async for chunk in found.stream(min_chunk_size=chunk_bytes):
                yield chunk


def _checked(key: str) -> str:
    if len(key) > _MAX_KEY_CHARS or _KEY.fullmatch(key) is None:
        raise ValueError("an asset key is made of letters, digits, '.', '_', '-' and '/'")
    return key


@contextmanager
def _telling_unavailable(verb: str) -> Iterator[None]:
    # obstore raises built-in OSErrors beside its own; a timeout is one, too.
    try:
        yield
    except (BaseError, OSError) as error:
        # The class only: messages hold paths, and those of remote stores hold signed URLs.
        raise AssetUnavailableError(f"cannot {verb}: {type(error).__name__}") from error


async def _regroup(chunks: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """Yield the same bytes in pieces of exactly `size`, the last one perhaps shorter."""
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        while len(pending) >= size:
            piece = bytes(pending[:size])
            del pending[:size]
            yield piece
    if pending:
        yield bytes(pending)
