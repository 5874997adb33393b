import inspect

import pytest

from gateway.background import SystemClock
from gateway.domain.clock import Clock
from tests.support.clock import NOON_MS, FixedClock, LoopClock, in_virtual_time


def _readings(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member, eval_str=True)
        for name, member in vars(kind).items()
        if callable(member) and not name.startswith("_") and name != "advance"
    }


@pytest.mark.parametrize("implementer", [SystemClock, FixedClock, LoopClock])
def test_clocks_have_exactly_the_two_readings(implementer: type) -> None:
    """Every clock offers the two readings, under the same names and with the same types."""
    assert _readings(Clock) == _readings(implementer)


def test_fixed_clock_moves_both_readings_alike() -> None:
    """The tests' clock stands still until it is advanced."""
    clock = FixedClock(monotonic_s=5.0)
    clock.advance(1.25)

    assert (clock.now_ms(), clock.monotonic_s()) == (NOON_MS + 1250, 6.25)


def test_loop_clock_follows_the_loop() -> None:
    """The loop's clock starts at zero and noon."""

    async def read() -> tuple[int, float]:
        return LoopClock().now_ms(), LoopClock().monotonic_s()

    assert in_virtual_time(read()) == (NOON_MS, 0.0)
