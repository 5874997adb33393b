import asyncio
import random
import statistics
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise

import pytest

from gateway.background import Background
from gateway.domain.latency import LATENCY_GRID, Histogram, Lognormal
from gateway.domain.poll_plan import max_gap_s
from gateway.domain.schedule import PollLimits, Schedule
from gateway.tasks.poller import Poller, PollStep
from tests.support.clock import LoopClock, in_virtual_time

Plan = Callable[[Poller], Awaitable[None]]


def _poll(plan: Plan, *, max_concurrent: int = 10) -> None:
    """Run a poller in virtual time until `plan` has ended."""

    async def scenario() -> None:
        async with Background(grace_s=0.0) as background:
            poller = Poller(LoopClock(), background, max_concurrent=max_concurrent)
            background.loop("poller", poller.run)
            await plan(poller)
            assert background.dead_loops == ()

    in_virtual_time(scenario())


class Journal:
    """Writes down which step started when."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, float]] = []

    def step(self, name: str, *, takes_s: float = 0.0) -> PollStep:
        """Return a step that notes its name and its start, and then takes some time."""

        async def run() -> None:
            self.entries.append((name, round(asyncio.get_running_loop().time(), 3)))
            await asyncio.sleep(takes_s)

        return run


def test_polls_start_when_they_are_due() -> None:
    """Each step starts at its own time, in order of time and not of scheduling."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        poller.schedule("p", 3.0, journal.step("last"))
        poller.schedule("p", 1.0, journal.step("first"))
        poller.schedule("p", 2.0, journal.step("second"))
        await asyncio.sleep(10)

    _poll(plan)

    assert journal.entries == [("first", 1.0), ("second", 2.0), ("last", 3.0)]


def test_an_earlier_poll_wakes_the_poller() -> None:
    """A poller that waits for something late starts what became due before it."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        poller.schedule("p", 100.0, journal.step("late"))
        await asyncio.sleep(1)
        poller.schedule("p", 2.0, journal.step("early"))
        await asyncio.sleep(1)
        poller.schedule("p", 50.0, journal.step("between"))
        await asyncio.sleep(200)

    _poll(plan)

    assert journal.entries == [("early", 3.0), ("between", 52.0), ("late", 100.0)]


def test_an_idle_poller_wakes_for_the_first_poll() -> None:
    """With nothing to do it waits without a timer, and starts the first poll in time."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        await asyncio.sleep(1000)
        poller.schedule("p", 0.5, journal.step("first"))
        await asyncio.sleep(1)

    _poll(plan)

    assert journal.entries == [("first", 1000.5)]


@pytest.mark.parametrize("delay_s", [0.0, -1.0])
def test_what_is_due_starts_at_once(delay_s: float) -> None:
    """A delay of nothing, or a time that has passed, is now."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        poller.schedule("p", delay_s, journal.step("now"))
        await asyncio.sleep(1)

    _poll(plan)

    assert journal.entries == [("now", 0.0)]


def test_polls_of_one_moment_keep_their_order() -> None:
    """Steps cannot be compared; those due together start in the order they were scheduled."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        for name in "cab":
            poller.schedule("p", 1.0, journal.step(name))
        await asyncio.sleep(2)

    _poll(plan)

    assert [name for name, _ in journal.entries] == ["c", "a", "b"]


def test_no_more_polls_at_once_than_allowed() -> None:
    """A provider answers as many polls at once as it may; the others wait for a free slot."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        for name in "abcde":
            poller.schedule("p", 0.0, journal.step(name, takes_s=1.0))
        await asyncio.sleep(10)

    _poll(plan, max_concurrent=2)

    assert journal.entries == [("a", 0.0), ("b", 0.0), ("c", 1.0), ("d", 1.0), ("e", 2.0)]


def test_a_slow_provider_does_not_hold_up_another() -> None:
    """Slots are counted per provider."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        poller.schedule("slow", 0.0, journal.step("slow", takes_s=60.0))
        poller.schedule("slow", 0.0, journal.step("waits"))
        poller.schedule("quick", 1.0, journal.step("quick"))
        await asyncio.sleep(100)

    _poll(plan, max_concurrent=1)

    assert journal.entries == [("slow", 0.0), ("quick", 1.0), ("waits", 60.0)]


def test_a_poll_may_schedule_its_successor() -> None:
    """Steps schedule the next poll of their task from within."""
    starts = []

    async def plan(poller: Poller) -> None:
        async def again() -> None:
            starts.append(asyncio.get_running_loop().time())
            poller.schedule("p", 2.0, again)

        poller.schedule("p", 1.0, again)
        await asyncio.sleep(6)

    _poll(plan)

    assert starts == pytest.approx([1.0, 3.0, 5.0])


