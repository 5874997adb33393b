from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.tasks.gate import (
    MAX_PER_CALL,
    MIN_PER_CALL,
    TELL_WITHIN_S,
    Capacity,
    DeadlinePassedError,
    Gate,
    Granted,
    Permit,
)
from tests.support.clock import LoopClock, in_virtual_time

A, B = TeamId("a"), TeamId("b")
FOREVER_S = 1e6
#: What the store says when there is no room.
AGAIN_S = 0.2


class Room:
    """Implements `Permits` for one account: so many places, all calls written down.

    `trip_s` is how long a call takes. `down` refuses calls unheard; `deaf` runs them and loses the
    answer.
    """

    def __init__(self, places: int, *, trip_s: float = 0.0) -> None:
        self.places = places
        self.trip_s = trip_s
        self.down = self.deaf = False
        self.full = True
        self.version = 7
        self.on_granted: Callable[[], object] = lambda: None
        self.holders_now: dict[str, Permit] = {}
        self.calls: list[tuple[str, object]] = []

    async def _travel(self, verb: str, said: object) -> None:
        self.calls.append((verb, said))
        await asyncio.sleep(self.trip_s)
        if self.down:
            raise StoreUnavailable

    def _answered(self) -> None:
        if self.deaf:
            raise StoreUnavailable

    async def acquire(self, account: str, capacity: Capacity, wanted: Sequence[Permit]) -> Granted:
        """Grant in order while there are places."""
        await self._travel("acquire", [permit.render_id for permit in wanted])
        granted = set()
        for permit in wanted:
            if permit.render_id in self.holders_now or len(self.holders_now) < self.places:
                self.holders_now[permit.render_id] = permit
                granted.add(permit.render_id)
        self._answered()
        # Runs after whoever was granted has been told, and before they go on.
        asyncio.get_running_loop().call_soon(self.on_granted)
        refused = len(granted) < len(wanted)
        return Granted(
            frozenset(granted), AGAIN_S if refused else 0.0, refused and self.full, self.version
        )

    async def register(self, account: str, permits: Sequence[Permit]) -> None:
        """Hold whatever there is room for."""
        await self._travel("register", [permit.render_id for permit in permits])
        self.holders_now |= {permit.render_id: permit for permit in permits}
        self._answered()

    async def release(self, account: str, render_ids: Sequence[str]) -> None:
        """Make room."""
        await self._travel("release", sorted(render_ids))
        for render_id in render_ids:
            self.holders_now.pop(render_id, None)
        self._answered()

    async def slow_down(
        self, account: str, capacity: Capacity, *, pace_version: int, pause_s: float
    ) -> None:
        """Only write it down."""
        await self._travel("slow_down", (pace_version, round(pause_s, 3)))

    async def holders(self, account: str) -> Sequence[Permit]:
        """Return who holds a place."""
        return list(self.holders_now.values())

    def said(self, verb: str) -> list[object]:
        """Return what was said in all calls of one verb."""
        return [said for name, said in self.calls if name == verb]


Plan = Callable[[Gate, "Renders"], Awaitable[None]]


class Renders:
    """Renders that go through a gate, and when each was let through."""

    def __init__(self, gate: Gate, group: asyncio.TaskGroup) -> None:
        self._gate = gate
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []
        self.through: list[tuple[str, float]] = []
        self.late: list[str] = []

    def enter(
        self, render_id: str, *, deadline_s: float = FOREVER_S, returning: bool = False
    ) -> asyncio.Task[None]:
        """Let a render wait for its turn; its first letter is its team."""
        task = self._group.create_task(self._enter(render_id, deadline_s, returning=returning))
        self._tasks.append(task)
        return task

    def stop(self) -> None:
        """Let nobody wait any longer."""
        for task in self._tasks:
            task.cancel()

    async def _enter(self, render_id: str, deadline_s: float, *, returning: bool) -> None:
        permit = Permit(render_id, TeamId(render_id[0]))
        try:
            waited_s = await self._gate.enter(permit, deadline_s, returning=returning)
        except DeadlinePassedError:
            self.late.append(render_id)
        else:
            self.through.append((render_id, round(waited_s, 3)))

    @property
    def order(self) -> list[str]:
        """Who was let through, in order."""
        return [render_id for render_id, _ in self.through]


