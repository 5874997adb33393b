import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Message

from gateway.simulator.hangup import HangUp

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

    with pytest.raises(RuntimeError, match="uvicorn"):
        await HangUp()({"type": "http"}, receive, send)
