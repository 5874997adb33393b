from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import orjson
import pytest
from pydantic import SecretStr

from gateway.network.clients import build_submit_client
from gateway.service.webhook import NotDeliveredError, Webhook
from tests.support.sockets import Script, answer, closed_port, raw_server, reset

PATH = "/services/T0/B0/s3cr3t"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Open the client that the product uses."""
    async with build_submit_client() as opened:
        yield opened


async def test_a_text_is_posted_as_slack_takes_it(client: httpx.AsyncClient) -> None:
    """One POST of a JSON object; any 2xx is a delivery, whatever its body."""
    async with raw_server(answer(204, b"")) as server:
        await Webhook(client, SecretStr(server.url + PATH)).post("half of it is spent")
    [seen] = server.requests

    assert ("POST", PATH, {"text": "half of it is spent"}) == (
        *(seen.method, seen.target),
        orjson.loads(seen.body),
    )
    assert "application/json" == seen.headers["content-type"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (answer(500), "HTTP 500"),
        (answer(302, headers={"Location": "http://127.0.0.1/"}), "HTTP 302"),
        (reset, "NoAnswerError"),
    ],
)
async def test_what_is_not_taken(client: httpx.AsyncClient, script: Script, reason: str) -> None:
    """Nothing is followed or repeated, and the reason holds no URL."""
    async with raw_server(script) as server:
        with pytest.raises(NotDeliveredError) as failure:
            await Webhook(client, SecretStr(server.url + PATH)).post("text")

    assert (reason, 1) == (str(failure.value), len(server.requests))
    assert failure.value.__cause__ is None


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/s3cr3t", "http://[::bad/s3cr3t"])
async def test_nobody_there(client: httpx.AsyncClient, address: str) -> None:
    """Also an address that is none fails as any other."""
    url = address.format(port=closed_port())
    with pytest.raises(NotDeliveredError) as failure:
        await Webhook(client, SecretStr(url)).post("text")

    assert "s3cr3t" not in str(failure.value)
    assert "s3cr3t" not in repr(Webhook(client, SecretStr(url)).__dict__)