def _run(room: Room, plan: Plan) -> Renders:
    """Run a gate in virtual time until the plan has ended."""

    async def scenario() -> Renders:
        gate = Gate("evolink", Capacity(3, 0), room, LoopClock())
        async with asyncio.TaskGroup() as group:
            renders = Renders(gate, group)
            loop = group.create_task(gate.run())
            await plan(gate, renders)
            renders.stop()
            loop.cancel()
        return renders

    return in_virtual_time(scenario())


def test_an_uncontended_render_costs_one_call_and_no_time() -> None:
    """With room there is no sleep: only the trip to the store."""
    room = Room(3, trip_s=0.004)

    async def plan(gate: Gate, renders: Renders) -> None:
        await asyncio.sleep(10)
        await renders.enter("a1")

    renders = _run(room, plan)

    assert renders.through == [("a1", 0.004)]
    assert room.calls == [("acquire", ["a1"])]


def test_many_at_once_go_in_one_call() -> None:
    """Renders of one moment are asked for together, teams in turn."""
    room = Room(3)

    async def plan(gate: Gate, renders: Renders) -> None:
        await asyncio.gather(renders.enter("a1"), renders.enter("a2"), renders.enter("b1"))

    renders = _run(room, plan)

    assert room.calls == [("acquire", ["a1", "b1", "a2"])]
    assert sorted(renders.order) == ["a1", "a2", "b1"]


def test_who_waits_is_let_through_in_turn() -> None:
    """Each place that becomes free goes to the next team, within a team to who came first."""
    room = Room(1)

    async def plan(gate: Gate, renders: Renders) -> None:
        for render_id in ("a1", "a2", "a3", "a4", "b1", "b2"):
            renders.enter(render_id)
        for _ in range(6):
            await asyncio.sleep(1)
            gate.leave(renders.order[-1])

    renders = _run(room, plan)

    assert renders.order == ["a1", "b1", "a2", "b2", "a3", "a4"]


def test_a_burst_does_not_starve_a_single_render() -> None:
    """Five hundred of one team in front: the other team's one is the next but one."""
    room = Room(2)

    async def plan(gate: Gate, renders: Renders) -> None:
        for number in range(500):
            renders.enter(f"a{number}")
        await asyncio.sleep(1)
        renders.enter("b1")
        for _ in range(3):
            gate.leave(renders.order[-1])
            await asyncio.sleep(1)
        assert len(gate) == 496
        for number in range(500):
            gate.leave(f"a{number}")
        room.places = 1000
        await asyncio.sleep(1)

    renders = _run(room, plan)

    assert renders.order.index("b1") in {2, 3}
    assert len(renders.order) == 501


def test_a_full_account_is_asked_again_when_the_store_says() -> None:
    """Another replica may have made room; a few names are enough to find out."""
    room = Room(0)

    async def plan(gate: Gate, renders: Renders) -> None:
        for number in range(300):
            renders.enter(f"a{number}")
        await asyncio.sleep(3.5 * AGAIN_S)
        assert renders.order == []
        room.places = 1000
        await asyncio.sleep(AGAIN_S)

    renders = _run(room, plan)
    sizes = [len(names) for names in room.said("acquire")]  # type: ignore[arg-type] - lists

    assert sizes == [MAX_PER_CALL, *[MIN_PER_CALL] * 4, MAX_PER_CALL, 300 - 16 - 256]
    assert len(renders.order) == 300


