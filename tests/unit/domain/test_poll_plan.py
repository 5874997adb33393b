import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.latency import LATENCY_GRID, RATIO_GRID, Histogram, Lognormal
from gateway.domain.poll_plan import Curve, max_gap_s, plan_at_price, plan_for_budget

WEIGHTS = st.dictionaries(
    st.integers(0, LATENCY_GRID.buckets - 1), st.floats(0.01, 100), min_size=1, max_size=12
)
FLOORS = st.sampled_from([0.05, 0.25, 1.0, 3.0, 20.0])


def _histogram(weights: dict[int, float]) -> Histogram:
    return Histogram(
        LATENCY_GRID, tuple(weights.get(bucket, 0.0) for bucket in range(LATENCY_GRID.buckets))
    )


def _believed(median_s: float, sigma: float) -> Histogram:
    return Histogram.believed(LATENCY_GRID, Lognormal(median_s, sigma), 100.0)


@pytest.mark.parametrize(
    ("elapsed_s", "gap_s"), [(0.0, 1.0), (10.0, 2.0), (90.0, 10.0), (-5.0, 1.0), (86_400, 8_641)]
)
def test_the_longest_gap(elapsed_s: float, gap_s: float) -> None:
    """One second and a tenth of what has passed."""
    assert gap_s == pytest.approx(max_gap_s(elapsed_s))


@given(weights=WEIGHTS)
def test_a_curve_says_what_its_histogram_says(weights: dict[int, float]) -> None:
    """What has not ended by a point is the histogram's survival there."""
    histogram = _histogram(weights)
    curve = Curve.of(histogram)

    for point_s, alive in list(zip(curve.points_s, curve.alive, strict=True))[::23]:
        assert histogram.survival(point_s) == pytest.approx(alive, abs=1e-9)


def test_a_curve_has_a_scale() -> None:
    """A histogram of ratios becomes one of seconds; within a step there is always a point."""
    ratios = Histogram.believed(RATIO_GRID, Lognormal(1.0, 0.1), 10.0)
    curve = Curve.of(ratios, scale_s=30.0)

    assert (7.5, 120.0) == (curve.points_s[0], pytest.approx(curve.points_s[-1]))
    assert 30.0 == pytest.approx(curve.ended_s[-1], rel=0.01)
    assert all(
        after / before < 1.031 for before, after in pairwise(Curve.of(_believed(9, 1)).points_s)
    )


def test_a_certain_end_takes_one_poll() -> None:
    """When all renders end in one bucket, the only poll that is needed stands at its end."""
    certain = _histogram({70: 1.0})
    plan = plan_at_price(Curve.of(certain), floor_s=1.0, price_s=5.0)

    assert LATENCY_GRID.edges[70] == plan.points_s[plan.first]
    assert 1.0 == pytest.approx(plan.polls)


def test_where_nothing_ends_gaps_are_long() -> None:
    """After the last end anybody saw, the plan goes on at the longest gaps."""
    plan = plan_at_price(Curve.of(_histogram({70: 1.0})), floor_s=1.0, price_s=0.1)
    past_s = LATENCY_GRID.edges[70]
    following_s = plan.next_s(past_s)
    assert following_s is not None

    assert following_s - past_s == pytest.approx(max_gap_s(past_s), rel=0.15)


def test_a_floor_between_points_is_rounded() -> None:
    """With points 0.8 s apart and a floor of 1 s, the next point is close enough."""
    plan = plan_for_budget(Curve.of(_believed(35.0, 0.05)), floor_s=1.0, budget=50.0)
    following_s = plan.next_s(35.0)
    assert following_s is not None

    assert following_s - 35.0 < 1.0


def test_a_plan_expects_what_comes() -> None:
    """Its mean lag and polls are those of renders that follow the belief it was made of."""
    plan = plan_for_budget(Curve.of(_believed(17.3, 0.33)), floor_s=1.0, budget=6.0)
    chance = random.Random(5)
    lag_s, polls, renders = 0.0, 0, 4_000
    for _ in range(renders):
        end_s = 17.3 * math.exp(0.33 * chance.gauss(0, 1))
        at_s = plan.points_s[plan.first]
        polls += 1
        while at_s < end_s:
            following_s = plan.next_s(at_s)
            assert following_s is not None
            at_s = following_s
            polls += 1
        lag_s += at_s - end_s

    assert plan.polls == pytest.approx(polls / renders, rel=0.03)
    assert plan.lag_s == pytest.approx(lag_s / renders, rel=0.05)


