from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.edge.linger import LINGER_S, QUIET_S, LingerMiddleware
from tests.support.clock import in_virtual_time
from tests.support.factories import a_scope

CLOSE = (b"connection", b"close")


class Client:
    """Sends a part of its body every `every_s`, `parts` of them."""

    def __init__(self, parts: int, every_s: float = 0.0) -> None:
        self.left = parts
        self.every_s = every_s
        self.got: list[object] = []

    async def receive(self) -> Message:
        """Send the next part, or nothing for ever."""
        await asyncio.sleep(self.every_s if self.left else 3600)
        self.left -= 1
        return {"type": "http.request", "body": b"x", "more_body": self.left > 0}

    async def send(self, message: Message) -> None:
        """Note what is answered, and how much was not sent by then."""
        body = message.get("body", b"")
        self.got.append((message.get("status", body), message.get("more_body"), self.left))


def _served(
    client: Client,
    *,
    reads: int = 0,
    answer: tuple[tuple[bytes, bytes], ...] = (),
    **scope: object,
) -> float:
    """Answer after some parts were read; return how long it took until the end."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(reads):
            await receive()
        await send({"type": "http.response.start", "status": 408, "headers": [*answer]})
        await send({"type": "http.response.body", "body": b"{}"})

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        asked = {**a_scope(), "http_version": "1.1", **scope}
        await LingerMiddleware(app)(asked, client.receive, client.send)
        return loop.time() - began_s

    return in_virtual_time(scenario())


@pytest.mark.parametrize(
    ("answer", "scope"),
    [
        ((CLOSE,), {}),
        (((b"connection", b"Keep-Alive, Close"),), {}),
        ((), {"headers": [CLOSE]}),
        ((), {"http_version": "1.0"}),
    ],
)
def test_what_is_still_coming_is_read_before_the_end(
    answer: tuple[tuple[bytes, bytes], ...], scope: dict[str, object]
) -> None:
    """The whole answer is sent first, whoever wants the connection closed."""
    client = Client(parts=5)
    _served(client, reads=2, answer=answer, **scope)

    assert [(408, None, 3), (b"{}", True, 3), (b"", None, 0)] == client.got


@pytest.mark.parametrize(
    ("reads", "answer"),
    [(2, (CLOSE,)), (1, ()), (1, ((b"connection", b"keep-alive"),))],
)
def test_nothing_is_read_that_need_not_be(
    reads: int, answer: tuple[tuple[bytes, bytes], ...]
) -> None:
    """A body that was read, or a connection that serves on."""
    client = Client(parts=2)
    _served(client, reads=reads, answer=answer)

    assert [(408, None, 2 - reads), (b"{}", None, 2 - reads)] == client.got


@pytest.mark.parametrize(
    ("client", "took_s"),
    [
        (Client(parts=0), QUIET_S),
        (Client(parts=1000, every_s=0.5), LINGER_S),
        (Client(parts=1000, every_s=QUIET_S * 1.5), QUIET_S),
    ],
    ids=["silent", "dripping", "slow"],
)
def test_no_client_holds_the_end_up(client: Client, took_s: float) -> None:
    """One that says nothing is not waited for, nor one that never ends."""
    assert took_s == pytest.approx(_served(client, answer=(CLOSE,)), abs=0.01)
    assert (b"", None) == client.got[-1][:2]  # type: ignore[index]