def test_waiting_costs_no_calls_between() -> None:
    """Newcomers of a full account wait for its next turn instead of asking each."""
    room = Room(0)

    async def plan(gate: Gate, renders: Renders) -> None:
        renders.enter("a1")
        await asyncio.sleep(0.01)
        for number in range(2, 20):
            renders.enter(f"a{number}")
            await asyncio.sleep(0.001)
        assert len(room.calls) == 1
        room.places = 100
        await asyncio.sleep(1)

    renders = _run(room, plan)

    assert len(renders.order) == 19


class TestLeaving:
    """Permits that are given back."""

    def test_they_go_together_within_a_moment(self) -> None:
        """Fifty milliseconds are gathered; each render is told once."""
        room = Room(3)

        async def plan(gate: Gate, renders: Renders) -> None:
            for render_id in ("a2", "a1", "a2"):
                gate.leave(render_id)
                await asyncio.sleep(0.01)
            assert room.calls == []
            await asyncio.sleep(TELL_WITHIN_S)
            assert room.calls == [("release", ["a1", "a2"])]
            await asyncio.sleep(10)

        _run(room, plan)

        assert TELL_WITHIN_S == 0.05
        assert len(room.calls) == 1

    def test_many_are_told_in_bounded_calls(self) -> None:
        """However many leave at once."""
        room = Room(3)

        async def plan(gate: Gate, renders: Renders) -> None:
            for number in range(MAX_PER_CALL + 1):
                gate.leave(f"a{number}")
            await asyncio.sleep(1)

        _run(room, plan)
        sizes = [len(names) for names in room.said("release")]  # type: ignore[arg-type] - lists

        assert sizes == [MAX_PER_CALL, 1]

    def test_room_made_here_is_asked_for_at_once(self) -> None:
        """Not only when the store said to come again."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            await asyncio.sleep(10)
            renders.enter("a2")
            gate.leave("a1")
            await asyncio.sleep(1)

        renders = _run(room, plan)

        assert renders.through == [("a1", 0.0), ("a2", TELL_WITHIN_S)]

    def test_an_account_that_is_resized_is_asked_at_once(self) -> None:
        """Who waits does not wait for what the store said of the old size."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            renders.enter("a2")
            await asyncio.sleep(10 + AGAIN_S / 2)
            room.places = 2
            gate.resize(Capacity(2, 0))
            await asyncio.sleep(AGAIN_S / 4)

        renders = _run(room, plan)

        assert ["a1", "a2"] == [name for name, _ in renders.through]

    def test_room_does_not_help_against_the_pace(self) -> None:
        """Who waits for the pace is not asked for again because somebody left."""
        room = Room(1)
        room.full = False

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            renders.enter("a2")
            await asyncio.sleep(0.01)
            gate.leave("a1")
            await asyncio.sleep(1)

        renders = _run(room, plan)

        assert renders.through == [("a1", 0.0), ("a2", AGAIN_S)]

    def test_an_idle_gate_asks_nothing(self) -> None:
        """No waiter, no news, no calls."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            await asyncio.sleep(3600)

        _run(room, plan)

        assert len(room.calls) == 1

    def test_a_render_may_come_back(self) -> None:
        """Its old permit is given back first, so that it stands in the queue like anybody."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            renders.enter("b1")
            gate.leave("a1")
            renders.enter("a1")
            await asyncio.sleep(1)
            gate.leave("b1")
            await asyncio.sleep(1)

        renders = _run(room, plan)

        assert renders.order == ["a1", "b1", "a1"]
        assert list(room.holders_now) == ["a1"]

    def test_a_render_may_come_back_at_once(self) -> None:
        """Also where there is room: what is told late must not take its new permit away."""
        room = Room(3)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            gate.leave("a1")
            await renders.enter("a1")
            await asyncio.sleep(1)

        renders = _run(room, plan)

        assert [verb for verb, _ in room.calls] == ["acquire", "release", "acquire"]
        assert list(room.holders_now) == ["a1"]
        assert renders.through == [("a1", 0.0)] * 2

    def test_a_stop_tells_what_is_left(self) -> None:
        """What was not told when the loop ended goes out with the last flush, permits stay."""
        room = Room(3)

        async def scenario() -> None:
            gate = Gate("evolink", Capacity(3, 0), room, LoopClock())
            gate.adopt(Permit("a1", A))
            gate.leave("a2")
            await gate.flush()
            await gate.flush()

        in_virtual_time(scenario())

        assert room.calls == [("register", ["a1"]), ("release", ["a2"])]


