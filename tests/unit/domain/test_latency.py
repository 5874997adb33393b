import math
import random
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.images import Operation, Size
from gateway.domain.latency import (
    LATENCY_GRID,
    PRIOR_COUNT,
    RATIO_GRID,
    Forecast,
    ForecastKind,
    Grid,
    Histogram,
    LatencyClass,
    Lognormal,
    forecast_from_estimate,
    forecast_from_progress,
    noted,
    size_class,
)

#: Buckets below 1, from 1 to 2, from 2 to 4, and from 4 on.
SMALL = Grid((1.0, 2.0, 4.0))
NOWHERE = Histogram.empty(SMALL)
EVEN = Histogram(SMALL, (1.0, 1.0, 1.0, 1.0))


def test_the_name_of_a_class_says_all_of_it() -> None:
    """Every part of a class keeps its renders apart from others."""
    renders = LatencyClass("evolink", "gpt-image-1.5", Operation.EDIT, "low", "1k")

    assert "evolink|gpt-image-1.5|edit|low|1k" == renders.name


@pytest.mark.parametrize(
    ("size", "name"),
    [
        ("1024x1024", "1k"),
        ("1536x1024", "1k"),
        ("1700x1000", "1k"),
        ("1701x1000", "2k"),
        ("2048x2048", "2k"),
        ("4400x1000", "2k"),
        ("4401x1000", "4k"),
        ("3840x2160", "4k"),
    ],
)
def test_size_classes(size: str, name: str) -> None:
    """Sizes fall into three classes by area."""
    assert name == size_class(Size.parse(size))


@pytest.mark.parametrize(
    ("value", "share"), [(10.0, 0.5), (20.0, 0.841345), (5.0, 0.158655), (0.0, 0.0), (-1.0, 0.0)]
)
def test_a_lognormal_belief(value: float, share: float) -> None:
    """Half lies below the median, and five sixths below one sigma's factor above it."""
    assert share == pytest.approx(Lognormal(10.0, math.log(2)).below(value), abs=1e-6)


def test_the_grids_reach_as_far_as_pictures_take() -> None:
    """Latencies from a quarter of a second to 15 minutes and beyond, in steps of about 7 %."""
    edges = LATENCY_GRID.edges

    assert (0.25, 900.0, 122) == (edges[0], edges[-1], LATENCY_GRID.buckets)
    assert (0.0, 0.25) == LATENCY_GRID.bounds(0)
    assert (900.0, math.inf) == LATENCY_GRID.bounds(121)
    assert edges[1] / edges[0] == pytest.approx(edges[-1] / edges[-2])
    assert RATIO_GRID.buckets == LATENCY_GRID.buckets


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        # All in one bucket, at its edge too, and an end at the very moment of a poll.
        (1.2, 1.9, {1: 1.0}),
        (1.0, 1.0, {1: 1.0}),
        (5.0, 9.0, {3: 1.0}),
        # What is turned round or below zero is put right.
        (-1.0, 0.5, {0: 1.0}),
        (1.9, 1.2, {1: 1.0}),
        # Where nothing is expected yet: evenly over the interval.
        (0.0, 2.0, {0: 0.5, 1: 0.5}),
        (1.5, 4.0, {1: 0.2, 2: 0.8}),
        (3.0, 7.0, {2: 0.25, 3: 0.75}),
    ],
)
def test_an_interval_without_expectations(
    lower: float, upper: float, expected: dict[int, float]
) -> None:
    """One observation is spread over its interval, and no further."""
    assert expected == pytest.approx(NOWHERE.spread(lower, upper))


def test_an_interval_is_spread_as_expected() -> None:
    """Where the histogram expects more, more of an observation goes; a little goes evenly."""
    three_to_one = Histogram(SMALL, (3.0, 1.0, 0.0, 0.0))

    assert three_to_one.spread(0.0, 2.0) == pytest.approx(
        {0: 0.05 * 0.5 + 0.95 * 0.75, 1: 0.05 * 0.5 + 0.95 * 0.25}
    )
    # Half of a bucket has half of its weight.
    assert three_to_one.spread(0.5, 2.0) == pytest.approx(
        {0: 0.05 / 3 + 0.95 * 0.6, 1: 0.05 * 2 / 3 + 0.95 * 0.4}
    )
    # The open bucket counts whole.
    assert EVEN.spread(2.0, 6.0) == pytest.approx({2: 0.5, 3: 0.5})


