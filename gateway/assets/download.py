"""One picture on its way from a result link, however often the way breaks off.

What has arrived is never asked for again where the host serves ranges; where it does not, it is
read once more and compared. So a slow or shaky link still ends in a whole picture, as long as every
few answers bring it further.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import httpx
from filetype.types import image

from gateway.assets.interface import LinkDeadError, LinkUnavailableError
from gateway.domain.clock import Clock
from gateway.domain.images import PictureFormat
from gateway.domain.schedule import backoff_s
from gateway.network.transport import NeverSentError, NoAnswerError, let_go

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

#: A download is given up after so many answers in a row that brought less than this.
STALLS, PROGRESS_BYTES = 3, 16 * 1024

_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Where pictures may come from and how large and slow they may be.

    `result_hosts` are exact host names, with ``:port`` where it is not the scheme's own.
    `allow_http` lets links without TLS through (a simulator on this machine). `total_timeout_s` is
    how long one answer may be waited for in all, `idle_timeout_s` how long it may be silent.
    """

    result_hosts: frozenset[str]
    allow_http: bool = False
    max_result_bytes: int = 64 * 1024 * 1024
    total_timeout_s: float = 120.0
    idle_timeout_s: float = 20.0

    def checked(self, link: str) -> httpx.URL:
        """Return the address of a link that may be asked. Raises LinkDeadError."""
        try:
            url = httpx.URL(link)
        except httpx.InvalidURL:
            raise LinkDeadError("the result link is not a URL") from None
        if url.scheme != "https" and not (url.scheme == "http" and self.allow_http):
            raise LinkDeadError("the result link's scheme is not allowed")
        if url.userinfo:
            raise LinkDeadError("the result link carries credentials")
        # `netloc` is lower case and leaves the scheme's own port out.
        host = url.netloc.decode("ascii")
        if host not in {each.lower() for each in self.result_hosts}:
            raise LinkDeadError(f"result host is not allowed: {host[:100]!r}")
        return url


