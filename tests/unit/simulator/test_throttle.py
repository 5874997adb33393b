import pytest

from gateway.simulator.throttle import Throttle


def test_a_burst_and_then_the_rate() -> None:
    """One second's worth goes at once; later calls wait for their share."""
    throttle = Throttle(2.0)
    waits = [throttle.wait_s(now_s) for now_s in (100.0, 100.0, 100.0, 100.25, 100.5, 100.5)]

    assert [0.0, 0.0, 0.5, 0.25, 0.0, 0.5] == pytest.approx(waits)


def test_rests_are_not_saved_up() -> None:
    """An hour of rest gives one second's worth."""
    throttle = Throttle(2.0)
    throttle.wait_s(0.0)
    waits = [throttle.wait_s(3600.0) for _ in range(3)]

    assert [0.0, 0.0] == waits[:2]
    assert waits[2] > 0


def test_slow_rates_let_one_through() -> None:
    """Less than one a second still starts with one."""
    throttle = Throttle(0.1)

    assert [0.0, 10.0] == pytest.approx([throttle.wait_s(5.0), throttle.wait_s(5.0)])


def test_no_limit() -> None:
    """Without a rate nothing waits."""
    throttle = Throttle(None)

    assert {0.0} == {throttle.wait_s(1.0) for _ in range(1000)}
