from __future__ import annotations

from gateway.tasks.scouts import SCOUTS, SCOUTS_PER_SECOND, Scouts
from tests.support.clock import FixedClock


def test_some_go_ahead_and_a_few_more_as_time_passes() -> None:
    """However many come: the first ones, then a few in each second, and never more at once."""
    clock = FixedClock()
    scouts = Scouts(clock)
    went = [sum(scouts.may_go() for _ in range(1_000))]
    for seconds in (0.5, 10.0, 3_600.0):
        clock.advance(seconds)
        went.append(sum(scouts.may_go() for _ in range(1_000)))

    assert [SCOUTS, SCOUTS_PER_SECOND / 2, 10 * SCOUTS_PER_SECOND, SCOUTS] == went


def test_whoever_waits_is_told_once_and_in_turn() -> None:
    """Also one that begins to wait while others are told: it is told the next time."""
    scouts = Scouts(FixedClock())
    told: list[str] = []

    def again() -> None:
        told.append("first")
        scouts.wait(lambda: told.append("late"))

    scouts.wait(again)
    scouts.wait(lambda: told.append("second"))
    scouts.tell()
    once = list(told)
    scouts.tell()

    assert ["first", "second"] == once
    assert ["first", "second", "late"] == told
