from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from gateway.edge.served import Served


async def test_a_request_stays_in_the_application_it_began_in() -> None:
    """The next one meets the other."""
    exchanged, began = asyncio.Event(), asyncio.Event()
    heard: list[object] = []

    async def old(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await exchanged.wait()
        await send({"type": "old"})

    async def new(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "new"})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        heard.append(message["type"])

    served = Served(old)
    async with asyncio.TaskGroup() as group:
        group.create_task(served({"type": "http"}, receive, send))
        await began.wait()
        served.app = new
        await served({"type": "http"}, receive, send)
        exchanged.set()

    assert ["new", "old"] == heard
