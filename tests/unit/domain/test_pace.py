import pytest

from gateway.domain.pace import (
    FREE_AFTER_S,
    IDLE_S,
    IN_TIME_S,
    LATE_S,
    LOWER_AFTER_S,
    MIN_PER_S,
    RAISE,
    RAISE_AFTER_S,
    Pace,
)


def _begin(pace: Pace, count: int, *, from_s: float, to_s: float, late_s: float) -> None:
    """Let so many polls begin, evenly, each as late."""
    for number in range(count):
        pace.begun(late_s, from_s + (to_s - from_s) * number / (count - 1))


def _late(count: int = 101, *, within_s: float = 1.0) -> Pace:
    """Return a pace that was lowered to `count` less one in `within_s`, at the end of that."""
    pace = Pace()
    _begin(pace, count - 1, from_s=100.0, to_s=100.0 + within_s * 0.9, late_s=0.0)
    pace.begun(LATE_S + 0.1, 100.0 + within_s)
    return pace


def test_nothing_is_held_back_while_polls_are_in_time() -> None:
    """However many begin, and although each is a little late."""
    pace = Pace()
    _begin(pace, 10_000, from_s=0.0, to_s=20.0, late_s=LATE_S)

    assert (None, 3.0) == (pace.per_s, pace.turn_s(3.0))


def test_late_polls_lower_the_pace_to_what_was_kept_up() -> None:
    """By their own count; those that wait have turns from now on, as far apart as that."""
    pace = _late(count=100)

    assert pace.per_s == pytest.approx(100.0)
    assert pace.turn_s(50.0) == pytest.approx(101.0)
    pace.take(101.0, 50.0)
    assert pace.turn_s(50.0) == pytest.approx(101.01)


def test_one_late_poll_says_nothing_of_the_pace() -> None:
    """Not after a pause, and not before a few have begun: one cannot be counted."""
    pace = Pace()
    pace.begun(0.0, 100.0)
    pace.begun(2 * LATE_S, 100.0 + 2 * IDLE_S)
    pace.begun(2 * LATE_S, 100.0 + 2 * IDLE_S + LOWER_AFTER_S / 2)

    assert pace.per_s is None


def test_no_turn_comes_before_it_is_wanted() -> None:
    """Turns that nobody took are lost."""
    pace = _late()

    assert pace.turn_s(500.0) == 500.0
    pace.take(500.0, 500.0)
    assert pace.turn_s(500.0) > 500.0


def test_what_cannot_wait_takes_anothers_turn() -> None:
    """It begins when it is wanted; the next turn is as much later."""
    pace = _late(count=100)
    before_s = pace.turn_s(0.0)
    pace.take(90.0, 90.0)

    assert pace.turn_s(0.0) == pytest.approx(before_s + 0.01)


def test_a_pace_that_is_kept_rises_while_polls_are_put_off() -> None:
    """By a quarter a second; not when turns were barely kept."""
    kept, barely = _late(), _late()
    for pace, late_s in ((kept, 0.0), (barely, IN_TIME_S)):
        pace.take(pace.turn_s(0.0), 0.0)
        before = pace.per_s
        _begin(pace, 50, from_s=101.0, to_s=101.0 + RAISE_AFTER_S, late_s=late_s)
        assert before is not None
        assert pace.per_s == pytest.approx(before * (RAISE if late_s == 0 else 1.0))


def test_a_pace_that_is_too_fast_is_lowered_again() -> None:
    """To what was kept up of it, and never raised by polls that are late."""
    pace = _late(count=100)
    _begin(pace, 41, from_s=101.0, to_s=101.5, late_s=2 * LATE_S)

    assert pace.per_s is not None
    assert 70 < pace.per_s < 100
    _begin(pace, 401, from_s=102.0, to_s=103.0, late_s=2 * LATE_S)
    assert pace.per_s < 100


def test_no_pace_is_below_the_least() -> None:
    """A process that stood still for long gets going again."""
    pace = Pace()
    pace.begun(0.0, 100.0)
    pace.begun(60.0, 100.0 + IDLE_S)

    assert pace.per_s == MIN_PER_S


def test_nothing_is_held_back_any_more_when_there_was_no_need_for_a_while() -> None:
    """A burst is over; the next one finds the process free."""
    pace = _late()
    for tenth in range(round(10 * (FREE_AFTER_S + 2 * RAISE_AFTER_S))):
        pace.begun(0.0, 101.0 + tenth / 10)

    assert pace.per_s is None