class Download:
    """A picture that has begun to arrive; made by `open`, and closed by whoever has it.

    `format` is what its first bytes say, `size_bytes` what the host says (None when it does not),
    `waited_s` how long the link was waited for so far.
    """

    def __init__(
        self, client: httpx.AsyncClient, url: httpx.URL, settings: FetchSettings, clock: Clock
    ) -> None:
        self._client = client
        self._url = url
        self._settings = settings
        self._clock = clock
        self._response: httpx.Response | None = None
        self._body: AsyncIterator[bytes] | None = None
        self._left_s = 0.0
        self._etag = ""
        self._ahead: list[bytes] = []
        self._done_bytes = self._known_bytes = self._stalls = 0
        self._digest = hashlib.sha256()
        self.format = PictureFormat.PNG
        self.size_bytes: int | None = None
        self.waited_s = 0.0

    @classmethod
    async def open(
        cls, client: httpx.AsyncClient, link: str, settings: FetchSettings, clock: Clock
    ) -> Self:
        """Ask for a link and return its picture, of which the first bytes are there.

        No redirect is followed and no key is sent. Raises LinkUnavailableError, LinkDeadError.
        """
        made = cls(client, settings.checked(link), settings, clock)
        try:
            await made._begin()
        except BaseException:  # also when cancelled: no connection is left open
            await made.aclose()
            raise
        return made

    async def aclose(self) -> None:
        """Let go of the answer."""
        response, self._response, self._body = self._response, None, None
        if response is not None:
            await let_go(response)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the picture, once. Raises LinkUnavailableError, LinkDeadError."""
        while chunk := await self._next():
            yield chunk

    async def _begin(self) -> None:
        head = b""
        try:
            await self._ask()
            while len(head) < _MAGIC_BYTES and (chunk := await self._arriving()):
                head += chunk
        except _BREAKS as error:
            raise LinkUnavailableError(self._reason(error)) from None
        self.format = recognise(head)
        self._ahead = [head]

    async def _next(self) -> bytes:
        """Return what comes next, nothing at the end."""
        while True:
            try:
                chunk = self._ahead.pop() if self._ahead else await self._arriving()
            except _BREAKS as error:
                await self._go_on(self._reason(error))
                continue
            self._done_bytes += len(chunk)
            self._digest.update(chunk)
            if self._done_bytes > self._settings.max_result_bytes:
                raise self._too_large()
            return chunk

    async def _go_on(self, reason: str) -> None:
        """Ask for the rest, until it comes or too many answers brought too little."""
        brought = self._done_bytes - self._known_bytes
        self._known_bytes = self._done_bytes
        self._stalls = 0 if brought >= PROGRESS_BYTES else self._stalls + 1
        while self._stalls < STALLS:
            await self.aclose()
            await asyncio.sleep(backoff_s(self._stalls + 1, first_s=0.1, cap_s=2.0))
            try:
                await self._ask()
                if self._response is not None and self._response.status_code == HTTPStatus.OK:
                    await self._read_again()
            except (*_BREAKS, LinkUnavailableError) as error:
                reason = self._reason(error)
                self._stalls += 1
            else:
                return
        raise LinkUnavailableError(reason)

    async def _ask(self) -> None:
        headers = {}
        if self._done_bytes:
            headers["range"] = f"bytes={self._done_bytes}-"
            if self._etag:
                headers["if-range"] = self._etag
        request = self._client.build_request("GET", self._url, headers=headers)
        timeout = request.extensions["timeout"] | {"read": self._settings.idle_timeout_s}
        request.extensions["timeout"] = timeout
        self._left_s = self._settings.total_timeout_s
        asked_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._left_s):
                response = await self._client.send(request, stream=True, follow_redirects=False)
        finally:
            self._waited(asked_s)
        self._response = response
        self._check(response)
        # Raw: a compressed body is not what was asked for and is no picture either.
        self._body = response.aiter_raw()

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if httpx.codes.is_server_error(status) or status in _PASSING_STATUSES:
            raise LinkUnavailableError(f"HTTP {status}")
        is_rest = status == HTTPStatus.PARTIAL_CONTENT and self._done_bytes > 0
        if status != HTTPStatus.OK and not is_rest:
            raise LinkDeadError(f"HTTP {status}")
        declared = response.headers.get("content-length", "")
        size_bytes = int(declared[:18]) if declared.isdecimal() else None
        if is_rest:
            match = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if match is None or int(match[1]) != self._done_bytes:
                raise LinkUnavailableError("another part than was asked for")
            size_bytes = None if match[2] == "*" else int(match[2])
        if size_bytes is not None and size_bytes > self._settings.max_result_bytes:
            raise self._too_large()
        if self._done_bytes == 0:
            self.size_bytes = size_bytes
            etag = response.headers.get("etag", "")
            self._etag = etag if etag.startswith('"') else ""
        elif None not in (size_bytes, self.size_bytes) and size_bytes != self.size_bytes:
            raise LinkUnavailableError("the picture became another one")

    async def _read_again(self) -> None:
        """Pass over what is known of an answer that begins at the beginning."""
        seen, left_bytes, rest = hashlib.sha256(), self._done_bytes, b""
        while left_bytes:
            chunk = await self._arriving()
            if not chunk:
                raise LinkUnavailableError("the picture ended before what was known of it")
            seen.update(chunk[:left_bytes])
            rest = chunk[left_bytes:]
            left_bytes -= len(chunk) - len(rest)
        if seen.digest() != self._digest.digest():
            raise LinkUnavailableError("the picture became another one")
        if rest:
            self._ahead = [rest]

    async def _arriving(self) -> bytes:
        if self._body is None:
            raise AssertionError("nothing was asked for")
        asked_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._left_s):
                return await anext(self._body, b"")
        finally:
            self._left_s = max(self._left_s - self._waited(asked_s), 0.0)

    def _waited(self, asked_s: float) -> float:
        waited_s = self._clock.monotonic_s() - asked_s
        self.waited_s += waited_s
        return waited_s

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"not copied within {self._settings.total_timeout_s:g} s"
        if isinstance(error, NeverSentError | NoAnswerError | LinkUnavailableError):
            return str(error)
        # httpx's own, of an answer that it could not read; its message may quote it.
        return type(error).__name__

    def _too_large(self) -> LinkDeadError:
        return LinkDeadError(f"larger than {self._settings.max_result_bytes} bytes")


#: What ends an answer before its end.
_BREAKS = (TimeoutError, httpx.RequestError)


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
