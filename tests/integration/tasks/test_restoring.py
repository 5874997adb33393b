"""The store comes back as it was some steps ago, anywhere in the life of a task."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

import pytest

from gateway.domain.task import FailureKind, RenderState
from gateway.ledger.audit import verify
from gateway.ledger.redis_books import RedisBooks
from gateway.providers.interface import Accepted, Failed, Running
from gateway.store.client import Argument, Reply, Store
from gateway.store.connect import Acknowledgement
from gateway.store.scripts import Script
from gateway.tasks.interface import Call, OwnershipLostError
from gateway.tasks.live import MovedError
from tests.support.engine import COST, DONE, HOLD, TEAM, ScriptedProvider, open_house, over, until
from tests.support.journal import (
    Moment,
    a_journal,
    ledger_in,
    moment_of,
    record_in,
    seen_to_by,
    set_back,
)
from tests.support.valkey import ValkeyProcess

#: The steps of a task that is raised: what changes its record or its money.
STEPS = ("admit", "advance", "advance", "raise", "conclude")
NAMES = frozenset(STEPS)


class ForgetfulStore(Store):
    """A store that is set back once: before step `at`, to what it was after `kept` steps."""

    def __init__(self, url: str, *, kept: int, at: int) -> None:
        super().__init__(url, timeout_ms=2_000)
        self._kept, self._at = kept, at
        self._moment: Moment | None = None
        self.steps = 0

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        acknowledgement: Acknowledgement | None = None,
    ) -> Reply:
        """Run a script, after what is due before it."""
        if script.name in NAMES:
            if self.steps == self._kept and self._moment is None:
                self._moment = await moment_of(self)
            if self.steps == self._at:
                await self.lose()
            self.steps += 1
        return await super().run(script, keys, arguments, acknowledgement=acknowledgement)

    async def lose(self) -> None:
        """Be set back, once."""
        if self._moment is not None:
            moment, self._at = self._moment, -1
            await set_back(self, moment)


def raising() -> ScriptedProvider:
    """Build an upstream that sets more aside than was held, and needs two polls."""
    accepted = Accepted("up-1", credits_reserved=Fraction("0.816"))
    return ScriptedProvider(submits=[accepted], polls=[Running(), DONE])


@pytest.mark.parametrize(
    ("kept", "at"),
    list(combinations(range(len(STEPS) + 1), 2)),
    ids=str,
)
async def test_a_task_that_is_set_back_is_paid_for_once(
    store: Store, valkey_process: ValkeyProcess, kept: int, at: int
) -> None:
    """Whatever was lost, and whenever: one submission, one charge, one picture, true books."""
    async with (
        ForgetfulStore(valkey_process.url, kept=kept, at=at) as forgetful,
        open_house(forgetful, provider=raising()) as house,
    ):
        live = await house.admit()
        for _ in range(2):
            await house.poller.poll()
        outcome = await over(live)
        if at == len(STEPS):
            await forgetful.lose()
        await house.engine.reconciler.compare(TEAM.id)
        ledger = await ledger_in(store)
        retry = await house.call("task2", call=Call("call_task1", "waiter2", count=1))

        assert (1, 1) == (len(outcome.delivered), len(house.provider.keys))
        assert (COST, 0) == await house.money()
        assert 1 == [line["verb"] for line in ledger].count("settle")
        assert () == (await verify(RedisBooks(store), TEAM.id)).findings
        assert 1 == house.renders("completed")
        assert "task1" == retry.task


async def test_parts_of_a_task_come_back_as_they_were(
    store: Store, valkey_process: ValkeyProcess
) -> None:
    """Of three pictures one had failed at no charge and one was paid for when all was lost."""
    provider = ScriptedProvider(
        polls_of={
            "up-1": [Failed(FailureKind.MODERATION, "no")],
            "up-2": [DONE],
            "up-3": [Running(), DONE],
        }
    )
    async with open_house(store, provider=provider) as house:
        moment = await moment_of(store)
        live = await house.admit(images=3)
        await house.poller.poll(3)
        await until(lambda: sum(one.render.settled for one in live.renders) == 2)
        await set_back(store, moment)
        await house.engine.reconciler.compare(TEAM.id)
        states = [render.state for render in (await house.written()).renders]
        money = await house.money()
        await house.poller.poll()
        await over(live)

        assert (COST, HOLD) == money
        assert {RenderState.FAILED, RenderState.COMPLETED, RenderState.SUBMITTED} == set(states)
        assert (3, (2 * COST, 0)) == (len(house.provider.keys), await house.money())
        assert () == (await verify(RedisBooks(store), TEAM.id)).findings


@pytest.mark.parametrize("is_later", [True, False], ids=["a later epoch", "the same epoch"])
async def test_who_took_the_task_since_keeps_it(store: Store, is_later: bool) -> None:
    """What the store says of another owner is not taken back, however much more is known here."""
    async with open_house(store) as house:
        task = await house.left_behind(RenderState.QUEUED)
        moment = await moment_of(store)
        live = await house.take(task)
        await until(lambda: live.renders[0].render.state is RenderState.SUBMITTED)
        await set_back(store, moment)
        taker = a_journal(store, owner="replica_2")
        taken = await taker.take(TEAM.id, task.id, owner="replica_0")
        if is_later:
            await taker.hand_over(taken)  # type: ignore[arg-type]
            await taker.take(TEAM.id, task.id, owner="")
        await house.engine.reconciler.compare(TEAM.id)
        with pytest.raises(MovedError):
            await over(live)

        assert "replica_2" == (await record_in(store))["owner"]
        assert {} == house.engine.running


async def test_a_takeover_that_is_lost_is_made_again(store: Store) -> None:
    """The former owner is fenced again, and the task goes on from what is known here."""
    async with open_house(store) as house:
        task = await house.left_behind(RenderState.QUEUED)
        moment = await moment_of(store)
        live = await house.take(task)
        await until(lambda: live.renders[0].render.state is RenderState.SUBMITTED)
        await set_back(store, moment)
        await house.engine.reconciler.compare(TEAM.id)
        former = a_journal(store, owner="replica_0")
        with pytest.raises(OwnershipLostError):
            await former.begin_submit(task, task.renders[0], "run_9")
        written = await house.written()
        seen_to = (await seen_to_by(store), await seen_to_by(store, "replica_0"))
        await house.poller.poll()
        await over(live)

        assert ("replica_1", 2) == (written.owner, written.epoch)
        assert (RenderState.SUBMITTED, "up-1") == (
            written.renders[0].state,
            written.renders[0].upstream_id,
        )
        assert (["task1"], []) == seen_to
        assert (1, (COST, 0)) == (len(house.provider.keys), await house.money())


async def test_a_call_that_has_left_is_an_orphan_again(store: Store) -> None:
    """A call without any sign gets the picture that nobody waits for, as before the loss."""
    async with open_house(store) as house:
        first = await house.call()
        await house.engine.leave(first)
        await store.command_everywhere("FLUSHALL")
        await house.engine.reconciler.compare(TEAM.id)
        again = await house.call("task2", call=Call("call_task1", "waiter2"))

        assert ("task1", True) == (again.task, again.joined)
