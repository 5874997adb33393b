"""Copies a result link into the asset store: bounded, checked, never whole in memory.

Result links come from an upstream's answer, so they are not trusted: only hosts that the
configuration names are asked, no redirect is followed, no key is sent, and what does not start
like a picture is not stored.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus

import httpx
import structlog
from filetype.types import image

from gateway.assets.convert import Converter, UnconvertibleError
from gateway.assets.interface import (
    AssetStore,
    Ingested,
    LinkDeadError,
    LinkUnavailableError,
)
from gateway.domain.clock import Clock
from gateway.domain.images import Output, PictureFormat, StoredPicture
from gateway.network.transport import NeverSentError, NoAnswerError, let_go

log = structlog.get_logger(__name__)

#: Bytes that tell a picture's format.
_MAGIC_BYTES = 16

#: The formats we take, and who recognises them.
_MATCHERS = {
    PictureFormat.PNG: image.Png(),
    PictureFormat.JPEG: image.Jpeg(),
    PictureFormat.WEBP: image.Webp(),
}

#: Answers that may be another one next time, as every 5xx; any other status but 200 is final.
_PASSING_STATUSES = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Where pictures may come from and how large and slow they may be.

    `result_hosts` are exact host names, with ``:port`` where it is not the scheme's own.
    `allow_http` lets links without TLS through (a simulator on this machine).
    """

    result_hosts: frozenset[str]
    allow_http: bool = False
    max_result_bytes: int = 64 * 1024 * 1024
    total_timeout_s: float = 120.0
    idle_timeout_s: float = 20.0


class HttpPictureFetcher:
    """Fetches over HTTP; implements `PictureFetcher`. What it works with is the caller's."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        store: AssetStore,
        converter: Converter,
        settings: FetchSettings,
        clock: Clock,
    ) -> None:
        self._client = client
        self._clock = clock
        self._store = store
        self._converter = converter
        self._settings = settings
        self._hosts = frozenset(host.lower() for host in settings.result_hosts)

    async def ingest(self, link: str, key: str, output: Output) -> Ingested:
        """Fetch the picture behind `link`, check it, and store it under `key` as `output` asks.

        One that meets it is stored as it came, to the byte; so is one that cannot be converted,
        because it is paid for.

        Raises LinkUnavailableError or AssetUnavailableError (try again), LinkDeadError (do not).
        """
        url = self._checked(link)
        try:
            async with asyncio.timeout(self._settings.total_timeout_s):
                return await self._copy(url, key, output)
        except TimeoutError:
            raise LinkUnavailableError(
                f"not copied within {self._settings.total_timeout_s:g} s"
            ) from None
        except (NeverSentError, NoAnswerError) as error:
            raise LinkUnavailableError(str(error)) from error
        except httpx.RequestError as error:
            # httpx's own, of an answer that it could not read; its message may quote it.
            raise LinkUnavailableError(type(error).__name__) from None

    def _checked(self, link: str) -> httpx.URL:
        try:
            url = httpx.URL(link)
        except httpx.InvalidURL:
            raise LinkDeadError("the result link is not a URL") from None
        if url.scheme != "https" and not (url.scheme == "http" and self._settings.allow_http):
            raise LinkDeadError("the result link's scheme is not allowed")
        if url.userinfo:
            raise LinkDeadError("the result link carries credentials")
        # `netloc` is lower case and leaves the scheme's own port out.
        host = url.netloc.decode("ascii")
        if host not in self._hosts:
            raise LinkDeadError(f"result host is not allowed: {host[:100]!r}")
        return url

    async def _copy(self, url: httpx.URL, key: str, output: Output) -> Ingested:
        begun_s = self._clock.monotonic_s()
        request = self._client.build_request("GET", url)
        timeout = request.extensions["timeout"] | {"read": self._settings.idle_timeout_s}
        request.extensions["timeout"] = timeout
        response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            self._check_head(response)
            async with aclosing(self._bounded(response)) as body:
                head = await _read_head(body)
                recognised = recognise(head)
                source = _Timed(body, self._clock)
                putting_s = self._clock.monotonic_s()
                async with aclosing(_joined(head, source.chunks())) as chunks:
                    if output.is_met_by(recognised):
                        size_bytes = await self._store.put(key, chunks)
                        picture = StoredPicture(key, size_bytes, recognised)
                    else:
                        picture = await self._convert(chunks, key, recognised, output)
                store_s = self._clock.monotonic_s() - putting_s - source.waited_s
        finally:
            await let_go(response)
        return Ingested(
            picture,
            fetch_s=self._clock.monotonic_s() - begun_s - store_s,
            store_s=store_s,
        )

    async def _convert(
        self, chunks: AsyncIterator[bytes], key: str, made: PictureFormat, output: Output
    ) -> StoredPicture:
        """Store a picture in another format than it was made in."""
        async with self._converter.place():
            whole = io.BytesIO()
            async for chunk in chunks:
                whole.write(chunk)
            content, becomes = whole.getvalue(), output.format
            try:
                content = await self._converter.convert(content, output)
            except UnconvertibleError as error:
                becomes = made
                log.warning("not_converted", action="not_converted", key=key, reason=str(error))
            size_bytes = await self._store.put(key, _joined(content, _nothing()))
        return StoredPicture(key=key, size_bytes=size_bytes, format=becomes)

    def _check_head(self, response: httpx.Response) -> None:
        status = response.status_code
        if httpx.codes.is_server_error(status) or status in _PASSING_STATUSES:
            raise LinkUnavailableError(f"HTTP {status}")
        if status != HTTPStatus.OK:
            raise LinkDeadError(f"HTTP {status}")
        declared = response.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._settings.max_result_bytes:
            raise self._too_large()

    async def _bounded(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        # Raw: a compressed body is not what was asked for and is no picture either.
        size_bytes = 0
        async for chunk in response.aiter_raw():
            size_bytes += len(chunk)
            if size_bytes > self._settings.max_result_bytes:
                raise self._too_large()
            yield chunk

    def _too_large(self) -> LinkDeadError:
        return LinkDeadError(f"larger than {self._settings.max_result_bytes} bytes")


def recognise(head: bytes) -> PictureFormat:
    """Return the format by the first bytes.

    LinkDeadError when it is none that we take; LinkUnavailableError when there are no bytes.
    """
    if not head:
        raise LinkUnavailableError("the answer was empty")
    for recognised, matcher in _MATCHERS.items():
        if matcher.match(head):
            return recognised
    raise LinkDeadError("not a PNG, JPEG or WebP picture")


class _Timed:
    """Passes chunks on and knows how long it waited for them."""

    def __init__(self, source: AsyncIterator[bytes], clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self.waited_s = 0.0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what comes."""
        while True:
            asked_s = self._clock.monotonic_s()
            chunk = await anext(self._source, None)
            self.waited_s += self._clock.monotonic_s() - asked_s
            if chunk is None:
                return
            yield chunk


async def _read_head(body: AsyncIterator[bytes]) -> bytes:
    head = b""
    async for chunk in body:
        head += chunk
        if len(head) >= _MAGIC_BYTES:
            break
    return head


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield


async def _joined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield head
    async for chunk in rest:
        yield chunk
