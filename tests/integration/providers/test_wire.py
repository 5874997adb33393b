import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from gateway.network.clients import build_submit_client
from gateway.providers.wire import MAX_BODY_BYTES, Answer, NeverSent, NoAnswer, Reply, exchange
from gateway.telemetry.traces import active
from tests.support.sockets import (
    Script,
    answer,
    closed_port,
    drip,
    raw,
    raw_server,
    reset,
    silent,
)
from tests.support.spans import PARENT, TRACE_ID, Recorder


@dataclass(frozen=True)
class FixedClock:
    """Noon of 2026-07-01, for ever."""

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return 1_782_907_200_000

    def monotonic_s(self) -> float:
        """Return zero."""
        return 0.0


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Return a client whose connections are used once."""
    async with build_submit_client() as built:
        yield built


async def post(client: httpx.AsyncClient, url: str, *, total_s: float = 5.0) -> Reply:
    """Send one POST with a key and a query."""
    request = client.build_request(
        "POST", f"{url}/pay?token=secret", content=b"{}", headers={"authorization": "Bearer key"}
    )
    return await exchange(client, request, total_s=total_s, clock=FixedClock())


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        pytest.param(answer(200, b'{"id":"a"}'), Answer(200, {"id": "a"}), id="JSON"),
        pytest.param(answer(200, b"[1.5]"), Answer(200, [1.5]), id="any JSON"),
        pytest.param(answer(200, b""), Answer(200, None), id="empty"),
        pytest.param(answer(204, b""), Answer(204, None), id="no content"),
        pytest.param(answer(502, b"<html>Bad Gateway"), Answer(502, None), id="HTML"),
        pytest.param(answer(200, b'{"id":'), Answer(200, None), id="half JSON"),
        pytest.param(answer(200, b"[" * 100_000), Answer(200, None), id="deep JSON"),
        pytest.param(answer(200, b'{"a":"\xff"}'), Answer(200, None), id="not UTF-8"),
        pytest.param(
            answer(429, b"{}", {"Retry-After": "12"}), Answer(429, {}, 12.0), id="wait in seconds"
        ),
        pytest.param(
            answer(503, b"{}", {"Retry-After": "Wed, 01 Jul 2026 12:00:20 GMT"}),
            Answer(503, {}, 20.0),
            id="wait until a date",
        ),
        pytest.param(
            answer(200, gzip.compress(b'{"id":"a"}'), {"Content-Encoding": "gzip"}),
            Answer(200, {"id": "a"}),
            id="compressed all the same",
        ),
        pytest.param(
            answer(200, b" " * MAX_BODY_BYTES + b"1"), Answer(200, None), id="over the limit"
        ),
        pytest.param(answer(200, b"1" + b" " * (MAX_BODY_BYTES - 1)), Answer(200, 1), id="at it"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n7\r\n0\r\n\r\n"),
            Answer(200, 7),
            id="chunked",
        ),
        pytest.param(reset, NoAnswer("ClientOSError"), id="reset"),
        pytest.param(raw(b""), NoAnswer("ServerDisconnectedError"), id="closed"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
            NoAnswer("ClientPayloadError"),
            id="half an answer",
        ),
        pytest.param(raw(b"nonsense\r\n\r\n"), NoAnswer("ClientResponseError"), id="not HTTP"),
        pytest.param(
            answer(200, b"no gzip", {"Content-Encoding": "gzip"}),
            NoAnswer("DecodingError"),
            id="compressed wrongly",
        ),
    ],
)
async def test_every_outcome_is_a_value(
    client: httpx.AsyncClient, script: Script, reply: Reply
) -> None:
    """Whatever the server does comes back as a value, after a single POST."""
    async with raw_server(script) as server:
        outcome = await post(client, server.url)

    assert reply == outcome
    assert len(server.requests) == 1


async def test_nothing_listening_is_never_sent(client: httpx.AsyncClient) -> None:
    """No connection is proof, and its reason names no URL."""
    outcome = await post(client, f"http://127.0.0.1:{closed_port()}")

    assert isinstance(outcome, NeverSent)
    assert "secret" not in outcome.reason


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(silent, id="silent"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nX: ", b"x", pause_s=0.02), id="endless header"),
        pytest.param(
            drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x", pause_s=0.02),
            id="dripping body",
        ),
    ],
)
async def test_the_whole_call_has_a_limit(client: httpx.AsyncClient, script: Script) -> None:
    """A server that always sends a little more cannot hold a call beyond its total."""
    async with raw_server(script) as server:
        outcome = await post(client, server.url, total_s=0.3)

    assert outcome == NoAnswer("no answer within 0.3 s")
    assert len(server.requests) == 1


async def test_an_endless_body_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    """Reading stops at the limit, not at the end of what the server sends."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = drip(head, b"ffff\r\n" + b" " * 0xFFFF + b"\r\n", pause_s=0)
    async with raw_server(endless) as server:
        outcome = await post(client, server.url)

    assert outcome == Answer(200, None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_with_our_key(
    client: httpx.AsyncClient, status: int
) -> None:
    """The host of a redirect sees neither the request nor the key."""
    async with (
        raw_server(answer()) as other,
        raw_server(answer(status, headers={"Location": other.url})) as server,
    ):
        outcome = await post(client, server.url)

    assert outcome == Answer(status, {})
    assert other.connections == 0


async def test_a_redirect_to_nowhere_is_no_answer(client: httpx.AsyncClient) -> None:
    """A Location that cannot be read does not raise."""
    async with raw_server(answer(302, headers={"Location": "http://[::bad"})) as server:
        outcome = await post(client, server.url)

    assert outcome == NoAnswer("RemoteProtocolError")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (answer(200, b"{}"), None),
        (answer(429, b"{}"), "429"),
        (reset, "no_answer"),
        (silent, "no_answer"),
    ],
)
async def test_an_exchange_under_a_span(
    client: httpx.AsyncClient, script: Script, error: str | None
) -> None:
    """The server is told of a span of its own, which says neither query nor key."""
    recorder = Recorder()
    async with raw_server(script) as server:
        with active(recorder.tracer.begin("submit", parent=f"{PARENT} vendor=x")):
            await post(client, server.url, total_s=0.5 if script is silent else 5.0)
    span = recorder.named("POST")
    heard = server.requests[0].headers

    ids = span.get_span_context()
    assert f"00-{TRACE_ID:032x}-{ids.span_id:016x}-01" == heard["traceparent"]
    assert "vendor=x" == heard["tracestate"]
    assert span.attributes is not None
    assert (f"{server.url}/pay", error) == (
        span.attributes["url.full"],
        span.attributes.get("error.type"),
    )
    assert not any(secret in str(span.to_json()) for secret in ("secret", "Bearer"))


async def test_an_exchange_that_is_given_up_under_a_span(client: httpx.AsyncClient) -> None:
    """Whoever asked waits no longer; its span says so."""
    recorder = Recorder()
    async with raw_server(silent) as server:
        with active(recorder.tracer.begin("upload")), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await post(client, server.url)

    assert {"error.type": "cancelled"}.items() <= dict(
        recorder.named("POST").attributes or {}
    ).items()


async def test_a_server_that_is_not_there_under_a_span(client: httpx.AsyncClient) -> None:
    """It is told apart from one that gave no answer."""
    recorder = Recorder()
    with active(recorder.tracer.begin("submit")):
        await post(client, f"http://127.0.0.1:{closed_port()}")

    assert {"error.type": "not_sent"}.items() <= dict(
        recorder.named("POST").attributes or {}
    ).items()


async def test_an_exchange_that_nobody_traces(client: httpx.AsyncClient) -> None:
    """The server hears of no trace."""
    async with raw_server(answer(200, b"{}")) as server:
        await post(client, server.url)

    assert not {"traceparent", "tracestate"} & server.requests[0].headers.keys()
