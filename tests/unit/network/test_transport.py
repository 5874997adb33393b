import ssl
from collections.abc import AsyncIterator
from types import SimpleNamespace

import aiohttp
import httpx
import pytest

from gateway.network.transport import NeverSentError, NoAnswerError, TruthfulStream, judge

KEY = SimpleNamespace(host="api.example", port=443, ssl=True, is_ssl=True)
REFUSED = OSError(111, "refused")


def caused_by(error: Exception) -> Exception:
    """Return the error as httpx-aiohttp raises it: mapped to ConnectTimeout, whatever it was."""
    mapped = httpx.ConnectTimeout("mapped")
    mapped.__cause__ = error
    return mapped


@pytest.mark.parametrize(
    ("cause", "verdict"),
    [
        (aiohttp.ClientConnectorError(KEY, REFUSED), NeverSentError),  # type: ignore[arg-type]
        (aiohttp.ClientConnectorDNSError(KEY, REFUSED), NeverSentError),  # type: ignore[arg-type]
        (aiohttp.ClientProxyConnectionError(KEY, REFUSED), NeverSentError),  # type: ignore[arg-type]
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("untrusted")),  # type: ignore[arg-type]
            NeverSentError,
        ),
        (aiohttp.ConnectionTimeoutError("https://api.example/?token=x"), NeverSentError),
        (aiohttp.ServerDisconnectedError(), NoAnswerError),
        (aiohttp.ClientOSError(104, "reset"), NoAnswerError),
        (aiohttp.ClientConnectionResetError("closing"), NoAnswerError),
        (aiohttp.ClientConnectionError("Connection closed"), NoAnswerError),
        (aiohttp.SocketTimeoutError("https://api.example/?token=x"), NoAnswerError),
        (aiohttp.ServerTimeoutError(), NoAnswerError),
        (aiohttp.ClientPayloadError("incomplete"), NoAnswerError),
        (TimeoutError(), NoAnswerError),
        (ConnectionResetError(), NoAnswerError),
    ],
)
def test_only_failures_to_connect_prove_that_nothing_was_sent(
    cause: Exception, verdict: type[Exception]
) -> None:
    """The verdict follows aiohttp's class, bare or mapped, and repeats no URL."""
    bare, mapped = judge(cause), judge(caused_by(cause))

    assert (verdict, verdict) == (type(bare), type(mapped))
    assert "token" not in str(mapped)
    assert type(cause).__name__ in str(mapped)


def test_an_httpx_error_without_a_cause_proves_nothing() -> None:
    """A ConnectTimeout of httpx is no evidence: it may follow a request that was read."""
    assert NoAnswerError is type(judge(httpx.ConnectTimeout("?")))


class BrokenStream(httpx.AsyncByteStream):
    """A body that fails while it is read and while it is closed."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"first"
        raise self._error

    async def aclose(self) -> None:
        """Fail."""
        raise self._error


ERRORS = [
    caused_by(aiohttp.ClientOSError(104, "reset")),
    aiohttp.ClientPayloadError("incomplete"),
    TimeoutError(),
    ConnectionResetError(),
]


@pytest.mark.parametrize("error", ERRORS)
async def test_a_body_that_cannot_be_closed_is_whole_all_the_same(error: Exception) -> None:
    """What a connection does after its answer takes nothing from the answer."""
    await TruthfulStream(BrokenStream(error)).aclose()


@pytest.mark.parametrize("error", ERRORS)
async def test_a_body_that_fails_in_any_way_is_no_answer(error: Exception) -> None:
    """Mapped, unmapped and built-in errors of a body all come out as the same class."""
    stream = TruthfulStream(BrokenStream(error))

    chunks = aiter(stream)
    assert await anext(chunks) == b"first"
    with pytest.raises(NoAnswerError):
        await anext(chunks)
