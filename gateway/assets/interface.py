"""Where pictures are kept, and how they get there.

A key is derived from the render's id, so that copying the same result twice is harmless and
nothing needs to be remembered about it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.images import Output, StoredPicture


class AssetUnavailableError(Exception):
    """The store did not take or give the picture now; trying again may help."""


class LinkUnavailableError(Exception):
    """The result link did not answer properly now; trying again may help."""


class LinkDeadError(Exception):
    """The result cannot be had from this link, however often it is tried."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the store; `version` is another one whenever its bytes were written anew."""

    size_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """The bytes of an object from `first` on and before `end`; there is at least one."""

    first: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many they are."""
        return self.end - self.first


class AssetStore(Protocol):
    """Keeps pictures by key."""

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a whole object from a stream and return its bytes; visible only when complete.

        Raises AssetUnavailableError; what `chunks` raises passes through and nothing is stored.
        """
        ...

    async def find(self, key: str) -> StoredObject | None:
        """Return what is known of an object, None when there is none by this key.

        Raises AssetUnavailableError.
        """
        ...

    def read(
        self, key: str, *, chunk_bytes: int, part: ByteSpan | None = None
    ) -> AsyncGenerator[bytes]:
        """Stream an object, or a part of it, in pieces of exactly `chunk_bytes`.

        The last may be shorter. Whoever stops reading early closes it. Raises
        AssetUnavailableError.
        """
        ...

    async def remove_before(self, moment_ms: int) -> int:
        """Remove what was written before that Unix time in ms; return how many objects went.

        Raises AssetUnavailableError; what was removed until then stays removed.
        """
        ...

    async def ping(self) -> None:
        """Return when the store answers; AssetUnavailableError when it does not."""
        ...


@dataclass(frozen=True, slots=True)
class Ingested:
    """A picture that was copied, and how long its link and the store each were waited for."""

    picture: StoredPicture
    fetch_s: float
    store_s: float


class PictureFetcher(Protocol):
    """Copies a result link into the store."""

    async def ingest(self, link: str, key: str, output: Output) -> Ingested:
        """Fetch the picture behind `link`, check it, and store it under `key` as `output` asks.

        One that meets it is stored as it came, to the byte.

        Raises LinkUnavailableError or AssetUnavailableError (try again), LinkDeadError (do not).
        """
        ...