def test_a_broken_poll_gives_its_slot_back() -> None:
    """A step that raises stops neither the poller nor the polls behind it."""
    journal = Journal()

    async def broken() -> None:
        raise ZeroDivisionError

    async def plan(poller: Poller) -> None:
        poller.schedule("p", 0.0, broken)
        poller.schedule("p", 0.0, journal.step("next"))
        await asyncio.sleep(1)

    _poll(plan, max_concurrent=1)

    assert journal.entries == [("next", 0.0)]


def test_a_hurried_poll_starts_at_once_and_only_once() -> None:
    """A poll that is wanted now is not waited for, and does not come again at its old time."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        due = poller.schedule("p", 100.0, journal.step("wanted"))
        poller.schedule("p", 50.0, journal.step("other"))
        await asyncio.sleep(7)
        due.hurry()
        due.hurry()
        await asyncio.sleep(200)

    _poll(plan)

    assert journal.entries == [("wanted", 7.0), ("other", 50.0)]


def test_hurrying_a_poll_that_has_started_does_nothing() -> None:
    """News about a task that is being asked about right now is in the answer."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        due = poller.schedule("p", 1.0, journal.step("once", takes_s=5.0))
        await asyncio.sleep(2)
        due.hurry()
        await asyncio.sleep(10)
        due.hurry()
        await asyncio.sleep(10)

    _poll(plan)

    assert journal.entries == [("once", 1.0)]


def test_a_hurried_poll_waits_for_a_free_slot() -> None:
    """A callback does not get around the cap of polls at once."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        poller.schedule("p", 0.0, journal.step("slow", takes_s=10.0))
        due = poller.schedule("p", 60.0, journal.step("wanted"))
        await asyncio.sleep(1)
        due.hurry()
        await asyncio.sleep(20)

    _poll(plan, max_concurrent=1)

    assert journal.entries == [("slow", 0.0), ("wanted", 10.0)]


def test_a_dropped_poll_never_starts() -> None:
    """A task that is not ours any more is not asked about, and cannot be hurried either."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        dropped = poller.schedule("p", 1.0, journal.step("dropped"))
        poller.schedule("p", 2.0, journal.step("kept"))
        dropped.drop()
        dropped.hurry()
        await asyncio.sleep(10)

    _poll(plan)

    assert journal.entries == [("kept", 2.0)]


def test_dropping_a_poll_that_has_started_lets_it_end() -> None:
    """Only what has not begun can be taken back."""
    ended = []

    async def plan(poller: Poller) -> None:
        async def slow() -> None:
            await asyncio.sleep(5)
            ended.append(asyncio.get_running_loop().time())

        due = poller.schedule("p", 0.0, slow)
        await asyncio.sleep(1)
        due.drop()
        await asyncio.sleep(10)

    _poll(plan)

    assert ended == [5.0]


def test_lateness_counts_from_when_a_poll_was_due() -> None:
    """A poll that waits for a free slot is late by its wait, one that was dropped is none."""
    late: list[tuple[str, float]] = []

    async def scenario() -> None:
        async with Background(grace_s=0.0) as background:
            poller = Poller(
                LoopClock(),
                background,
                max_concurrent=1,
                observe=lambda provider, late_s, _: late.append((provider, round(late_s, 3))),
            )
            background.loop("poller", poller.run)
            journal = Journal()
            poller.schedule("p", 1.0, journal.step("slow", takes_s=5.0))
            poller.schedule("p", 2.0, journal.step("waits"))
            poller.schedule("p", 3.0, journal.step("dropped")).drop()
            poller.schedule("p", 100.0, journal.step("wanted")).hurry()
            await asyncio.sleep(200)

    in_virtual_time(scenario())

    assert [("p", 0.0), ("p", 0.0), ("p", 4.0)] == late


