import time

from gateway.simulator.clock import SYSTEM_CLOCK


def test_wall_clock_is_unix_time() -> None:
    """The wall clock counts seconds since 1970."""
    now_s = time.time_ns() / 1e9

    assert abs(SYSTEM_CLOCK.wall_s() - now_s) < 5


def test_monotonic_clock_never_runs_back() -> None:
    """Two readings of the monotonic clock are in order."""
    first_s = SYSTEM_CLOCK.monotonic_s()

    assert first_s <= SYSTEM_CLOCK.monotonic_s() < first_s + 5
