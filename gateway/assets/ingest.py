"""Pictures of result links: copied into the asset store, or passed on when it takes none.

Result links come from an upstream's answer, so they are not trusted: only hosts that the
configuration names are asked, no redirect is followed, no key is sent, and what does not start
like a picture is not taken.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import structlog

from gateway.assets.chunks import only, regrouped
from gateway.assets.convert import Converter, UnconvertibleError
from gateway.assets.download import Download, FetchSettings
from gateway.assets.interface import AssetStore, Ingested, OpenPicture, PictureCutError
from gateway.assets.spool import Spool, SpooledFile
from gateway.assets.wholeness import Wholeness
from gateway.domain.clock import Clock
from gateway.domain.images import Output, PictureFormat, StoredPicture

log = structlog.get_logger(__name__)


class HttpPictureFetcher:
    """Fetches over HTTP; implements `PictureFetcher`. What it works with is the caller's.

    Pictures that are converted for whoever waits are in files of `spool_dir` until they are read:
    how fast that is, is up to the reader.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: AssetStore,
        converter: Converter,
        settings: FetchSettings,
        clock: Clock,
        *,
        spool_dir: Path,
    ) -> None:
        self._client = client
        self._spool_dir = spool_dir
        self._clock = clock
        self._store = store
        self._converter = converter
        self._settings = settings

    async def ingest(
        self, link: str, key: str, output: Output, *, beats_bytes: int = -1
    ) -> Ingested:
        """Fetch the picture behind `link`, check it, and store it under `key` as `output` asks.

        One that meets it is stored as it came, to the byte; so is one that cannot be converted,
        because it is paid for, and one that is cut off, when there is more of it than
        `beats_bytes`. A link that breaks off is asked for the rest. Raises LinkUnavailableError
        (PictureCutError among them) or AssetUnavailableError (try again), LinkDeadError (do not).
        """
        begun_s = self._clock.monotonic_s()
        download = await Download.open(self._client, link, self._settings, self._clock)
        wholeness = Wholeness(download.format)
        async with (
            aclosing(download),
            aclosing(download.chunks()) as arriving,
            aclosing(_beating(beats_bytes, wholeness, arriving)) as chunks,
        ):
            putting_s, waited_s = self._clock.monotonic_s(), download.waited_s
            if output.is_met_by(download.format):
                becomes = download.format
                size_bytes = await self._store.put(key, chunks)
            else:
                # The place is kept until what was made in it is out of memory.
                async with self._converter.place():
                    content, becomes = await self._converted(chunks, download.format, output)
                    size_bytes = await self._store.put(key, only(content))
            store_s = self._clock.monotonic_s() - putting_s - (download.waited_s - waited_s)
        return Ingested(
            StoredPicture(key=key, size_bytes=size_bytes, format=becomes),
            fetch_s=self._clock.monotonic_s() - begun_s - store_s,
            store_s=store_s,
            cut_bytes=None if wholeness.is_whole else wholeness.seen_bytes,
        )

    async def open(self, link: str, output: Output, *, chunk_bytes: int) -> OpenPicture:
        """Fetch the picture behind `link` as `output` asks, for whoever waits for it.

        Pieces are as `AssetStore.read` gives them. Raises LinkUnavailableError, LinkDeadError, and
        AssetUnavailableError where one cannot be spooled; so do the pieces.
        """
        download = await Download.open(self._client, link, self._settings, self._clock)
        if output.is_met_by(download.format):
            pieces = regrouped(_until_closed(download), chunk_bytes)
            return OpenPicture(download.format, download.size_bytes, pieces)
        async with (
            aclosing(download),
            aclosing(download.chunks()) as chunks,
            self._converter.place(),
        ):
            content, becomes = await self._converted(chunks, download.format, output)
            spool = Spool(self._spool_dir)
            try:
                file = spool.open()
                await file.write(content)
                await file.finish()
            except BaseException:  # also when cancelled: no file is left open
                spool.close()
                raise
        return OpenPicture(becomes, file.size_bytes, _spooled(spool, file, chunk_bytes))

    async def _converted(
        self, chunks: AsyncIterator[bytes], made: PictureFormat, output: Output
    ) -> tuple[bytes, PictureFormat]:
        """Return a picture in the format that is asked for, or as it came, and its format."""
        whole = io.BytesIO()
        async for chunk in chunks:
            whole.write(chunk)
        try:
            return await self._converter.convert(whole.getvalue(), output), output.format
        except UnconvertibleError as error:
            log.warning("not_converted", action="not_converted", reason=str(error))
            return whole.getvalue(), made


async def _beating(
    beats_bytes: int, wholeness: Wholeness, arriving: AsyncIterator[bytes]
) -> AsyncGenerator[bytes]:
    """Pass a picture on. Raises PictureCutError at its end when it is cut off and no more."""
    async with aclosing(wholeness.watched(arriving)) as chunks:
        async for chunk in chunks:
            yield chunk
    if not wholeness.is_whole and wholeness.seen_bytes <= beats_bytes:
        raise PictureCutError(f"cut off after {wholeness.seen_bytes} bytes")


async def _spooled(spool: Spool, file: SpooledFile, chunk_bytes: int) -> AsyncGenerator[bytes]:
    with spool:
        async with aclosing(regrouped(file.chunks(), chunk_bytes)) as pieces:
            async for piece in pieces:
                yield piece


async def _until_closed(download: Download) -> AsyncGenerator[bytes, None]:
    async with aclosing(download), aclosing(download.chunks()) as chunks:
        async for chunk in chunks:
            yield chunk
