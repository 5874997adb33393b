import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.latency import (
    LATENCY_GRID,
    RATIO_GRID,
    Forecast,
    ForecastKind,
    Histogram,
    Lognormal,
)
from gateway.domain.poll_plan import max_gap_s
from gateway.domain.schedule import (
    JITTER_MAX_S,
    PROBE_SHARE,
    PollLimits,
    Schedule,
    backoff_s,
)

LIMITS = PollLimits(floor_s=1.0, budget=6.0)
USUAL = Histogram.believed(LATENCY_GRID, Lognormal(17.3, 0.33), 100.0)
#: A kind of forecast that is right to a few per cent, and one that is not.
SHARP = Histogram.believed(RATIO_GRID, Lognormal(1.0, 0.02), 100.0)
VAGUE = Histogram.believed(RATIO_GRID, Lognormal(1.0, 1.0), 100.0)
KINDS = {ForecastKind.FROM_40: SHARP, ForecastKind.ESTIMATE: VAGUE}

SCHEDULE = Schedule(USUAL, LIMITS, KINDS)
#: Schedules of very different classes, some of them learned from nearly nothing.
SCHEDULES = [
    SCHEDULE,
    Schedule(Histogram.believed(LATENCY_GRID, Lognormal(0.4, 0.1), 1.0), LIMITS),
    Schedule(Histogram.believed(LATENCY_GRID, Lognormal(400.0, 0.1), 1.0), LIMITS, KINDS),
    Schedule(Histogram.believed(LATENCY_GRID, Lognormal(20.0, 2.0), 1.0), PollLimits(0.05, 1.0)),
    Schedule(Histogram.believed(LATENCY_GRID, Lognormal(5000.0, 0.5), 1.0), PollLimits(3.0, 3.0)),
]
ANY_SCHEDULE = st.sampled_from(SCHEDULES)
FORECASTS = st.lists(
    st.builds(Forecast, st.sampled_from(list(ForecastKind)), st.floats(0.01, 1e6)), max_size=3
)
JITTER = st.floats(0, 1, exclude_max=True)
ELAPSED_S = st.floats(0, 90_000)


def floor_of(schedule: Schedule) -> float:
    """Return the floor it was made with."""
    return schedule._limits.floor_s


@given(
    schedule=ANY_SCHEDULE,
    elapsed_s=ELAPSED_S,
    polls=st.integers(1, 50),
    jitter=JITTER,
    forecasts=FORECASTS,
)
def test_gaps_stay_bounded(
    schedule: Schedule, elapsed_s: float, polls: int, jitter: float, forecasts: list[Forecast]
) -> None:
    """Whatever was learned or told: floor ≤ gap ≤ 1 s + 10 % of the elapsed time (rule 21)."""
    delay_s = schedule.delay_s(elapsed_s, polls=polls, jitter=jitter, forecasts=forecasts)

    assert floor_of(schedule) <= delay_s <= max(floor_of(schedule), 1 + elapsed_s / 10 + 1e-9)


@given(
    schedule=ANY_SCHEDULE, elapsed_s=ELAPSED_S, polls=st.integers(0, 50), asked_s=st.floats(0, 1e4)
)
def test_retry_after_holds(
    schedule: Schedule, elapsed_s: float, polls: int, asked_s: float
) -> None:
    """What `Retry-After` asks for is waited, up to five minutes, and it shortens nothing."""
    plain_s = schedule.delay_s(elapsed_s, polls=polls, jitter=0.5)
    asked = schedule.delay_s(elapsed_s, polls=polls, jitter=0.5, retry_after_s=asked_s)

    assert max(plain_s, min(asked_s, 300.0)) == asked


@given(
    schedule=ANY_SCHEDULE,
    elapsed_s=ELAPSED_S,
    later_s=st.floats(0, 1_000),
    polls=st.integers(1, 50),
)
def test_later_means_later(
    schedule: Schedule, elapsed_s: float, later_s: float, polls: int
) -> None:
    """Who polled later polls next no earlier."""
    first, second = (
        at_s + schedule.delay_s(at_s, polls=polls, jitter=0.0)
        for at_s in (elapsed_s, elapsed_s + later_s)
    )

    assert first <= second + 1e-6


@given(schedule=ANY_SCHEDULE, end_s=st.floats(0, 86_400), seed=st.integers(0, 99))
def test_every_end_is_found(schedule: Schedule, end_s: float, seed: int) -> None:
    """No end is ever missed, in few polls: gaps grow with the time."""
    chance = random.Random(seed)
    elapsed_s, polls = 0.0, 0
    while elapsed_s < end_s:
        elapsed_s += schedule.delay_s(elapsed_s, polls=polls, jitter=chance.random())
        polls += 1

    assert polls < 400


def test_the_first_poll_is_learned() -> None:
    """The wait before it is no gap: it may be longer than any, and is put off by jitter alone."""
    first_s = SCHEDULE.plan.points_s[SCHEDULE.plan.first]

    assert 9.0 < first_s < 13.0
    assert first_s <= SCHEDULE.delay_s(0.0, polls=0, jitter=0.5) <= first_s + JITTER_MAX_S
    # Asked for a moment after the submit, the poll stays where it was.
    assert first_s - 0.5 == pytest.approx(SCHEDULE.delay_s(0.5, polls=0, jitter=0.0625), abs=0.02)
    # And when its moment has passed, the floor alone is left.
    assert 1.0 == SCHEDULE.delay_s(60.0, polls=0, jitter=0.5)