class TestGoingAway:
    """Callers that do not wait until their turn."""

    def test_after_the_deadline(self) -> None:
        """They are told so, leave the queue, and give back what they may have got."""
        room = Room(0)

        async def plan(gate: Gate, renders: Renders) -> None:
            renders.enter("a1", deadline_s=1)
            await asyncio.sleep(0.9)
            assert len(gate) == 1
            await asyncio.sleep(0.2)
            assert (len(gate), gate.held) == (0, ())

        renders = _run(room, plan)

        assert (renders.late, renders.order) == (["a1"], [])
        assert room.calls[-1] == ("release", ["a1"])

    def test_before_they_were_asked_for(self) -> None:
        """Nothing is given back by who never can have had anything."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            gate._ask_at_s = FOREVER_S
            task = renders.enter("a2")
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.sleep(1)
            assert len(gate) == 0

        _run(room, plan)

        assert room.calls == [("acquire", ["a1"])]

    @pytest.mark.parametrize("after_s", [0.0, 0.5, 1.0, 1.0001, 1.5])
    def test_at_any_moment(self, after_s: float) -> None:
        """A render that is cancelled leaves nothing behind, and the next gets its place."""
        room = Room(1, trip_s=1.0)

        async def plan(gate: Gate, renders: Renders) -> None:
            task = renders.enter("a1")
            await asyncio.sleep(after_s)
            if not task.done():
                task.cancel()
            else:
                gate.leave("a1")
            await asyncio.sleep(10)
            await renders.enter("a2")

        renders = _run(room, plan)

        assert renders.order[-1] == "a2"
        assert list(room.holders_now) == ["a2"]

    def test_in_the_moment_of_their_turn(self) -> None:
        """A permit that was granted to somebody who is being cancelled goes back."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            task = renders.enter("a1")
            room.on_granted = task.cancel
            await asyncio.sleep(1)
            assert gate.held == ()

        renders = _run(room, plan)

        assert renders.order == []
        assert room.said("release") == [["a1"]]
        assert room.holders_now == {}

    def test_others_keep_their_turn(self) -> None:
        """The queue closes up behind them."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            second = renders.enter("a2")
            renders.enter("a3")
            await asyncio.sleep(0.01)
            second.cancel()
            gate.leave("a1")
            await asyncio.sleep(1)

        assert _run(room, plan).order == ["a1", "a3"]


class TestStore:
    """A store that does not answer."""

    def test_renders_wait_for_it(self) -> None:
        """They are let through once it is back; it is asked less and less often meanwhile."""
        room = Room(3)
        room.down = True

        async def plan(gate: Gate, renders: Renders) -> None:
            renders.enter("a1")
            gate.leave("a9")
            await asyncio.sleep(10)
            assert renders.order == []
            room.down = False
            await asyncio.sleep(1.1)

        renders = _run(room, plan)

        assert renders.order == ["a1"]
        assert list(room.holders_now) == ["a1"]
        assert room.calls[-1] == ("acquire", ["a1"])
        assert len(room.calls) < 20

    def test_each_outage_begins_with_a_short_pause(self) -> None:
        """How long the last one took does not matter once the store has answered."""
        room = Room(3)

        async def plan(gate: Gate, renders: Renders) -> None:
            room.down = True
            first = renders.enter("a1")
            await asyncio.sleep(10)
            room.down = False
            await first
            room.down = True
            renders.enter("a2")
            await asyncio.sleep(0.01)
            room.down = False
            await asyncio.sleep(1)

        assert _run(room, plan).through[1] == ("a2", 0.1)

    def test_a_lost_answer_is_asked_for_again(self) -> None:
        """What was granted is found, in front of whoever came meanwhile, and held once."""
        room = Room(1)
        room.deaf = True

        async def plan(gate: Gate, renders: Renders) -> None:
            renders.enter("z1")
            await asyncio.sleep(0.01)
            room.deaf = False
            for number in range(2 * MIN_PER_CALL):
                renders.enter(f"{chr(97 + number % 20)}{number}")
            gate._per_call = MIN_PER_CALL
            await asyncio.sleep(1)

        renders = _run(room, plan)

        assert renders.order == ["z1"]
        assert list(room.holders_now) == ["z1"]

    def test_after_a_lost_answer_the_order_stands(self) -> None:
        """Those it was about are asked for in the order they had."""
        room = Room(0)
        room.deaf = True

        async def plan(gate: Gate, renders: Renders) -> None:
            for number in range(9):
                renders.enter(f"a{number}")
            await asyncio.sleep(0.01)
            room.deaf = False
            room.places = 2
            await asyncio.sleep(1)

        assert _run(room, plan).order == ["a0", "a1"]

    def test_who_goes_away_after_a_lost_answer_gives_back(self) -> None:
        """Nobody knows whether it held a permit, so it is given back."""
        room = Room(1)
        room.deaf = True

        async def plan(gate: Gate, renders: Renders) -> None:
            task = renders.enter("a1")
            await asyncio.sleep(0.01)
            assert list(room.holders_now) == ["a1"]
            task.cancel()
            room.deaf = False
            await asyncio.sleep(1)

        _run(room, plan)

        assert room.holders_now == {}


class TestHolding:
    """Renders that are in flight."""

    def test_who_holds_a_permit_enters_without_a_call(self) -> None:
        """A submit that is tried again was let through already."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            await renders.enter("a1")

        renders = _run(room, plan)

        assert renders.through == [("a1", 0.0), ("a1", 0.0)]
        assert len(room.calls) == 1

    def test_an_adopted_render_takes_room(self) -> None:
        """Even when there is none: it is in flight."""
        room = Room(0)

        async def plan(gate: Gate, renders: Renders) -> None:
            gate.adopt(Permit("a1", A))
            assert gate.held == (Permit("a1", A),)
            await asyncio.sleep(TELL_WITHIN_S + 0.01)
            gate.leave("a1")
            await asyncio.sleep(1)

        _run(room, plan)

        assert room.calls == [("register", ["a1"]), ("release", ["a1"])]

    def test_a_render_that_is_adopted_after_it_left_stays(self) -> None:
        """It was given up here and came back before anybody was told."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            gate.leave("a1")
            gate.adopt(Permit("a1", A))
            await asyncio.sleep(1)

        _run(room, plan)

        assert room.calls == [("register", ["a1"])]

    @pytest.mark.parametrize("verb", ["leave", "forget"])
    def test_an_adopted_render_that_is_gone_is_not_registered(self, verb: str) -> None:
        """What ends before it was told is not told afterwards."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            gate.adopt(Permit("a1", A))
            getattr(gate, verb)("a1")
            await asyncio.sleep(1)
            assert gate.held == ()

        _run(room, plan)

        assert room.said("register") == []

    def test_a_forgotten_render_keeps_its_permit(self) -> None:
        """It is another replica's; here it is not answered for any more."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            gate.forget("a1")
            await asyncio.sleep(1)
            assert gate.held == ()

        _run(room, plan)

        assert list(room.holders_now) == ["a1"]
        assert room.said("release") == []


class TestSlowingDown:
    """What the upstream's 429 sets off here."""

    def test_it_is_told_at_once_with_the_pace_it_is_about(self) -> None:
        """The version is the one this render was let through at, and the pause is what is left."""
        room = Room(5)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            room.version = 8
            await renders.enter("a2")
            gate.slow_down("a1", 30.0)
            await asyncio.sleep(0.001)
            gate.slow_down("a2", None)
            await asyncio.sleep(0.001)
            gate.slow_down("never-seen", 0.0)
            await asyncio.sleep(0.001)

        _run(room, plan)

        assert room.said("slow_down") == [(7, 30.0), (8, 0.0), (8, 0.0)]

    def test_a_burst_of_them_is_one_call(self) -> None:
        """The newest pace and the longest pause, up to five minutes, stand for all."""
        room = Room(5)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            room.version = 8
            await renders.enter("a2")
            for render_id, pause_s in (("a2", 4.0), ("a1", 9000.0), ("a1", -1.0)):
                gate.slow_down(render_id, pause_s)
            await asyncio.sleep(1)

        _run(room, plan)

        assert room.said("slow_down") == [(8, 300.0)]

    def test_one_that_comes_while_another_is_told_is_told_too(self) -> None:
        """It is about a newer pace, or asks for a longer pause."""
        room = Room(5, trip_s=1.0)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            gate.slow_down("a1", 0.0)
            await asyncio.sleep(0.5)
            gate.slow_down("a1", 30.0)
            await asyncio.sleep(5)

        _run(room, plan)

        assert room.said("slow_down") == [(7, 0.0), (7, 29.5)]

    def test_it_outlives_a_store_that_does_not_answer(self) -> None:
        """It is told when the store is back, and time that has passed is not asked for again."""
        room = Room(5)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            room.down = True
            gate.slow_down("a1", 30.0)
            await asyncio.sleep(10)
            room.down = False
            await asyncio.sleep(2)

        _run(room, plan)
        *_, (version, pause_s) = room.said("slow_down")  # type: ignore[misc] - pairs

        assert version == 7
        assert 19 <= pause_s <= 20

    def test_the_refused_render_comes_back_behind_it(self) -> None:
        """First the pace, then its permit, then its new wish, before the others of its team."""
        room = Room(1)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            renders.enter("a2")
            await asyncio.sleep(0.01)
            gate.slow_down("a1", 1.0)
            gate.leave("a1")
            renders.enter("a1", returning=True)
            await asyncio.sleep(1)

        renders = _run(room, plan)

        assert [verb for verb, _ in room.calls][2:5] == ["slow_down", "release", "acquire"]
        assert renders.order == ["a1", "a1"]