@pytest.mark.parametrize("budget", [3.0, 4.0, 6.0, 8.0])
def test_a_plan_keeps_its_budget_and_uses_it(budget: float) -> None:
    """The mean number of polls is at most the budget, and not far below it."""
    plan = plan_for_budget(Curve.of(_believed(17.3, 0.33)), floor_s=0.25, budget=budget)

    assert 0.9 * budget < plan.polls <= budget


def test_more_polls_find_ends_sooner() -> None:
    """The lag falls as the budget rises."""
    curve = Curve.of(_believed(17.3, 0.33))
    lags = [plan_for_budget(curve, floor_s=0.25, budget=n).lag_s for n in (3.0, 5.0, 8.0, 12.0)]

    assert sorted(lags, reverse=True) == lags


def test_a_plan_beats_fixed_gaps() -> None:
    """For the polls of one every 3 s it finds ends in little more than half of their 1.5 s."""
    plan = plan_for_budget(Curve.of(_believed(17.3, 0.33)), floor_s=1.0, budget=6.6)

    assert plan.lag_s < 0.58 * 1.5


def test_a_budget_no_gaps_can_keep() -> None:
    """A budget the longest allowed gaps exceed gives those: it shapes, it never stops."""
    plan = plan_for_budget(Curve.of(_believed(60.0, 1.5)), floor_s=1.0, budget=1.0)
    at_s = plan.points_s[plan.first]
    following_s = plan.next_s(at_s)

    assert plan.polls > 1.0
    assert following_s is not None
    assert following_s == pytest.approx(at_s + max_gap_s(at_s), rel=0.03)


def test_polls_that_gain_nothing_are_not_made() -> None:
    """With budget to spare, a poll still costs something: it does not begin where none ends."""
    plan = plan_for_budget(Curve.of(_believed(60.0, 0.1)), floor_s=1.0, budget=50.0)

    assert plan.points_s[plan.first] > 40.0
    assert plan.polls < 25


@given(weights=WEIGHTS, floor_s=FLOORS, price_s=st.floats(0.003, 60))
def test_gaps_of_a_plan(weights: dict[int, float], floor_s: float, price_s: float) -> None:
    """Every gap keeps to both bounds up to the distance of points, and later means later."""
    plan = plan_at_price(Curve.of(_histogram(weights)), floor_s=floor_s, price_s=price_s)
    chosen = [point for point in plan.following if point is not None]

    assert sorted(chosen) == chosen
    for point, following in enumerate(plan.following):
        if following is None:
            continue
        gap_s = plan.points_s[following] - plan.points_s[point]
        step_s = 0.031 * plan.points_s[following]
        assert following > point
        assert floor_s - step_s <= gap_s <= max(floor_s, max_gap_s(plan.points_s[point])) + step_s


def test_between_points_a_plan_is_between() -> None:
    """A poll between two points is followed by one between those that follow them."""
    plan = plan_for_budget(Curve.of(_believed(17.3, 0.33)), floor_s=1.0, budget=6.0)
    point = plan.first
    before, after = plan.points_s[point], plan.points_s[point + 1]
    next_before, next_after = plan.next_s(before), plan.next_s(after)
    assert next_before is not None
    assert next_after is not None

    assert plan.next_s((before + after) / 2) == pytest.approx((next_before + next_after) / 2)


def test_past_its_end_a_plan_knows_nothing() -> None:
    """Beyond the grid there is no next poll of the plan, and nothing to come that it could cost."""
    plan = plan_for_budget(Curve.of(_believed(17.3, 0.33)), floor_s=1.0, budget=6.0)

    assert plan.next_s(900.1) is None
    assert plan.next_s(900.0) is None
    assert 0.0 == plan.cost_after_s(10_000.0)
    assert plan.next_s(0.01) is not None
