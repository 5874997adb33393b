import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.background import Background
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
                observe=lambda provider, late_s: late.append((provider, round(late_s, 3))),
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
