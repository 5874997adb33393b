import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from gateway.network.clients import build_poll_client, build_submit_client
from gateway.network.transport import NeverSentError, NoAnswerError, let_go
from tests.support.sockets import (
    Script,
    answer,
    answer_then_close,
    closed_port,
    in_turn,
    raw,
    raw_server,
    raw_then_reset,
    reset,
    reset_now,
    silent,
    tcp_server,
)

#: Short enough for a test; a phase that is not under test gets plenty.
QUICK = httpx.Timeout(connect=0.3, read=0.3, write=5, pool=5)


@pytest.fixture
async def submit_client() -> AsyncIterator[httpx.AsyncClient]:
    """Return a client as submits use it."""
    async with build_submit_client() as client:
        yield client


@pytest.fixture
async def poll_client() -> AsyncIterator[httpx.AsyncClient]:
    """Return a client as polls use it, with a single connection."""
    async with build_poll_client(max_connections=1) as client:
        yield client


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(silent, id="silent"),
        pytest.param(reset, id="reset after the request was read"),
        pytest.param(raw(b""), id="closed without an answer"),
        pytest.param(raw_then_reset(b"HTTP/1.1 200 OK\r\nConte"), id="reset amid headers"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nConte"), id="closed amid headers"),
        pytest.param(
            raw_then_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
            id="reset amid the body",
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), id="closed amid the body"
        ),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
            id="closed amid a chunk",
        ),
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), id="not HTTP"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"), id="a bad header"),
    ],
)
async def test_a_post_that_was_read_is_unknown_and_never_repeated(
    submit_client: httpx.AsyncClient, script: Script
) -> None:
    """Whatever goes wrong once the server read the POST: no answer, and one POST at the server."""
    async with raw_server(script) as server:
        with pytest.raises(NoAnswerError) as caught:
            await submit_client.post(f"{server.url}/pay?token=secret", content=b"{}", timeout=QUICK)

    assert [seen.method for seen in server.requests] == ["POST"]
    assert "secret" not in str(caught.value)


async def test_nothing_listening_is_never_sent(submit_client: httpx.AsyncClient) -> None:
    """A refused connection proves that nothing was sent, and says why without the URL."""
    with pytest.raises(NeverSentError) as caught:
        await submit_client.post(f"http://127.0.0.1:{closed_port()}/pay?token=secret")

    assert str(caught.value).startswith("ClientConnectorError: Connect call failed")
    assert "secret" not in str(caught.value)


async def test_a_name_that_does_not_resolve_is_never_sent(
    submit_client: httpx.AsyncClient,
) -> None:
    """A host name that does not exist proves that nothing was sent."""
    with pytest.raises(NeverSentError) as caught:
        await submit_client.post("http://upstream.invalid/pay")

    assert str(caught.value).startswith("ClientConnectorDNSError")


