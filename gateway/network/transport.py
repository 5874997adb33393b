"""HTTP over aiohttp, with errors that say whether a request can have been read.

For a paid POST that is the only question that counts. httpx-aiohttp 0.2.0 answers it wrongly: its
table maps every `aiohttp.ClientConnectionError` to `httpx.ConnectTimeout`, also a reset that came
after the whole request was read. So nothing is concluded from httpx's classes here. aiohttp's own
class decides: only the few that it raises before it writes anything mean "never sent", and
whatever is not proven so may have been read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream

#: What aiohttp 3.14 raises only while it opens a connection (`TCPConnector.connect`), so before
#: the first byte of the request:
_BEFORE_THE_FIRST_BYTE = (
    # refused, unreachable, no such name, TLS handshake or certificate; also of the proxy
    aiohttp.ClientConnectorError,
    # no connection in time; waiting for a free one in the pool included
    aiohttp.ConnectionTimeoutError,
    # the proxy answered CONNECT with a refusal
    aiohttp.ClientHttpProxyError,
)


#: All that can go wrong underneath: mapped, not mapped, and the bare TimeoutError that aiohttp lets
#: through in places.
_FAILURES = (aiohttp.ClientError, httpx.TransportError, OSError)


#: Stands for a body that was read or is not wanted any more.
_GONE = httpx.ByteStream(b"")


class NeverSentError(httpx.TransportError):
    """No connection was made: no byte of the request left.

    For a GET this speaks of the last attempt only: aiohttp repeats idempotent methods once when a
    kept connection turns out to be dead. It never repeats a POST.
    """


class NoAnswerError(httpx.TransportError):
    """No whole answer came. Whether the request was read is unknown."""


class TruthfulTransport(AiohttpTransport):
    """The aiohttp transport; every failure is a NeverSentError or a NoAnswerError.

    Their messages hold no URL: aiohttp's own do, with the query.
    """

    #: Answers that say to be no longer are read whole, at once and not piece by piece.
    whole_up_to_bytes = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return once the answer's headers are there."""
        with _telling_what_was_sent():
            response = await super().handle_async_request(request)
            stream = cast("AiohttpResponseStream", response.stream)
            answer = stream._aiohttp_response  # noqa: SLF001 - every layer above it costs a poll dearly
            length = answer.content_length
            if length is not None and length <= self.whole_up_to_bytes:
                # Its connection goes back as the last byte comes.
                response.stream = httpx.ByteStream(await answer.read())
                return response
        response.stream = TruthfulStream(stream)
        return response


class TruthfulStream(httpx.AsyncByteStream):
    """An answer's body: what breaks off while it is read is a NoAnswerError."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _telling_what_was_sent():
            async for chunk in self._inner:
                yield chunk

    async def aclose(self) -> None:
        """Give the connection back, or close it when the body was not read to its end.

        Never fails: httpx closes a body that was read to its end by itself, and an answer that is
        whole (it may hold the id of something paid) must not be lost to what its connection does.
        """
        with suppress(*_FAILURES):
            await self._inner.aclose()


async def let_go(response: httpx.Response) -> None:
    """Close an answer and free it, head excepted.

    httpx ties an answer and its stream to each other in a circle, some fifty objects for each
    call. Cut here, they go at once and not when the collector of cyclic garbage comes by.
    """
    await response.aclose()
    response.stream = _GONE


@contextmanager
def _telling_what_was_sent() -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise judge(error) from error


def judge(error: Exception) -> NeverSentError | NoAnswerError:
    """Return what an error of aiohttp, bare or as httpx-aiohttp maps it, proves about sending."""
    mapped = isinstance(error, httpx.TransportError) and error.__cause__ is not None
    cause = error.__cause__ if mapped else error
    if isinstance(cause, _BEFORE_THE_FIRST_BYTE):
        return NeverSentError(_describe(cause))
    return NoAnswerError(_describe(cause))


def _describe(cause: BaseException | None) -> str:
    name = type(cause).__name__
    if isinstance(cause, aiohttp.ClientConnectorError):
        return f"{name}: {cause.os_error.strerror or type(cause.os_error).__name__}"
    return name
