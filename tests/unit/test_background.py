import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from gateway.background import Background, SystemClock
from tests.support.clock import in_virtual_time


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _return() -> None:
    pass


async def _break() -> None:
    raise ZeroDivisionError


async def _cancel_itself() -> None:
    raise asyncio.CancelledError


def test_the_wall_clock_is_unix_time() -> None:
    """The wall clock counts milliseconds since 1970."""
    assert abs(SystemClock().now_ms() - time.time_ns() / 1e6) < 5000


def test_the_monotonic_clock_never_runs_back() -> None:
    """Two readings of the monotonic clock are in order, in seconds."""
    first_s = SystemClock().monotonic_s()

    assert first_s <= SystemClock().monotonic_s() < first_s + 5
    assert abs(first_s - time.monotonic()) < 5


def test_loops_run_until_the_context_is_left() -> None:
    """A loop is alive until the stop, and is cancelled by it without being called dead."""

    async def scenario() -> tuple[tuple[str, ...], ...]:
        deaths = []
        async with Background(grace_s=1.0) as background:
            background.on_death(lambda: deaths.append("died"))
            background.loop("first", _for_ever)
            background.loop("second", _for_ever)
            await _turns()
            alive = background.running_loops
        return alive, background.running_loops, background.dead_loops, tuple(deaths)

    assert in_virtual_time(scenario()) == (("first", "second"), (), (), ())


def test_a_loop_that_misses_its_cancellation_ends_too() -> None:
    """A library may lose a cancellation; the stop goes on until the loop has noticed."""

    async def deaf_once() -> None:
        with suppress(asyncio.CancelledError):
            await _for_ever()
        await _for_ever()

    async def scenario() -> tuple[tuple[str, ...], ...]:
        async with Background(grace_s=1.0) as background:
            background.loop("deaf", deaf_once)
            await _turns()
        return background.running_loops, background.dead_loops

    assert in_virtual_time(scenario()) == ((), ())


@pytest.mark.parametrize(
    ("run", "finding"),
    [
        (_return, {"reason": "returned"}),
        (_break, {"exc_info": True}),
        (_cancel_itself, {"reason": "cancelled"}),
    ],
)
def test_a_loop_that_ends_is_a_defect(run: object, finding: dict[str, object]) -> None:
    """A loop that ends in any way is logged, listed as dead, and told once."""

    async def scenario() -> None:
        async with Background(grace_s=1.0) as background:
            background.on_death(lambda: deaths.append(background.dead_loops))
            background.loop("healthy", _for_ever)
            background.loop("broken", run)  # type: ignore[arg-type]
            await _turns()
            assert background.running_loops == ("healthy",)
            assert background.dead_loops == ("broken",)

    deaths: list[tuple[str, ...]] = []
    with capture_logs() as logs:
        in_virtual_time(scenario())

    expected = {"event": "loop_died", "action": "loop_died", "log_level": "critical"}
    assert [expected | {"loop": "broken"} | finding] == logs
    assert deaths == [("broken",)]


def test_whoever_asks_late_is_told_at_once() -> None:
    """A loop may die before anybody has said whom to tell."""

    async def scenario() -> list[str]:
        told: list[str] = []
        async with Background(grace_s=1.0) as background:
            background.loop("broken", _break)
            await _turns()
            background.on_death(lambda: told.append("died"))
        return told

    assert in_virtual_time(scenario()) == ["died"]


def test_nobody_is_told_of_a_loop_that_lives() -> None:
    """Saying whom to tell tells nothing."""

    async def scenario() -> list[str]:
        told: list[str] = []
        async with Background(grace_s=1.0) as background:
            background.loop("healthy", _for_ever)
            await _turns()
            background.on_death(lambda: told.append("died"))
        return told

    assert in_virtual_time(scenario()) == []


def test_a_broken_step_is_logged_and_confined() -> None:
    """What a step raises is a defect of that step; loops and other steps go on."""

    async def scenario() -> list[str]:
        done = []

        async def fine() -> None:
            await asyncio.sleep(1)
            done.append("fine")

        async with Background(grace_s=5.0) as background:
            background.loop("loop", _for_ever)
            background.step("broken", _break())
            background.step("fine", fine())
            await _turns()
            done.extend(background.running_loops)
        return done

    with capture_logs() as logs:
        assert in_virtual_time(scenario()) == ["loop", "fine"]
    assert logs == [
        {
            "event": "step_failed",
            "action": "step_failed",
            "step": "broken",
            "exc_info": True,
            "log_level": "error",
        }
    ]


def test_a_stop_waits_for_steps_and_not_longer() -> None:
    """A step within the grace ends by itself; one beyond it is cut off, and said to be."""

    async def scenario() -> tuple[list[str], float]:
        ends = []

        async def work(name: str, seconds: float) -> None:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                ends.append(f"{name} cut")
                raise
            ends.append(f"{name} done")

        async with Background(grace_s=10.0) as background:
            background.step("short", work("short", 9.0))
            background.step("long", work("long", 3600.0))
            await _turns()
        return ends, asyncio.get_running_loop().time()

    with capture_logs() as logs:
        ends, stopped_s = in_virtual_time(scenario())

    assert ends == ["short done", "long cut"]
    assert stopped_s == pytest.approx(10.0)
    assert [(entry["action"], entry["step"], entry["log_level"]) for entry in logs] == [
        ("step_cut_off", "long", "warning")
    ]


