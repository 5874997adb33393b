from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.tasks.gate import Capacity, Granted, Permit
from gateway.tasks.turnstile import RECONCILE_EVERY_S, Turnstile
from tests.support.clock import LoopClock, in_virtual_time

DESIGN = TeamId("design")
ACCOUNTS = {"evolink": Capacity(1, 20), "spare": Capacity(2, 0)}


class Shared:
    """Implements `Permits`: a set for each account, and everything that was said."""

    def __init__(self) -> None:
        self.down = False
        self.sets: dict[str, dict[str, Permit]] = {"evolink": {}, "spare": {}}
        self.calls: list[tuple[object, ...]] = []

    async def _note(self, *said: object) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable
        self.calls.append(said)

    async def acquire(self, account: str, capacity: Capacity, wanted: Sequence[Permit]) -> Granted:
        """Grant while there is room."""
        await self._note("acquire", account, capacity)
        holders = self.sets[account]
        granted = set()
        for permit in wanted:
            if permit.render_id in holders or len(holders) < capacity.max_in_flight:
                holders[permit.render_id] = permit
                granted.add(permit.render_id)
        return Granted(frozenset(granted), 0.2, full=True, pace_version=0)

    async def register(self, account: str, permits: Sequence[Permit]) -> None:
        """Take them in."""
        await self._note("register", account, [permit.render_id for permit in permits])
        self.sets[account] |= {permit.render_id: permit for permit in permits}

    async def release(self, account: str, render_ids: Sequence[str]) -> None:
        """Take them out."""
        await self._note("release", account, sorted(render_ids))
        for render_id in render_ids:
            self.sets[account].pop(render_id, None)

    async def slow_down(
        self, account: str, capacity: Capacity, *, pace_version: int, pause_s: float
    ) -> None:
        """Only write it down."""
        await self._note("slow_down", account, capacity, pause_s)

    async def holders(self, account: str) -> Sequence[Permit]:
        """Return the set."""
        await self._note("holders", account)
        return list(self.sets[account].values())

    def said(self, verb: str) -> list[tuple[object, ...]]:
        """Return all calls of one verb."""
        return [said for name, *said in self.calls if name == verb]  # type: ignore[misc] - lists


