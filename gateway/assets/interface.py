"""Where pictures are kept, and how they get there.

A key is derived from the render's id, so that copying the same result twice is harmless and
nothing needs to be remembered about it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.images import Output, PictureFormat, StoredPicture


class AssetUnavailableError(Exception):
    """The store did not take or give the picture now; trying again may help."""


class AssetFullError(AssetUnavailableError):
    """The store has no room for the picture."""


class LinkUnavailableError(Exception):
    """The result link did not answer properly now; trying again may help."""


class PictureCutError(LinkUnavailableError):
    """The link gave half of a picture once more, and no more of it than before."""


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


#: Tells by its key for how many milliseconds an object is kept.
KeepOf = Callable[[str], int]


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

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, those that are not there included. Raises AssetUnavailableError."""
        ...

    async def sweep(self, now_ms: int, keep_ms: KeepOf) -> int:
        """Remove what was kept for long enough, and what killed writers left; return how many.

        Raises AssetUnavailableError; what was removed until then stays removed.
        """
        ...

    async def ping(self) -> None:
        """Return when the store answers; AssetUnavailableError when it does not."""
        ...


@dataclass(frozen=True, slots=True)
class Ingested:
    """A picture that was copied, and how long its link and the store each were waited for.

    `cut_bytes` is None for a whole one, else how much the link gave of one that is cut off.
    """

    picture: StoredPicture
    fetch_s: float
    store_s: float
    cut_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class OpenPicture:
    """A picture that begins to be read: its format, its size if that is known, and its bytes.

    Whoever stops reading early closes `pieces`.
    """

    format: PictureFormat
    size_bytes: int | None
    pieces: AsyncGenerator[bytes]


class PictureFetcher(Protocol):
    """Fetches the pictures behind result links."""

    async def ingest(
        self, link: str, key: str, output: Output, *, beats_bytes: int = -1
    ) -> Ingested:
        """Fetch the picture behind `link`, check it, and store it under `key` as `output` asks.

        One that meets it is stored as it came, to the byte. One that is cut off is stored, too,
        when there is more of it than `beats_bytes`, and told as such.

        Raises LinkUnavailableError or AssetUnavailableError (try again; PictureCutError is among
        the former), LinkDeadError (do not).
        """
        ...

    async def open(self, link: str, output: Output, *, chunk_bytes: int) -> OpenPicture:
        """Fetch the picture behind `link` as `output` asks, for whoever waits for it.

        Pieces are as `AssetStore.read` gives them. Raises LinkUnavailableError, LinkDeadError, and
        AssetUnavailableError where one has to be converted and there is no room; so do the pieces.
        """
        ...
