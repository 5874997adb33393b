"""Asking replicas to read their settings again, over the real store."""

from __future__ import annotations

import asyncio

from gateway.background import Background, SystemClock
from gateway.store.client import Store
from gateway.store.keyspace import reload_key
from gateway.tasks.reload_calls import KEEP_S, Answer, Outcome, ReloadCalls
from gateway.tasks.replica import Replica
from gateway.tasks.wake import Kind, Message, Wake

REFUSED = Answer(Outcome.REFUSED, ("redis.url: cannot change", "server.wait: expected"))


async def test_who_answers_in_time_is_heard(store: Store) -> None:
    """The problems come word for word; of who says nothing there is nothing."""
    calls = ReloadCalls(store, SystemClock())
    one = Wake(store, id="one")

    async with Background(grace_s=1) as background:

        def hear(message: Message) -> None:
            assert message.kind is Kind.RELOAD
            background.step("answer", calls.answer(message.answer_to, "one", REFUSED))

        one.listen(hear)
        background.loop("wake", one.run)
        heard = await calls.ask(["one"], call="a-call", within_s=60)
        answers = await calls.ask(["one", "two"], call="a-call", within_s=0.2)
        other = await calls.ask(["two"], call="another", within_s=0.0)

    assert {"one": REFUSED} == heard == answers
    assert {} == other
    left_s = await store.command("TTL", reload_key("a-call"))
    assert isinstance(left_s, int)
    assert 0 < left_s <= KEEP_S


async def test_those_that_live_are_asked(store: Store) -> None:
    """Who renewed its place within a lease and has not left; looking changes nothing."""
    calls = ReloadCalls(store, SystemClock())
    one, two = (Replica(store, SystemClock(), id=name, lease_s=60) for name in ("one", "two"))
    await one.renew()
    await two.renew()
    both = await calls.replicas(lease_s=60)
    await two.leave()
    alone = await calls.replicas(lease_s=60)
    await asyncio.sleep(0.1)
    nobody = await calls.replicas(lease_s=0.05)
    await two.renew()

    assert (("one", "two"), ("one",), ()) == (both, alone, nobody)
