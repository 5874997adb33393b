"""Pictures that a call brings along: fetched, looked at, and kept where all replicas find them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.assets.inspection import (
    MAX_EDGE,
    MAX_PIXELS,
    Header,
    NotAPictureError,
    TooManyPixelsError,
    UnknownFormatError,
    inspect,
)
from gateway.assets.interface import AssetStore, AssetUnavailableError
from gateway.assets.remote import CannotFetchError, RemotePictures, too_large
from gateway.assets.spool import PIECE_BYTES, Spool, SpooledFile
from gateway.domain.catalog import Model
from gateway.domain.errors import BadReference, InvalidRequest, StorageUnavailable
from gateway.domain.ids import ID_BYTES, TeamId
from gateway.domain.images import KeptReference, PictureFormat
from gateway.domain.images import References as WhatItIsMadeFrom
from gateway.domain.references import MAX_REFERENCE_BYTES, reference_key
from gateway.service.links import Links

#: Types of files that OpenAI takes, by what they are said to be.
DECLARED_TYPES = tuple(each.media_type for each in PictureFormat)


@dataclass(frozen=True, slots=True)
class Brought:
    """A picture as a call brought it: its bytes, what its header says, and the reference to it."""

    file: SpooledFile
    header: Header
    url: str = ""

    @property
    def reference(self) -> KeptReference:
        """What the journal knows it by."""
        file = self.file
        return KeptReference(
            file.digest, self.header.format, file.size_bytes, self.url, place=file.place
        )


class References:
    """Takes in references of calls.

    `links` are those to pictures of this server. `passes_links` tells of a model whether links to
    its references are the upstream's to fetch. `start` runs something in the background.
    """

    def __init__(
        self,
        assets: AssetStore,
        remote: RemotePictures,
        links: Links,
        *,
        spool_dir: Path,
        passes_links: Callable[[Model], bool],
        random_bytes: Callable[[int], bytes],
        start: Callable[[str, Coroutine[object, object, None]], None],
    ) -> None:
        self._random_bytes = random_bytes
        self._start = start
        self._assets = assets
        self._remote = remote
        self._links = links
        self._spool_dir = spool_dir
        self._passes_links = passes_links

    def spool(self) -> Spool:
        """Return a place for the files of one call, which goes with it."""
        return Spool(self._spool_dir, place=self._random_bytes(ID_BYTES).hex())

    def passes_links(self, model: Model) -> bool:
        """Tell whether links are handed on as they are."""
        return self._passes_links(model)

    def check_link(self, url: str, *, param: str) -> None:
        """Raise BadReference for a link that leads where nothing is fetched from."""
        try:
            self._remote.check(url)
        except CannotFetchError as error:
            raise _unfetched(error, param) from None

    async def kept_here(self, url: str, spool: Spool, *, param: str) -> SpooledFile | None:
        """Return the picture behind a link to this server, which opens for whoever has the link.

        None for every other link. Raises BadReference when the picture is gone, StoreUnavailable,
        AssetUnavailableError.
        """
        link = await self._links.opened_at(url)
        if link is None:
            return None
        found = await self._assets.find(link.key) if link.left_s > 0 else None
        if found is None:
            raise _unfetched(CannotFetchError("the picture is no longer kept here"), param)
        if found.size_bytes > MAX_REFERENCE_BYTES:
            raise _unfetched(too_large(MAX_REFERENCE_BYTES), param)
        file = spool.open()
        async with aclosing(self._assets.read(link.key, chunk_bytes=PIECE_BYTES)) as pieces:
            async for piece in pieces:
                await file.write(piece)
        await file.finish()
        return file

    async def fetch(self, url: str, spool: Spool, *, param: str) -> SpooledFile:
        """Return what is behind a link. Raises BadReference, AssetUnavailableError."""
        try:
            return await self._remote.fetch(url, spool)
        except CannotFetchError as error:
            raise _unfetched(error, param) from None

    async def looked_at(self, file: SpooledFile, *, param: str, declared_type: str = "") -> Brought:
        """Return a picture with what its header says. Raises BadReference and InvalidRequest."""
        try:
            return Brought(file, await inspect(file))
        except UnknownFormatError:
            # Bytes that are no picture are not of a picture's type, whatever they are said to be.
            is_said = declared_type in DECLARED_TYPES
            told = "" if is_said else declared_type
            raise unsupported_type(param, told or "application/octet-stream") from None
        except NotAPictureError:
            raise BadReference(
                f"Invalid image file '{param}': it is not a picture that can be read, or it is"
                " broken. Supported are png, jpeg and webp.",
                param=param,
            ) from None
        except TooManyPixelsError:
            raise BadReference(
                f"Invalid image file '{param}': it has more than {MAX_PIXELS} pixels, or an edge"
                f" above {MAX_EDGE}.",
                param=param,
            ) from None

    async def keep(self, team: TeamId, brought: Sequence[Brought]) -> None:
        """Put the pictures of a call where every replica finds them, for its task alone.

        They go with the task (`Engine`), or are discarded. Raises StorageUnavailable.
        """
        for each in {one.file.digest: one for one in brought}.values():
            key = reference_key(team, each.reference)
            try:
                await self._assets.put(key, each.file.chunks())
            except AssetUnavailableError as error:
                raise StorageUnavailable from error

    def discard(self, team: TeamId, references: WhatItIsMadeFrom) -> None:
        """Remove, in a moment, what was kept for a call that became no task; else a sweep does."""
        keys = [reference_key(team, each) for each in references.kept]
        if keys:
            self._start("discard_references", self._remove(keys))

    async def _remove(self, keys: Sequence[str]) -> None:
        with suppress(AssetUnavailableError):
            await self._assets.remove(keys)


def unsupported_type(param: str, declared_type: str) -> InvalidRequest:
    """Return OpenAI's refusal of a file that is no picture (protocols/openai_images.md §3.1)."""
    return InvalidRequest(
        f"Invalid file '{param}': unsupported mimetype ('{declared_type[:100]}'). Supported file"
        " formats are 'image/jpeg', 'image/png', and 'image/webp'.",
        param=param,
        code="unsupported_file_mimetype",
    )


def _unfetched(error: CannotFetchError, param: str) -> BadReference:
    return BadReference(f"The image at '{param}' could not be fetched: {error}.", param=param)