def test_some_tasks_ask_early() -> None:
    """One in 32 first asks after half the wait, and never below the floor."""
    first_s = SCHEDULE.plan.points_s[SCHEDULE.plan.first]

    assert PROBE_SHARE == 1 / 32
    assert first_s / 2 == pytest.approx(SCHEDULE.delay_s(0.0, polls=0, jitter=0.0), rel=0.01)
    assert 3.0 == SCHEDULES[-1].delay_s(5_000.0, polls=0, jitter=0.0)
    calm = Schedule(SCHEDULE.latencies, PollLimits(1.0, 6.0), probing=False)
    assert first_s == pytest.approx(calm.delay_s(0.0, polls=0, jitter=0.0), rel=0.01)


def test_a_sharp_forecast_is_followed() -> None:
    """A render half done after 8 s is asked for soon after 16 s, not where the others end."""
    elapsed_s = 16.0 - max_gap_s(15.0) / 2
    told = Forecast(ForecastKind.FROM_40, 16.0)
    told_s = elapsed_s + SCHEDULE.delay_s(elapsed_s, polls=3, jitter=0.0, forecasts=[told])
    usual_s = elapsed_s + SCHEDULE.delay_s(elapsed_s, polls=3, jitter=0.0)

    assert 16.0 < told_s < 17.0
    assert usual_s != pytest.approx(told_s, abs=0.05)


def test_forecasts_keep_their_proportions() -> None:
    """Plans are shared by forecasts that are close; each poll still stands after its own end."""
    slow, parts = SCHEDULES[2], []
    # Both ends and the middle of what one plan serves: a tenth about 1.1 to the 60th.
    for total_s in (291.0, 304.0, 318.0):
        told = Forecast(ForecastKind.FROM_40, total_s)
        elapsed_s = 0.99 * total_s
        next_s = elapsed_s + slow.delay_s(elapsed_s, polls=3, jitter=0.0, forecasts=[told])
        parts.append(next_s / total_s)

    assert [parts[0]] * 3 == pytest.approx(parts, abs=1e-6)
    assert 0.99 < parts[0] < 1.06


@pytest.mark.parametrize("kind", [ForecastKind.ESTIMATE, ForecastKind.FROM_80])
def test_a_forecast_earns_its_trust(kind: ForecastKind) -> None:
    """One whose kind was wrong before, or was never compared, changes nothing."""
    told = [Forecast(kind, 100.0)]
    for elapsed_s, polls in ((0.0, 0), (12.0, 1), (20.0, 4)):
        asked = SCHEDULE.delay_s(elapsed_s, polls=polls, jitter=0.5, forecasts=told)

        assert SCHEDULE.delay_s(elapsed_s, polls=polls, jitter=0.5) == asked


def test_a_spent_budget_ends_the_plan_not_the_polls() -> None:
    """A task with three times the budget goes on at the longest gaps."""
    dense_s = SCHEDULE.delay_s(17.0, polls=17, jitter=0.0)

    assert dense_s < 2.0
    assert max_gap_s(17.0) == pytest.approx(SCHEDULE.delay_s(17.0, polls=18, jitter=0.0))


def test_jitter_spreads_tasks() -> None:
    """Tasks that were submitted together do not poll together, at the plan's times or beyond."""
    chances = [0.1, 0.5, 0.9]
    first = {SCHEDULE.delay_s(0.0, polls=0, jitter=jitter) for jitter in chances}
    beyond = {SCHEDULE.delay_s(5_000.0, polls=40, jitter=jitter) for jitter in chances}

    assert (3, 3) == (len(first), len(beyond))
    assert max(first) - min(first) <= JITTER_MAX_S
    assert max(beyond) - min(beyond) == pytest.approx(0.08 * max_gap_s(5_000.0))


def test_a_clock_that_went_back_is_the_submit() -> None:
    """A negative age is none."""
    assert SCHEDULE.delay_s(0.0, polls=1, jitter=0.5) == SCHEDULE.delay_s(-5.0, polls=1, jitter=0.5)


def test_a_belief_alone_puts_off_no_first_poll() -> None:
    """Until renders were seen, the first wait is a gap like any other."""
    believed = Schedule(USUAL, LIMITS, proven=False)

    assert believed.delay_s(0.0, polls=0, jitter=0.0) == pytest.approx(max_gap_s(0.0))
    assert SCHEDULE.delay_s(0.0, polls=0, jitter=0.9) > 5.0


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(1, 0.2), (2, 0.4), (3, 0.8), (8, 25.6), (9, 30.0), (10_000, 30.0)]
)
def test_backoff_doubles_up_to_a_cap(failures: int, wait_s: float) -> None:
    """Each failure in a row doubles the wait, and no number of them breaks the arithmetic."""
    assert wait_s == pytest.approx(backoff_s(failures, first_s=0.2, cap_s=30.0))


def test_lags_of_a_class_are_short() -> None:
    """Renders as believed are found within a second on average, for the polls of the budget."""
    chance = random.Random(11)
    lag_s, polls, renders = 0.0, 0, 2_000
    for _ in range(renders):
        end_s = 17.3 * math.exp(0.33 * chance.gauss(0, 1))
        elapsed_s, asked = 0.0, 0
        while elapsed_s < end_s:
            elapsed_s += SCHEDULE.delay_s(elapsed_s, polls=asked, jitter=chance.random())
            asked += 1
        lag_s += elapsed_s - end_s
        polls += asked

    assert lag_s / renders < 1.0
    assert polls / renders < 6.3