class TestCorrecting:
    """What a comparison of the store with the records sets right."""

    def test_what_is_over_loses_its_permit(self) -> None:
        """Also here, and also what nobody here let through."""
        room = Room(3)

        async def plan(gate: Gate, renders: Renders) -> None:
            await renders.enter("a1")
            await renders.enter("a2")
            gate.correct(stored=["a1", "a2", "b9"], gone=["a1", "b9"])
            await asyncio.sleep(1)
            assert gate.held == (Permit("a2", A),)

        _run(room, plan)

        assert room.said("release") == [["a1", "b9"]]
        assert room.said("register") == []

    def test_what_the_store_lost_is_written_again(self) -> None:
        """Unless it is over."""
        room = Room(3)

        async def plan(gate: Gate, renders: Renders) -> None:
            for render_id in ("a1", "a2", "b3"):
                await renders.enter(render_id)
            gate.correct(stored=["a1"], gone=["b3"])
            await asyncio.sleep(1)

        _run(room, plan)

        assert room.said("register") == [["a2"]]

    def test_who_waits_although_it_holds_a_permit_is_asked_for_first(self) -> None:
        """A render taken over from a dead replica, deep in a queue that nobody else can leave."""
        room = Room(1)
        room.holders_now = {"z9": Permit("z9", TeamId("z"))}

        async def plan(gate: Gate, renders: Renders) -> None:
            for number in range(100):
                renders.enter(f"a{number}")
            await asyncio.sleep(1)
            for number in range(100):
                renders.enter(f"z{number}")
            await asyncio.sleep(1.1)
            assert renders.order == []
            gate.correct(stored=["z9"], gone=[])
            await asyncio.sleep(0.01)

        assert _run(room, plan).order == ["z9"]