@given(
    weights=st.lists(st.floats(0, 1e6), min_size=122, max_size=122),
    lower=st.floats(0, 1e5),
    length=st.floats(0, 1e5),
)
def test_an_observation_weighs_one(weights: list[float], lower: float, length: float) -> None:
    """However it is spread, nothing is lost, nothing is negative."""
    spread = Histogram(LATENCY_GRID, tuple(weights)).spread(lower, lower + length)

    assert 1.0 == pytest.approx(math.fsum(spread.values()))
    assert all(0.0 <= weight <= 1.0 + 1e-9 for weight in spread.values())


@pytest.mark.parametrize(
    ("share", "value"),
    [(0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.5, 2.0), (0.625, 3.0), (0.75, 4.0), (0.99, 4.0)],
)
def test_quantiles(share: float, value: float) -> None:
    """Values are even within a bucket; beyond the grid it is the grid's end."""
    assert value == pytest.approx(EVEN.quantile(share))


@pytest.mark.parametrize(
    ("value", "share"),
    [(0.0, 1.0), (0.5, 0.875), (1.0, 0.75), (3.0, 0.375), (4.0, 0.25), (9, 0.25)],
)
def test_survival(value: float, share: float) -> None:
    """It falls evenly within a bucket, and what lies beyond the grid outlives all of it."""
    assert share == pytest.approx(EVEN.survival(value))


def test_nothing_is_known_of_an_empty_histogram() -> None:
    """Nothing has ended by any time, and the quantile is the last resort."""
    assert 1.0 == NOWHERE.survival(3.0)
    assert 4.0 == NOWHERE.quantile(0.5)
    assert 0.0 == NOWHERE.distance(NOWHERE)


def test_observations_age_and_add_up() -> None:
    """Weights shrink together and add bucket by bucket."""
    assert (2.0, 4.0, 0.0, 6.0) == Histogram(SMALL, (4.0, 8.0, 0.0, 12.0)).scaled(0.5).weights
    assert (2.0, 1.0, 1.0, 4.0) == EVEN.plus(Histogram(SMALL, (1.0, 0.0, 0.0, 3.0))).weights


def test_distance_is_the_share_that_lies_elsewhere() -> None:
    """It does not matter how many observations there are, only where."""
    assert 0.0 == pytest.approx(EVEN.distance(EVEN.scaled(7.0)))
    assert 0.25 == pytest.approx(EVEN.distance(Histogram(SMALL, (0.0, 2.0, 1.0, 1.0))))
    assert 1.0 == Histogram(SMALL, (1, 0, 0, 0)).distance(Histogram(SMALL, (0, 0, 5, 0)))


def test_a_belief_counts_as_its_weight() -> None:
    """What is believed looks like that many observations, with the belief's quantiles."""
    belief = Histogram.believed(LATENCY_GRID, Lognormal(17.0, 0.3), 20.0)

    assert 20.0 == pytest.approx(belief.total)
    assert 17.0 == pytest.approx(belief.quantile(0.5), rel=0.02)
    assert 17.0 * math.exp(0.3) == pytest.approx(belief.quantile(0.841345), rel=0.02)


@pytest.mark.parametrize(("seen", "believed"), [(0.0, 20.0), (20.0, 10.0), (380.0, 1.0)])
def test_a_belief_fades_as_observations_come(seen: float, believed: float) -> None:
    """With nothing seen the belief stands alone; after hundreds it hardly counts."""
    belief = Lognormal(1.0, 0.5)
    counted = [0.0] * LATENCY_GRID.buckets
    counted[bisect_right(LATENCY_GRID.edges, 1.4)] = seen
    merged = Histogram(LATENCY_GRID, tuple(counted)).with_prior(belief)

    assert PRIOR_COUNT == 20.0
    assert seen + believed == pytest.approx(merged.total)


