"""Waiting for something while the client may go away, or the server has to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import ClientDisconnect, Request

from gateway.domain.errors import ShuttingDown
from gateway.edge.drain import Drain

T = TypeVar("T")

#: Turns of the loop until it has read from a socket what lay behind a request, and told of it.
TURNS = 3


async def still_connected(request: Request) -> None:
    """Raise ClientDisconnect when the client has left by now; the body must have been read.

    What lay in a socket, of a process that stood still or before a balancer, comes with its
    client's leaving right behind it: the retry is elsewhere by then, and has perhaps been paid for.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if await request.is_disconnected():
        raise ClientDisconnect


async def while_connected(request: Request, drain: Drain, work: Coroutine[object, object, T]) -> T:
    """Return what the work returns. It is cancelled when it is not waited for any more.

    The body must have been read. Raises ClientDisconnect when the client has gone, ShuttingDown
    when the server cannot wait any longer, and what the work raises.
    """
    async with asyncio.TaskGroup() as group:
        working = group.create_task(_caught(work))
        gone = group.create_task(_gone(request))
        cut = group.create_task(drain.cut.wait())
        await asyncio.wait((working, gone, cut), return_when=asyncio.FIRST_COMPLETED)
        for task in (working, gone, cut):
            task.cancel()
        outcome: _Result[T] | Exception
        if working.done() and not working.cancelled():
            outcome = working.result()
        elif gone.done() and not gone.cancelled():
            outcome = ClientDisconnect()
        else:
            outcome = ShuttingDown()
    if isinstance(outcome, _Result):
        return outcome.value
    raise outcome


@dataclass(frozen=True, slots=True)
class _Result(Generic[T]):
    value: T


async def _caught(work: Coroutine[object, object, T]) -> _Result[T] | Exception:
    """Return what the work raises: a task group would wrap it."""
    try:
        return _Result(await work)
    except Exception as error:  # noqa: BLE001 - raised again by whoever waits
        return error


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
