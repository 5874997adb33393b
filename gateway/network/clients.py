"""The one place that builds HTTP clients.

None of them follows redirects unless told how many, reads proxy settings or credentials from the
environment, keeps cookies, or asks for compressed answers (a bounded read must bound what is
unpacked too). Every wait inside a request has a limit here; the whole call is limited by its
caller.
"""

from __future__ import annotations

import functools
import logging
import ssl
from collections.abc import Callable

import aiohttp
import httpx

from gateway import __version__
from gateway.network.guard import Guard
from gateway.network.guarded import GuardedTransport
from gateway.network.transport import TruthfulTransport

#: Seconds for one address to accept the connection and finish TLS.
CONNECT_TIMEOUT_S = 5.0
#: Seconds until there is a connection at all: the wait for a free one in the pool, name lookup and
#: every address of the host included. Below each caller's total, so that a host that cannot be
#: reached is proven by its error and not guessed from a timeout.
OPEN_TIMEOUT_S = 10.0
#: Seconds of silence from an upstream that was asked something.
ANSWER_TIMEOUT_S = 120.0
#: Seconds of silence inside a download.
DOWNLOAD_TIMEOUT_S = 20.0
#: Answers to small questions are read at once up to this; what is longer comes piece by piece.
SMALL_ANSWER_BYTES = 64 * 1024
#: Seconds an idle connection is kept: below the 60 s after which common proxies drop it.
KEEPALIVE_S = 30.0


def build_submit_client(*, proxy: str = "", ca_file: str = "") -> httpx.AsyncClient:
    """Return a client for paid POSTs: a connection of its own for each call.

    A kept connection that the server closes at the same moment would leave open whether the POST
    was read. The number of connections is not limited here: what may be in flight is decided
    before a submit begins.
    """
    return _build(
        lambda context: aiohttp.TCPConnector(ssl=context, force_close=True, limit=0),
        answer_timeout_s=ANSWER_TIMEOUT_S,
        headers={"connection": "close"},
        proxy=proxy,
        ca_file=ca_file,
    )


def build_poll_client(
    *, proxy: str = "", ca_file: str = "", max_connections: int = 64
) -> httpx.AsyncClient:
    """Return a client for small GETs that are harmless to repeat: connections are kept and few."""
    return _build(
        lambda context: aiohttp.TCPConnector(
            ssl=context, keepalive_timeout=KEEPALIVE_S, limit=max_connections
        ),
        answer_timeout_s=ANSWER_TIMEOUT_S,
        headers={},
        proxy=proxy,
        ca_file=ca_file,
        whole_up_to_bytes=SMALL_ANSWER_BYTES,
    )


def build_fetch_client(
    *, proxy: str = "", ca_file: str = "", max_connections: int = 32
) -> httpx.AsyncClient:
    """Return a client for downloading pictures."""
    return _build(
        lambda context: aiohttp.TCPConnector(
            ssl=context, keepalive_timeout=KEEPALIVE_S, limit=max_connections
        ),
        answer_timeout_s=DOWNLOAD_TIMEOUT_S,
        headers={"accept": "image/*"},
        proxy=proxy,
        ca_file=ca_file,
    )


def build_guarded_client(
    guard: Guard, *, ca_file: str = "", max_redirects: int = 0
) -> httpx.AsyncClient:
    """Return a client for addresses that clients name: only what the guard lets through.

    Every request has a connection of its own, and every hop of at most `max_redirects` redirects
    is checked as the first one was. It knows no proxy: one would look names up once more, after
    the check. Raises `guarded.RefusedError` for what is not let through.
    """
    transport = GuardedTransport(guard, tls_context(ca_file))
    return _client(
        transport,
        answer_timeout_s=DOWNLOAD_TIMEOUT_S,
        headers={"connection": "close"},
        max_redirects=max_redirects,
    )


def _build(
    connector: Callable[[ssl.SSLContext], aiohttp.BaseConnector],
    *,
    answer_timeout_s: float,
    headers: dict[str, str],
    proxy: str,
    ca_file: str,
    whole_up_to_bytes: int = 0,
) -> httpx.AsyncClient:
    context = tls_context(ca_file)
    transport = TruthfulTransport(
        verify=context,
        proxy=_proxy(proxy) if proxy else None,
        # A factory: the session belongs to the event loop of the first request.
        client=lambda: aiohttp.ClientSession(
            connector=connector(context), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        ),
    )
    transport.whole_up_to_bytes = whole_up_to_bytes
    return _client(transport, answer_timeout_s=answer_timeout_s, headers=headers, max_redirects=0)


def _client(
    transport: TruthfulTransport,
    *,
    answer_timeout_s: float,
    headers: dict[str, str],
    max_redirects: int,
) -> httpx.AsyncClient:
    # At INFO httpx prints every URL with its query.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    client = httpx.AsyncClient(
        transport=transport,
        headers={
            "user-agent": f"image-gateway/{__version__}",
            "accept": "application/json",
            "accept-encoding": "identity",
            **headers,
        },
        timeout=httpx.Timeout(
            connect=CONNECT_TIMEOUT_S,
            pool=OPEN_TIMEOUT_S,
            read=answer_timeout_s,
            write=answer_timeout_s,
        ),
        trust_env=False,
        follow_redirects=max_redirects > 0,
        max_redirects=max_redirects,
    )
    client._cookies = _NoCookies()  # noqa: SLF001 - its setter makes an ordinary jar of any cookies
    return client


class _NoCookies(httpx.Cookies):
    """Takes no cookies, and spends no time on looking for some: polls are many."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave the answer alone."""


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return what server certificates are checked against.

    Without `ca_file` that is certifi's list, read once for all; a `ca_file` (PEM) takes its place
    and does not add to it. ValueError when the file cannot be read.
    """
    if not ca_file:
        return _packaged_authorities()
    try:
        return _speaking_http1(ssl.create_default_context(cafile=ca_file))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"cannot read certificates from {ca_file}: {reason}") from error


@functools.cache
def _packaged_authorities() -> ssl.SSLContext:
    # Reading more than a hundred of them takes 30 ms, and every gateway has five clients.
    return _speaking_http1(httpx.create_ssl_context(trust_env=False))


def _speaking_http1(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy(url: str) -> httpx.Proxy:
    given = httpx.Proxy(url)
    if given.auth is None:
        return given
    # aiohttp 3.14 turns an Authorization for the proxy into Proxy-Authorization, of CONNECT for
    # https and of the request itself for http; its BasicAuth argument is deprecated.
    credentials = aiohttp.encode_basic_auth(*given.auth)
    return httpx.Proxy(given.url, headers={"authorization": credentials})