class Records:
    """The records of tasks: which renders are not over."""

    def __init__(self, *live: str) -> None:
        self.live = set(live)
        self.asked: list[list[str]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    async def is_live(self, permits: Sequence[Permit]) -> Collection[str]:
        """Tell which of these are live."""
        self.asked.append(sorted(permit.render_id for permit in permits))
        await asyncio.sleep(0)
        self.meanwhile()
        return self.live & {permit.render_id for permit in permits}


Plan = Callable[[Turnstile], Awaitable[None]]


def _turnstile(shared: Shared, records: Records) -> Turnstile:
    return Turnstile(ACCOUNTS, permits=shared, is_live=records.is_live, clock=LoopClock())


def _run(shared: Shared, records: Records, plan: Plan) -> None:
    """Run a turnstile in virtual time until the plan has ended."""

    async def scenario() -> None:
        turnstile = _turnstile(shared, records)
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(turnstile.run())
            await plan(turnstile)
            loop.cancel()

    in_virtual_time(scenario())


def _permits(*render_ids: str) -> dict[str, Permit]:
    return {render_id: Permit(render_id, DESIGN) for render_id in render_ids}


def test_accounts_do_not_wait_for_each_other() -> None:
    """Each has its own room, its own queue and its own settings."""
    shared, records = Shared(), Records("r1", "r2", "r3")

    async def plan(turnstile: Turnstile) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(turnstile.enter("evolink", DESIGN, "r1", 9))
            waiting = group.create_task(turnstile.enter("evolink", DESIGN, "r2", 9))
            await asyncio.sleep(1)
            assert await turnstile.enter("spare", DESIGN, "r3", 9) == 0.0
            lengths = [turnstile.queue_length(account) for account in ACCOUNTS]
            assert lengths == [1, 0]
            turnstile.leave("evolink", "r1")
            await asyncio.sleep(0.1)
            assert waiting.result() == pytest.approx(1.05)

    _run(shared, records, plan)

    assert shared.said("acquire")[-1] in (["evolink", Capacity(1, 20)], ["spare", Capacity(2, 0)])
    assert shared.sets == {"evolink": _permits("r2"), "spare": _permits("r3")}


def test_verbs_reach_their_account() -> None:
    """Every one of them, with the account's settings."""
    shared, records = Shared(), Records("r1", "r2", "r3")

    async def plan(turnstile: Turnstile) -> None:
        await asyncio.sleep(1)
        turnstile.adopt("spare", DESIGN, "r1")
        turnstile.adopt("spare", DESIGN, "r2")
        turnstile.forget("spare", "r2")
        turnstile.slow_down("spare", "r1", 4.0)
        turnstile.leave("spare", "r3")
        await asyncio.sleep(1)

    _run(shared, records, plan)

    assert [call for call in shared.calls if call[0] != "holders"] == [
        ("slow_down", "spare", Capacity(2, 0), 4.0),
        ("register", "spare", ["r1"]),
        ("release", "spare", ["r3"]),
    ]


def test_an_account_may_be_resized() -> None:
    """The next permits are asked for within its new capacity; the other account keeps its own."""
    shared, records = Shared(), Records("r1", "r2")

    async def plan(turnstile: Turnstile) -> None:
        await turnstile.enter("spare", DESIGN, "r1", 1)
        turnstile.resize({"evolink": Capacity(1, 20), "spare": Capacity(7, 3)})
        await turnstile.enter("spare", DESIGN, "r2", 1)
        await turnstile.enter("evolink", DESIGN, "r1", 1)

    _run(shared, records, plan)

    assert [["spare", Capacity(2, 0)], ["spare", Capacity(7, 3)], ["evolink", Capacity(1, 20)]] == (
        shared.said("acquire")
    )


def test_an_unknown_account_is_a_defect() -> None:
    """Nothing is counted for what is not configured."""

    async def scenario() -> None:
        turnstile = _turnstile(Shared(), Records())
        with pytest.raises(KeyError):
            await turnstile.enter("nobody", DESIGN, "r1", 1)
        with pytest.raises(KeyError):
            turnstile.leave("nobody", "r1")

    in_virtual_time(scenario())


def test_a_flush_tells_for_all_accounts() -> None:
    """The last words of a process that stops."""
    shared = Shared()

    async def scenario() -> None:
        turnstile = _turnstile(shared, Records())
        turnstile.leave("evolink", "r1")
        turnstile.leave("spare", "r2")
        await turnstile.flush()
        shared.down = True
        turnstile.leave("spare", "r3")
        with pytest.raises(StoreUnavailable):
            await turnstile.flush()

    in_virtual_time(scenario())

    assert shared.said("release") == [["evolink", ["r1"]], ["spare", ["r2"]]]


class TestReconciling:
    """Permits compared with the records of tasks."""

    def test_what_is_over_is_taken(self) -> None:
        """Whoever held it: here a replica that died, and an answer that was lost."""
        shared, records = Shared(), Records("alive")
        shared.sets["spare"] = _permits("alive", "dead1", "dead2")

        async def plan(turnstile: Turnstile) -> None:
            await asyncio.sleep(0.1)

        _run(shared, records, plan)

        assert shared.sets["spare"] == _permits("alive")
        assert records.asked == [["alive", "dead1", "dead2"]]

    def test_it_goes_on_for_ever(self) -> None:
        """At the start and every half minute, also after a time without the store."""
        shared, records = Shared(), Records()

        async def plan(turnstile: Turnstile) -> None:
            shared.down = True
            await asyncio.sleep(2.5 * RECONCILE_EVERY_S)
            shared.down = False
            shared.sets["spare"] = _permits("dead")
            await asyncio.sleep(RECONCILE_EVERY_S)
            shared.sets["evolink"] = _permits("dead")
            await asyncio.sleep(RECONCILE_EVERY_S)

        _run(shared, records, plan)

        assert RECONCILE_EVERY_S == 30.0
        assert shared.sets == {"evolink": {}, "spare": {}}
        assert len(shared.said("holders")) == 4

    def test_an_empty_account_asks_no_records(self) -> None:
        """There is nothing to compare."""
        shared, records = Shared(), Records()

        async def plan(turnstile: Turnstile) -> None:
            await asyncio.sleep(100)

        _run(shared, records, plan)

        assert records.asked == []

    def test_what_is_in_flight_here_is_compared_too(self) -> None:
        """A permit that the store lost is written again; what ended unheard of is given up."""
        shared, records = Shared(), Records("kept")

        async def plan(turnstile: Turnstile) -> None:
            await asyncio.sleep(1)
            await turnstile.enter("spare", DESIGN, "kept", 1)
            await turnstile.enter("spare", DESIGN, "over", 1)
            shared.sets["spare"].clear()
            await turnstile.reconcile("spare")
            await asyncio.sleep(1)
            assert turnstile._gates["spare"].held == (Permit("kept", DESIGN),)

        _run(shared, records, plan)

        assert records.asked == [["kept", "over"]]
        assert shared.sets["spare"] == _permits("kept")
        assert shared.said("register") == [["spare", ["kept"]]]

    def test_what_ends_meanwhile_is_not_written_again(self) -> None:
        """A render that left while the records were read stays gone."""
        shared, records = Shared(), Records("r1")

        async def plan(turnstile: Turnstile) -> None:
            await asyncio.sleep(1)
            await turnstile.enter("spare", DESIGN, "r1", 1)
            shared.sets["spare"].clear()
            records.meanwhile = lambda: turnstile.leave("spare", "r1")
            await turnstile.reconcile("spare")
            await asyncio.sleep(1)

        _run(shared, records, plan)

        assert shared.said("register") == []
        assert shared.sets["spare"] == {}

    def test_who_enters_meanwhile_is_left_alone(self) -> None:
        """Only what was compared is corrected."""
        shared, records = Shared(), Records("r1")

        async def plan(turnstile: Turnstile) -> None:
            await asyncio.sleep(1)
            shared.sets["spare"] = _permits("dead")
            async with asyncio.TaskGroup() as group:
                group.create_task(turnstile.reconcile("spare"))
                group.create_task(turnstile.enter("spare", DESIGN, "r9", 9))
            await asyncio.sleep(1)

        _run(shared, records, plan)

        assert shared.sets["spare"] == _permits("r9")


def test_a_defect_ends_the_loop() -> None:
    """What is not the store's failure is not hidden."""

    async def broken(permits: Sequence[Permit]) -> Collection[str]:
        await asyncio.sleep(0)
        raise RuntimeError("a defect")

    async def scenario() -> None:
        shared = Shared()
        shared.sets["spare"] = _permits("r1")
        turnstile = Turnstile(ACCOUNTS, permits=shared, is_live=broken, clock=LoopClock())
        with pytest.raises(ExceptionGroup) as caught:
            await turnstile.run()
        assert caught.value.subgroup(RuntimeError) is not None

    in_virtual_time(scenario())
