import asyncio
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Message

from gateway.simulator.hangup import CutShort, HangUp

REQUEST = (
    b"POST /v1/images/generations HTTP/1.1\r\nHost: sim.test\r\n"
    b"Authorization: Bearer any-key\r\nContent-Length: %d\r\n\r\n%s"
)
BODY = b'{"model":"gpt-image-1.5","prompt":"a fox [[drop-response]]","quality":"low"}'


def bytes_until_closed(url: str, request: bytes) -> bytes:
    """Send a request on a raw socket and return all that comes before it closes."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request)
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    return received


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_not_a_byte_is_answered(
    start_simulator: Any, caplog: pytest.LogCaptureFixture, http: str, loop: str
) -> None:
    """The connection closes with zero bytes and no complaint; the task exists and is billed."""
    simulator = start_simulator(http=http, loop=loop)
    answer = bytes_until_closed(simulator.url, REQUEST % (len(BODY), BODY))
    simulator.skipped_s = 60
    stats = simulator.client.get("/_sim/stats").json()

    assert answer == b""
    assert caplog.messages == []
    assert (stats["submits"], stats["renders_completed"]) == (1, 1)
    assert stats["credits_used"] == 0.5332968


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_half_of_the_body_is_sent(
    start_simulator: Any, caplog: pytest.LogCaptureFixture, http: str, loop: str
) -> None:
    """The head announces more than comes before the connection closes, and nobody complains."""
    simulator = start_simulator(http=http, loop=loop)
    body = BODY.replace(b"drop-response", b"created:cut")
    answer = bytes_until_closed(simulator.url, REQUEST % (len(body), body))
    head, _, content = answer.partition(b"\r\n\r\n")
    announced = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])

    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(content) == announced // 2
    assert content.startswith(b'{"created":')
    assert caplog.messages == []


def test_clients_see_a_protocol_error(simulator: Any) -> None:
    """For an HTTP client the outcome of the submit is unknown."""
    with pytest.raises(httpx.RemoteProtocolError):
        simulator.submit("a fox [[drop-response]]")

    assert simulator.submit("a fox").status_code == 200


async def test_other_servers_are_refused() -> None:
    """Without uvicorn's transport the drop fails loudly instead of answering."""

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    for response in (HangUp(), CutShort(b"{}")):
        with pytest.raises(RuntimeError, match="uvicorn"):
            await response({"type": "http"}, receive, send)