class Burst:
    """Renders of 20 s that are asked for within two seconds, and a process that polls so fast.

    `lags_s` is how long each has ended unnoticed, `late_s` how late after its turn each poll was,
    `put_off_s` how long after it was wanted that came, and `asked_s` when each was polled.
    """

    def __init__(self, renders: int, *, polls_per_s: float, believed_s: float = 20.0) -> None:
        chance = random.Random(7)
        self._chance = chance
        self._begun_s = [2.0 * number / renders for number in range(renders)]
        self._ends_s = [begun_s + chance.lognormvariate(3.0, 0.05) for begun_s in self._begun_s]
        self._takes_s, self._free_s = 1.0 / polls_per_s, 0.0
        self._schedule = Schedule(
            Histogram.empty(LATENCY_GRID).with_prior(Lognormal(believed_s, 0.2)),
            PollLimits(floor_s=1.0, budget=6.0),
        )
        self._all_seen = asyncio.Event()
        self.lags_s: dict[int, float] = {}
        self.late_s: list[float] = []
        self.put_off_s: list[float] = []
        self.asked_s: list[list[float]] = [[] for _ in range(renders)]

    @property
    def best_lag_s(self) -> float:
        """The mean lag of a process as fast that knows every end, and polls each render once."""
        free_s, lags_s = 0.0, []
        for end_s in sorted(self._ends_s):
            free_s = max(free_s, end_s) + self._takes_s
            lags_s.append(free_s - end_s)
        return statistics.mean(lags_s)

    async def follow(self) -> None:
        """Poll until every end is seen."""
        async with Background(grace_s=0.0) as background:
            poller = Poller(
                LoopClock(),
                background,
                max_concurrent=64,
                observe=lambda _, *told: self._note(*told),
            )
            background.loop("poller", poller.run)
            for render in range(len(self._ends_s)):
                self._ask_later(poller, render, self._begun_s[render])
            await self._all_seen.wait()

    def _note(self, late_s: float, put_off_s: float) -> None:
        self.late_s.append(late_s)
        self.put_off_s.append(put_off_s)

    def _ask_later(self, poller: Poller, render: int, asked_s: float) -> None:
        delay_s = self._schedule.delay_s(
            asked_s - self._begun_s[render],
            polls=len(self.asked_s[render]),
            jitter=self._chance.random(),
        )
        now_s = asyncio.get_running_loop().time()
        ask = partial(self._ask, poller, render)
        poller.schedule("p", max(asked_s + delay_s - now_s, 0.0), ask)

    async def _ask(self, poller: Poller, render: int) -> None:
        now_s = asyncio.get_running_loop().time()
        self.asked_s[render].append(now_s)
        self._free_s = max(self._free_s, now_s) + self._takes_s
        await asyncio.sleep(self._free_s - now_s)
        if self._free_s < self._ends_s[render]:
            self._ask_later(poller, render, now_s)
            return
        self.lags_s[render] = self._free_s - self._ends_s[render]
        if len(self.lags_s) == len(self._ends_s):
            self._all_seen.set()


@pytest.mark.parametrize("believed_s", [20.0, 8.0])
def test_more_polls_than_can_be_managed_are_put_off_and_not_late(believed_s: float) -> None:
    """Five thousand renders end within seconds of each other, 300 can be polled in a second.

    No poll is late by more than a schedule's shortest gap, nobody starves, and ends are noticed
    about as soon as any process that is no faster can notice them.
    """
    burst = Burst(5_000, polls_per_s=300.0, believed_s=believed_s)
    in_virtual_time(burst.follow())

    assert max(burst.late_s) < max_gap_s(0.0) / 2
    assert statistics.mean(burst.lags_s.values()) < 1.6 * burst.best_lag_s
    gaps_s = [later - asked for times in burst.asked_s for asked, later in pairwise(times)]
    # What is wanted first comes first: nobody waits for longer than all the others take.
    assert max(gaps_s, default=0.0) < max_gap_s(60.0) + 5_000 / 300
    assert max(burst.put_off_s) > 10.0


def test_what_can_be_managed_is_not_put_off() -> None:
    """A process that is fast enough begins every poll when it is wanted."""
    burst = Burst(500, polls_per_s=5_000.0)
    in_virtual_time(burst.follow())

    assert (0.0, True) == (max(burst.put_off_s), max(burst.late_s) < 0.01)


def test_what_is_hurried_does_not_wait_for_its_turn() -> None:
    """A callback has announced the end: it is asked about before all that only might have ended."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        for number in range(200):
            poller.schedule("p", 0.0, journal.step(f"poll{number}", takes_s=0.1))
        wanted = poller.schedule("p", 60.0, journal.step("wanted"))
        await asyncio.sleep(2.05)
        wanted.hurry()
        await asyncio.sleep(30)

    _poll(plan, max_concurrent=1)

    # Ten begin in a second.
    assert 21 == [name for name, _ in journal.entries].index("wanted")
    assert 201 == len(journal.entries)


def test_a_provider_that_is_put_off_does_not_hold_up_another() -> None:
    """Each has a pace of its own."""
    journal = Journal()

    async def plan(poller: Poller) -> None:
        for _ in range(100):
            poller.schedule("slow", 0.0, journal.step("slow", takes_s=1.0))
        await asyncio.sleep(10)
        poller.schedule("quick", 0.0, journal.step("quick"))
        await asyncio.sleep(1)
        assert poller.per_s("slow") < poller.per_s("quick")

    _poll(plan, max_concurrent=2)

    assert ("quick", 10.0) in journal.entries