@pytest.mark.parametrize(("elsewhere", "believed"), [(0, 16.0), (1, 12.8), (5, 0.0)])
def test_a_belief_that_is_contradicted_counts_less(elsewhere: int, believed: float) -> None:
    """Of five renders so many took what the belief holds for all but impossible."""
    counted = [0.0] * LATENCY_GRID.buckets
    counted[bisect_right(LATENCY_GRID.edges, 9.0)] = 5.0 - elsewhere
    counted[bisect_right(LATENCY_GRID.edges, 40.0)] = elsewhere
    merged = Histogram(LATENCY_GRID, tuple(counted)).with_prior(Lognormal(8.7, 0.33))

    assert 5.0 + believed == pytest.approx(merged.total)


def test_smoothing_goes_to_the_neighbours() -> None:
    """Half stays; a quarter goes either way, and none falls off the ends."""
    seen = Histogram(SMALL, (80_000.0, 0.0, 0.0, 80_000.0)).with_prior(Lognormal(1.0, 0.1))

    assert (60_000, 20_000, 20_000, 60_000) == pytest.approx(seen.weights, abs=0.01)


def test_intervals_bring_back_what_made_them() -> None:
    """From nothing but polls every 4 s, quantiles come out finer than the polls."""
    chance = random.Random(3)
    belief = Lognormal(60.0, 0.8)
    counted = Histogram.empty(LATENCY_GRID)
    for _ in range(2_000):
        end_s = 20.0 * math.exp(0.2 * chance.gauss(0, 1))
        phase_s = chance.uniform(0.0, 4.0)
        polled = math.floor((end_s - phase_s) / 4.0) * 4.0 + phase_s
        spread = counted.with_prior(belief).spread(polled, polled + 4.0)
        weights = [0.998 * weight for weight in counted.weights]
        for bucket, weight in spread.items():
            weights[bucket] += weight
        counted = Histogram(LATENCY_GRID, tuple(weights))

    learned = counted.with_prior(belief)
    assert 20.0 == pytest.approx(learned.quantile(0.5), rel=0.05)
    assert 20.0 * math.exp(0.2 * 1.645) == pytest.approx(learned.quantile(0.95), rel=0.08)


@pytest.mark.parametrize(
    ("progress", "elapsed_s", "forecast"),
    [
        (50, 10.0, Forecast(ForecastKind.FROM_40, 20.0)),
        (1, 1.0, Forecast(ForecastKind.FROM_1, 100.0)),
        (19, 1.9, Forecast(ForecastKind.FROM_1, 10.0)),
        (20, 1.0, Forecast(ForecastKind.FROM_20, 5.0)),
        (60, 6.0, Forecast(ForecastKind.FROM_60, 10.0)),
        (80, 8.0, Forecast(ForecastKind.FROM_80, 10.0)),
        (99, 9.9, Forecast(ForecastKind.FROM_80, 10.0)),
        # Not begun, already done, not told, and nothing to reckon from.
        (0, 10.0, None),
        (100, 10.0, None),
        (-3, 10.0, None),
        (None, 10.0, None),
        (50, 0.0, None),
    ],
)
def test_progress_foretells_the_end(
    progress: int | None, elapsed_s: float, forecast: Forecast | None
) -> None:
    """As it began, so it goes on; kinds go by how far it had come."""
    assert forecast == forecast_from_progress(progress, elapsed_s)


@pytest.mark.parametrize("estimate_s", [None, 0.0, -1.0, math.inf, math.nan])
def test_no_estimate_is_no_forecast(estimate_s: float | None) -> None:
    """What cannot be a time is not taken for one."""
    assert None is forecast_from_estimate(estimate_s)


def test_the_first_forecast_of_a_kind_stands() -> None:
    """A task has at most one forecast of each kind, whatever it is told later."""
    estimate = forecast_from_estimate(100.0)
    half = Forecast(ForecastKind.FROM_40, 20.0)
    told = noted(noted((), estimate), half)

    assert (Forecast(ForecastKind.ESTIMATE, 100.0), half) == told
    assert told == noted(told, Forecast(ForecastKind.FROM_40, 30.0))
    assert told == noted(told, None)