async def test_a_tls_peer_that_speaks_no_tls_is_never_sent(
    submit_client: httpx.AsyncClient,
) -> None:
    """A failed handshake comes before the first byte of the request."""
    async with tcp_server(lambda writer: writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")) as port:
        with pytest.raises(NeverSentError) as caught:
            await submit_client.post(f"https://127.0.0.1:{port}/pay")

    assert str(caught.value).startswith("ClientConnectorSSLError")


async def test_a_reset_handshake_is_never_sent(submit_client: httpx.AsyncClient) -> None:
    """A connection that is reset before TLS stands carried nothing of the request."""
    async with tcp_server(reset_now) as port:
        with pytest.raises(NeverSentError):
            await submit_client.post(f"https://127.0.0.1:{port}/pay")


async def test_a_handshake_that_hangs_is_never_sent(submit_client: httpx.AsyncClient) -> None:
    """A connection that is not ready in time carried nothing, and the message has no URL."""
    async with tcp_server(lambda _: None) as port:
        with pytest.raises(NeverSentError) as caught:
            await submit_client.post(f"https://127.0.0.1:{port}/pay?token=secret", timeout=QUICK)

    assert str(caught.value) == "ConnectionTimeoutError"


async def test_waiting_for_a_connection_is_never_sent(poll_client: httpx.AsyncClient) -> None:
    """A request that found no free connection in time did not leave."""
    async with raw_server(silent) as server, asyncio.TaskGroup() as group:
        occupying = group.create_task(poll_client.get(f"{server.url}/first"))
        await server.asked.wait()
        with pytest.raises(NeverSentError):
            await poll_client.get(f"{server.url}/second", timeout=httpx.Timeout(5, pool=0.1))
        occupying.cancel()

    assert [seen.target for seen in server.requests] == ["/first"]


async def test_a_proxy_that_refuses_the_tunnel_is_never_sent() -> None:
    """The refusal of CONNECT is the proxy's: the request itself was not written yet."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(raw_server(answer(403)))
        client = await stack.enter_async_context(build_submit_client(proxy=proxy.url))
        with pytest.raises(NeverSentError):
            await client.post("https://api.example/pay")

    assert [seen.method for seen in proxy.requests] == ["CONNECT"]


async def test_a_proxy_that_is_not_there_is_never_sent() -> None:
    """Nothing is sent past a proxy that cannot be reached."""
    async with build_submit_client(proxy=f"http://127.0.0.1:{closed_port()}") as client:
        with pytest.raises(NeverSentError) as caught:
            await client.post("https://api.example/pay")

    assert str(caught.value).startswith("ClientProxyConnectionError")


async def test_a_proxy_that_breaks_off_is_not_proven() -> None:
    """What the types do not prove is unknown, even where nothing can have been sent."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(raw_server(reset))
        client = await stack.enter_async_context(build_submit_client(proxy=proxy.url))
        with pytest.raises(NoAnswerError):
            await client.post("https://api.example/pay")


async def test_submits_never_meet_a_stale_connection(submit_client: httpx.AsyncClient) -> None:
    """Each POST has a connection of its own, so that a server's idle timeout cannot hit it."""
    async with raw_server(answer_then_close()) as server:
        for _ in range(3):
            await submit_client.post(f"{server.url}/pay", content=b"{}")

    assert server.connections == 3
    assert [seen.headers["connection"] for seen in server.requests] == ["close"] * 3


async def test_polls_survive_a_stale_connection(poll_client: httpx.AsyncClient) -> None:
    """A GET on a connection that the server just closed is asked again on a new one."""
    async with raw_server(in_turn(answer(), reset, answer())) as server:
        await poll_client.get(f"{server.url}/1")
        response = await poll_client.get(f"{server.url}/2")

    assert response.status_code == 200
    assert [seen.target for seen in server.requests] == ["/1", "/2", "/2"]


async def test_a_post_on_a_stale_connection_is_not_repeated(
    poll_client: httpx.AsyncClient,
) -> None:
    """Even on a kept connection a POST reaches the server once, and counts as maybe read."""
    async with raw_server(in_turn(answer(), reset, answer())) as server:
        await poll_client.get(f"{server.url}/1")
        with pytest.raises(NoAnswerError):
            await poll_client.post(f"{server.url}/pay", content=b"{}")

    assert [seen.target for seen in server.requests] == ["/1", "/pay"]


async def test_polls_reuse_their_connection(poll_client: httpx.AsyncClient) -> None:
    """Polling does not pay for a connection each time."""
    async with raw_server(answer()) as server:
        for _ in range(5):
            await poll_client.get(f"{server.url}/task")

    assert (len(server.requests), server.connections) == (5, 1)


async def test_an_answer_that_was_let_go_is_free_at_once() -> None:
    """Nothing of it waits for the collector of cyclic garbage, and its head can still be read."""
    async with raw_server(answer(200, b"body")) as server, build_poll_client() as client:
        response = await client.send(client.build_request("GET", server.url), stream=True)
        body = b"".join([chunk async for chunk in response.aiter_bytes()])
        gc.disable()
        try:
            await let_go(response)
            assert (200, b"body") == (response.status_code, body)
            held = weakref.ref(response)
            del response
            assert held() is None
        finally:
            gc.enable()
