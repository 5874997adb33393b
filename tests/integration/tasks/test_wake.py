"""Messages between two processes over the real store."""

from __future__ import annotations

import asyncio

import orjson

from gateway.background import Background
from gateway.domain.ids import TaskId, TeamId
from gateway.store.client import Store
from gateway.store.keyspace import wake_key
from gateway.tasks.wake import Kind, Message, Wake

MESSAGE = Message(Kind.CALLED_BACK, TeamId("design"), TaskId("imgtask_1"), 2, "task-unified-1")


async def test_a_message_reaches_the_replica_it_is_for(store: Store) -> None:
    """Also one that was left before it began to listen; nobody else hears of it."""
    heard: dict[str, list[Message]] = {"one": [], "two": []}
    arrived = asyncio.Event()
    one, two = (Wake(store, id=name) for name in ("one", "two"))
    one.listen(heard["one"].append)
    two.listen(heard["two"].append)
    two.listen(lambda message: arrived.set() if message.kind is Kind.OVER else None)
    await one.send("two", MESSAGE)
    async with Background(grace_s=1) as background:
        background.loop("one", one.run)
        background.loop("two", two.run)
        await one.send("two", Message(Kind.OVER, MESSAGE.team, MESSAGE.task))
        async with asyncio.timeout(60):
            await arrived.wait()

    assert [MESSAGE, Message(Kind.OVER, MESSAGE.team, MESSAGE.task)] == heard["two"]
    assert [] == heard["one"]


async def test_a_message_to_oneself_needs_no_store(store: Store) -> None:
    """It is told at once."""
    heard: list[Message] = []
    wake = Wake(store, id="one")
    wake.listen(heard.append)
    await wake.send("one", MESSAGE)

    assert [MESSAGE] == heard
    assert 0 == await store.command("EXISTS", wake_key("one"))


async def test_a_message_nobody_understands_is_passed_over(store: Store) -> None:
    """One of a later release, or rubbish, does not keep the next one from being heard."""
    heard: list[Message] = []
    arrived = asyncio.Event()
    wake = Wake(store, id="one")
    wake.listen(heard.append)
    wake.listen(lambda _: arrived.set())
    for said in (b"{", orjson.dumps({"kind": "sung"}), orjson.dumps({"kind": "over", "new": 1})):
        await store.command("XADD", wake_key("one"), "*", "message", said)
    await Wake(store, id="other").send("one", MESSAGE)
    async with Background(grace_s=1) as background:
        background.loop("one", wake.run)
        async with asyncio.timeout(60):
            await arrived.wait()

    assert [MESSAGE] == heard


async def test_messages_do_not_stay_for_ever(store: Store) -> None:
    """What a dead process will never read goes by itself."""
    await Wake(store, id="other").send("dead", MESSAGE)

    assert 0 < await store.command("TTL", wake_key("dead")) <= 600  # type: ignore[operator]
