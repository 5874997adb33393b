import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gateway.domain.errors import ModerationBlocked, ShuttingDown
from gateway.edge.drain import Drain
from gateway.edge.hangup import still_connected, while_connected
from tests.support.clock import in_virtual_time
from tests.support.factories import a_scope

T = TypeVar("T")


class Client:
    """The other end of a request whose body was read: it stays, or goes when it is told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.request = Request(a_scope(method="POST"), self.receive)
        self._messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive(self) -> Message:
        """Answer what is left of the body, and then nothing before the client has gone."""
        if self._messages:
            return self._messages.pop()
        await self.leaves.wait()
        return {"type": "http.disconnect"}


class Work:
    """Something that takes its time."""

    def __init__(self, *, takes_s: float = 60.0, error: Exception | None = None) -> None:
        self.ended = ""
        self._takes_s = takes_s
        self._error = error

    async def run(self) -> str:
        """Return or raise after that time, and note how it ended."""
        try:
            await asyncio.sleep(self._takes_s)
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "done"
        if self._error is not None:
            raise self._error
        return "a picture"


def _run(scenario: Coroutine[object, object, T]) -> tuple[T, float]:
    """Run a scenario in virtual time; return its result and how long it took."""

    async def timed() -> tuple[T, float]:
        return await scenario, asyncio.get_running_loop().time()

    return in_virtual_time(timed())


def test_a_client_that_is_there() -> None:
    """Whoever is still connected may be served."""

    async def scenario() -> None:
        client = Client()
        await client.request.body()
        await still_connected(client.request)

    assert (None, 0.0) == _run(scenario())


def test_a_client_that_has_left_by_now() -> None:
    """Its leaving is known a turn of the loop after its words."""

    async def scenario() -> None:
        client = Client()
        await client.request.body()
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, client.leaves.set)
        with pytest.raises(ClientDisconnect):
            await still_connected(client.request)

    assert (None, 0.0) == _run(scenario())


def test_the_result() -> None:
    """While the client stays, what the work returns is returned as soon as it is there."""

    async def scenario() -> str:
        return await while_connected(Client().request, Drain(), Work(takes_s=5.0).run())

    assert ("a picture", 5.0) == _run(scenario())


@pytest.mark.parametrize("error", [ModerationBlocked(), ZeroDivisionError()])
def test_the_error(error: Exception) -> None:
    """What the work raises is raised as it is, not wrapped by who waited for it."""

    async def scenario() -> Exception:
        work = Work(takes_s=5.0, error=error)
        with pytest.raises(type(error)) as raised:
            await while_connected(Client().request, Drain(), work.run())
        return raised.value

    assert (error, 5.0) == _run(scenario())


def test_the_client_goes_away() -> None:
    """Nobody waits for the work any more: it is cancelled, and that is over when it is told."""

    async def scenario() -> str:
        client, work = Client(), Work()
        asyncio.get_running_loop().call_later(5, client.leaves.set)
        with pytest.raises(ClientDisconnect):
            await while_connected(client.request, Drain(), work.run())
        return work.ended

    assert ("cancelled", 5.0) == _run(scenario())


def test_the_server_has_to_stop() -> None:
    """A call that has been waited for long enough is sent away."""

    async def scenario() -> str:
        drain, work = Drain(), Work()
        asyncio.get_running_loop().call_later(5, drain.cut.set)
        with pytest.raises(ShuttingDown):
            await while_connected(Client().request, drain, work.run())
        return work.ended

    assert ("cancelled", 5.0) == _run(scenario())


def _all_at_once(work: Work) -> Coroutine[object, object, str]:
    """Let client and server go in the very moment in which the work is done."""
    client, drain = Client(), Drain()
    client.leaves.set()
    drain.cut.set()
    return while_connected(client.request, drain, work.run())


def test_a_result_counts_more_than_who_went() -> None:
    """What is there is answered, although the client leaves and the server stops."""

    async def scenario() -> str:
        return await _all_at_once(Work(takes_s=0.0))

    assert ("a picture", 0.0) == _run(scenario())


def test_an_error_counts_more_than_who_went() -> None:
    """A task that failed was not left by its caller."""

    async def scenario() -> None:
        with pytest.raises(ModerationBlocked):
            await _all_at_once(Work(takes_s=0.0, error=ModerationBlocked()))

    _run(scenario())


def test_a_client_that_goes_while_the_server_stops_has_gone() -> None:
    """There is nobody left to be told that the server stops."""

    async def scenario() -> None:
        client, drain = Client(), Drain()
        client.leaves.set()
        drain.cut.set()
        with pytest.raises(ClientDisconnect):
            await while_connected(client.request, drain, Work().run())

    _run(scenario())


def test_nothing_is_left_running() -> None:
    """Whether it ends by result or by being cancelled itself, only the caller's task is left."""

    async def scenario() -> list[int]:
        left = []
        await while_connected(Client().request, Drain(), Work(takes_s=1.0).run())
        left.append(len(asyncio.all_tasks()))
        work = Work()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await while_connected(Client().request, Drain(), work.run())
        left.append(len(asyncio.all_tasks()))
        assert work.ended == "cancelled"
        return left

    assert ([1, 1], 2.0) == _run(scenario())
