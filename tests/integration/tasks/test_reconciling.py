from __future__ import annotations

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import ORGANIZATION
from gateway.domain.limits import Budget, Period
from gateway.domain.task import RenderState
from gateway.ledger.audit import verify
from gateway.ledger.redis_books import RedisBooks
from gateway.providers.interface import Running
from gateway.store.client import Store
from gateway.tasks.interface import Call
from gateway.tasks.reconciling import REMEMBER_S, SETTLING_S
from tests.support.engine import COST, DONE, HOLD, TEAM, House, open_house, over, until
from tests.support.journal import TroubledStore, keys_in, moment_of, set_back
from tests.support.organization import purse


async def test_tasks_that_are_over_are_known_until_they_were_compared(
    house: House, store: Store
) -> None:
    """Long enough after their end: replicas of the store may lag so far behind."""
    reconciler = house.engine.reconciler
    live = (await house.picture()).task
    await reconciler.compare(TEAM.id)
    early = reconciler.remembered(live.id)
    await house.later(REMEMBER_S + 1)
    late = reconciler.remembered(live.id)
    await reconciler.compare(TEAM.id)

    assert early is late is not None
    assert {} == early.task.order.body  # nor is the prompt kept for it
    assert None is reconciler.remembered(live.id)
    assert (COST, 0) == await house.money()


async def test_a_record_that_has_expired_stays_away(store: Store) -> None:
    """It was kept for as long as it should be: that is no loss."""
    async with open_house(store) as house:
        live = (await house.picture()).task
        await store.command("DEL", f"{{t:design}}:task:{live.id}")
        await house.later(REMEMBER_S + 20)
        await house.engine.reconciler.compare(TEAM.id)

        assert None is await house.journal.read(TEAM.id, live.id)


async def test_a_call_waits_until_the_store_has_been_told(troubled: TroubledStore) -> None:
    """After a failure of the store, what was lost is written before a call may miss it."""
    async with open_house(troubled) as house:
        await house.admit()
        await house.engine.reconciler.compare(TEAM.id)
        await troubled.command_everywhere("FLUSHALL")
        troubled.doubts_more = 1
        retry = await house.call("task2", call=Call("call_task1", "waiter2", count=1))

        assert ("task1", True) == (retry.task, retry.joined)


async def test_retries_wait_for_whoever_may_know_their_task(store: Store) -> None:
    """Another server has come: for a moment no retry is a call of its own, and then it is."""
    async with open_house(store) as house:
        reconciler = house.engine.reconciler
        await reconciler.compare(TEAM.id)
        reconciler._teams[TEAM.id].server = "another"
        await reconciler.compare(TEAM.id)
        with pytest.raises(StoreUnavailable):
            await house.call(call=Call("call_task1", "waiter1", count=1))
        first = await house.call("task2", call=Call("call_task2", "waiter2"))
        joined = await house.call("task3", call=Call("call_task2", "waiter3", count=1))
        await house.later(SETTLING_S)
        late = await house.call("task4", call=Call("call_task1", "waiter1", count=1))

        assert ("task2", "task2") == (first.task, joined.task)
        assert ("task4", False) == (late.task, late.joined)


async def test_nobody_is_gone_by_what_a_new_server_says(store: Store) -> None:
    """Its owner may only not have told it yet; after a whole lease it is gone."""
    async with open_house(store) as house:
        await house.engine.reconciler.compare(TEAM.id)
        assert not house.replica.is_gone("replica_0")
        for _ in range(6):
            await house.later(2.0)
        before = house.replica.is_gone("replica_0")
        house.engine.reconciler._teams[TEAM.id].server = "another"
        await house.engine.reconciler.compare(TEAM.id)
        then = house.replica.is_gone("replica_0")
        for _ in range(6):
            await house.later(2.0)

        assert (True, False) == (before, then)
        assert house.replica.is_gone("replica_0")


async def test_the_organization_holds_again_what_only_it_has_lost(store: Store) -> None:
    """Its slot may be on a server of its own: what was settled for it is told once more."""
    async with open_house(store, shared=(Budget("org", 10**6, Period.TOTAL),)) as house:
        live = await house.admit(images=2)
        house.provider.polls_of = {"up-2": [Running(), DONE]}
        await house.poller.poll(2)
        await house.outbox.flush(TEAM.id)
        before = await purse(store)
        for key in await keys_in(store, "{org}*"):
            await store.command("DEL", key)
        house.engine.reconciler._teams[TEAM.id].server = "another"
        await house.engine.reconciler.compare(TEAM.id)
        await house.outbox.flush(TEAM.id)
        after = await purse(store)
        await house.poller.poll()
        await over(live)
        await house.outbox.flush(TEAM.id)
        findings = (await verify(RedisBooks(store), ORGANIZATION)).findings

        assert [(COST, HOLD)] == list(before.values()) == list(after.values())
        assert [(2 * COST, 0)] == list((await purse(store)).values())
        assert () == findings


async def test_what_is_known_here_is_not_taken_from_the_record(store: Store) -> None:
    """A render that was submitted stays so, though the store says that it is queued."""
    async with open_house(store) as house:
        moment = await moment_of(store)
        await house.engine.reconciler.compare(TEAM.id)
        live = await house.admit()
        await until(lambda: live.renders[0].render.state is RenderState.SUBMITTED)
        await set_back(store, moment)
        await house.engine.reconciler.catch_up(TEAM.id)
        unseen = await house.journal.read(TEAM.id, live.task.id)
        await house.engine.reconciler.compare(TEAM.id)
        await house.poller.poll()
        await over(live)

        assert None is unseen  # nothing gave a reason to look
        assert (1, (COST, 0)) == (len(house.provider.keys), await house.money())