def test_loops_stop_before_the_steps_are_waited_for() -> None:
    """No loop starts new work while a stop waits for the work there is."""

    async def scenario() -> list[str]:
        order = []

        async def loop() -> None:
            try:
                await _for_ever()
            finally:
                order.append("loop")

        async def step() -> None:
            await asyncio.sleep(1)
            order.append("step")

        async with Background(grace_s=5.0) as background:
            background.loop("loop", loop)
            background.step("step", step())
            await _turns()
        return order

    assert in_virtual_time(scenario()) == ["loop", "step"]


def test_steps_that_are_over_hold_nothing_up() -> None:
    """A stop with nothing to do takes no time."""

    async def scenario() -> float:
        async with Background(grace_s=10.0) as background:
            background.step("done", _return())
            await _turns()
        return asyncio.get_running_loop().time()

    assert in_virtual_time(scenario()) == 0.0


def test_steps_that_are_over_are_forgotten() -> None:
    """Memory does not grow with the number of steps a process has run."""

    async def scenario() -> int:
        async with Background(grace_s=10.0) as background:
            background.step("done", _return())
            await _turns()
            return len(background._steps)

    assert in_virtual_time(scenario()) == 0


def test_an_error_in_the_body_stops_everything_and_is_told() -> None:
    """Whatever ends the process ends its loops too, and is not hidden."""

    async def scenario() -> None:
        async with Background(grace_s=1.0) as background:
            opened.append(background)
            background.loop("loop", _for_ever)
            await _turns()
            raise LookupError

    opened: list[Background] = []
    told: list[str] = []
    try:
        in_virtual_time(scenario())
    except* LookupError:
        told.append("told")

    assert told == ["told"]
    assert opened[0].running_loops == ()


async def _answer(value: int) -> int:
    await asyncio.sleep(1)
    return value


async def _fail() -> int:
    await asyncio.sleep(1)
    raise LookupError("no")


def test_shielded_returns_the_result() -> None:
    """The caller gets what the work returns."""

    async def scenario() -> int:
        async with Background(grace_s=1.0) as background:
            return await background.shielded("work", _answer(7))

    assert in_virtual_time(scenario()) == 7


def test_shielded_raises_what_the_work_raises() -> None:
    """The caller gets the work's own error, and it is no defect of the step."""

    async def scenario() -> None:
        async with Background(grace_s=1.0) as background:
            with pytest.raises(LookupError, match="no"):
                await background.shielded("work", _fail())

    with capture_logs() as logs:
        in_virtual_time(scenario())

    assert logs == []


@pytest.mark.parametrize("fails", [False, True])
def test_shielded_work_outlives_its_caller(fails: bool) -> None:
    """A caller that goes away does not stop the work; an unseen failure is no warning."""

    async def scenario() -> list[str]:
        ends = []

        async def work() -> None:
            await asyncio.sleep(1)
            ends.append("ended")
            if fails:
                raise LookupError

        async with Background(grace_s=5.0) as background:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(background.shielded("work", work()), 0.5)
            ends.append("caller left")
        return ends

    assert in_virtual_time(scenario()) == ["caller left", "ended"]


def test_shielded_work_that_is_cut_off_cancels_its_caller() -> None:
    """When a stop cuts the work off, whoever waits for it does not wait for ever."""

    async def scenario() -> list[str]:
        ends: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: ends.append(str(context["message"]))
        )

        async def ask(work: Coroutine[object, object, None]) -> None:
            try:
                await background.shielded("work", work)
            except asyncio.CancelledError:
                ends.append("cancelled")

        async with asyncio.TaskGroup() as callers, Background(grace_s=1.0) as background:
            callers.create_task(ask(_for_ever()))
            await _turns()
        return ends

    with capture_logs():
        assert in_virtual_time(scenario()) == ["cancelled"]


def test_a_step_that_starts_while_stopping_is_cut_off_too() -> None:
    """Work that begets work cannot keep a stop waiting for ever."""

    async def scenario() -> float:
        loop = asyncio.get_running_loop()

        async def beget() -> None:
            await asyncio.sleep(0.5)
            background.step("child", _for_ever())

        async with Background(grace_s=1.0) as background:
            background.step("parent", beget())
            await _turns()
            began_s = loop.time()
        return loop.time() - began_s

    with capture_logs() as logs:
        assert in_virtual_time(scenario()) == 1.0
    assert [("step_cut_off", "child")] == [(line["event"], line["step"]) for line in logs]


def test_the_bodys_own_error_leaves_as_it_is() -> None:
    """Whoever catches an error of the body finds that error, not a group around it."""

    async def scenario() -> None:
        async with Background(grace_s=1.0) as background:
            background.loop("loop", _for_ever)
            await _turns()
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        in_virtual_time(scenario())


def test_each_loop_that_dies_is_counted() -> None:
    """Whoever counts deaths is told the name of a loop that ended, and of no other."""
    counted: list[str] = []

    async def scenario() -> None:
        async with Background(grace_s=0.0, count_death=counted.append) as background:
            background.loop("brief", _turns)
            background.loop("lasting", _for_ever)
            await _turns(10)

    with capture_logs():
        in_virtual_time(scenario())
    assert counted == ["brief"]
