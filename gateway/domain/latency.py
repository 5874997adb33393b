"""How long renders take, as something that is learned from what polls could see.

A poll never sees when a render ended, only that it had not at one poll and had at the next. So an
observation is an interval, and its weight is spread over the interval's buckets as the histogram
so far expects it (one smoothed step of expectation maximisation): what the intervals have in common
sharpens over time, and where polls happen to be leaves no mark.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.images import Operation, Size

#: As much as this many observations counts what was known before there were any; it fades as
#: they come in.
PRIOR_COUNT = 20.0
#: What lies in this share of a prior at either end was not expected by it.
FAR_TAIL = 0.005
#: This share of an observation goes evenly over its interval, whatever the histogram expects, so
#: that a latency nobody expected can be learned.
EVEN_SHARE = 0.05
#: Areas up to which a picture counts as 1K or 2K (protocols/evolink.md §2.4).
_MAX_PIXELS = ((1_700_000, "1k"), (4_400_000, "2k"))


@dataclass(frozen=True, slots=True)
class LatencyClass:
    """Renders that are expected to take about as long as each other."""

    provider: str
    model: str
    operation: Operation
    quality: str
    size_class: str

    @property
    def name(self) -> str:
        """The class as one word, for the store."""
        return f"{self.provider}|{self.model}|{self.operation}|{self.quality}|{self.size_class}"


def size_class(size: Size) -> str:
    """Return ``1k``, ``2k`` or ``4k``, by area."""
    return next((name for most, name in _MAX_PIXELS if size.pixels <= most), "4k")


@dataclass(frozen=True, slots=True)
class Lognormal:
    """What is believed before anything was seen: half above `median`, and how wide.

    Two thirds of all values are within a factor of ``exp(sigma)`` of the median.
    """

    median: float
    sigma: float

    def below(self, value: float) -> float:
        """Return the probability of less than `value`."""
        if value <= 0:
            return 0.0
        deviations = math.log(value / self.median) / self.sigma
        return 0.5 * math.erfc(-deviations / math.sqrt(2))


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets: below the first edge, between each two, and beyond the last."""

    edges: tuple[float, ...]

    @classmethod
    def logarithmic(cls, first: float, last: float, *, steps: int) -> Grid:
        """Return edges from `first` to `last`, each the same factor above the one before."""
        growth = math.log(last / first) / steps
        return cls((*(first * math.exp(growth * step) for step in range(steps)), last))

    @property
    def buckets(self) -> int:
        """How many there are, both open ones included."""
        return len(self.edges) + 1

    def bounds(self, bucket: int) -> tuple[float, float]:
        """Return where a bucket begins and ends; the last ends nowhere."""
        start = self.edges[bucket - 1] if bucket else 0.0
        return start, self.edges[bucket] if bucket < len(self.edges) else math.inf


#: Seconds from the submit: 7 % steps.
LATENCY_GRID = Grid.logarithmic(0.25, 900.0, steps=120)
#: The time a render took, in parts of what was forecast: 2.3 % steps.
RATIO_GRID = Grid.logarithmic(0.25, 4.0, steps=120)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fell into each bucket of a grid; weights are not whole numbers."""

    grid: Grid
    weights: tuple[float, ...]

    @classmethod
    def empty(cls, grid: Grid) -> Histogram:
        """Return a histogram of nothing."""
        return cls(grid, (0.0,) * grid.buckets)

    @classmethod
    def believed(cls, grid: Grid, prior: Lognormal, weight: float) -> Histogram:
        """Return what a prior would have counted in `weight` observations."""
        below = [0.0, *(prior.below(edge) for edge in grid.edges), 1.0]
        return cls(
            grid,
            tuple(weight * (upto - before) for before, upto in itertools.pairwise(below)),
        )

    @property
    def total(self) -> float:
        """How many observations there are."""
        return math.fsum(self.weights)

    def scaled(self, factor: float) -> Histogram:
        """Return every weight times `factor`: how observations age."""
        return Histogram(self.grid, tuple(weight * factor for weight in self.weights))

    def plus(self, other: Histogram) -> Histogram:
        """Return both together."""
        both = zip(self.weights, other.weights, strict=True)
        return Histogram(self.grid, tuple(ours + theirs for ours, theirs in both))

    def with_prior(self, prior: Lognormal) -> Histogram:
        """Return the observations, and the prior for as much as they leave of it; smoothed.

        That is the less, the more there are, and the more of them lie where the prior had none of a
        hundred expected: a belief that turns out to be wrong does not count until it is outvoted.
        The smoothing goes to the neighbours: intervals cannot tell one bucket from the next.
        """
        total = self.total
        weight = PRIOR_COUNT * PRIOR_COUNT / (PRIOR_COUNT + total)
        if total > 0:
            weight *= self._foreseen(prior) / total
        return self._smoothed().plus(Histogram.believed(self.grid, prior, weight))

    def _foreseen(self, prior: Lognormal) -> float:
        """Return the weight of the buckets that are not wholly in one of the prior's far tails."""
        below = [0.0, *(prior.below(edge) for edge in self.grid.edges), 1.0]
        return math.fsum(
            weight
            for weight, (before, upto) in zip(self.weights, itertools.pairwise(below), strict=True)
            if upto > FAR_TAIL and before < 1.0 - FAR_TAIL
        )

    def survival(self, value: float) -> float:
        """Return the share above `value`; 1 for an empty histogram."""
        total = self.total
        if total <= 0:
            return 1.0
        bucket = bisect_right(self.grid.edges, value)
        above = math.fsum(self.weights[bucket + 1 :])
        start, end = self.grid.bounds(bucket)
        within = 1.0 if math.isinf(end) else (end - value) / (end - start)
        return min((above + self.weights[bucket] * within) / total, 1.0)

    def quantile(self, share: float) -> float:
        """Return the value below which this share is, at most the grid's last edge."""
        wanted = share * self.total
        for bucket, weight in enumerate(self.weights[:-1]):
            if weight > 0 and wanted <= weight:
                start, end = self.grid.bounds(bucket)
                return start + (end - start) * max(wanted, 0.0) / weight
            wanted -= weight
        return self.grid.edges[-1]

    def distance(self, other: Histogram) -> float:
        """Return the share of observations by which two histograms differ, 0 to 1."""
        ours, theirs = self.total or 1.0, other.total or 1.0
        both = zip(self.weights, other.weights, strict=True)
        return 0.5 * math.fsum(abs(mine / ours - yours / theirs) for mine, yours in both)

    def spread(self, lower: float, upper: float) -> dict[int, float]:
        """Return one observation between `lower` and `upper` as weights by bucket; their sum is 1.

        In proportion to this histogram, and `EVEN_SHARE` of it evenly.
        """
        lower = max(lower, 0.0)
        upper = max(upper, lower)
        first = bisect_right(self.grid.edges, lower)
        # An end at an edge was seen below it.
        last = max(bisect_left(self.grid.edges, upper), first)
        if first == last:
            return {first: 1.0}
        even = {bucket: self._overlap(bucket, lower, upper) for bucket in range(first, last + 1)}
        expected = {bucket: self._within(bucket, span) for bucket, span in even.items()}
        length, mass = math.fsum(even.values()), math.fsum(expected.values())
        if mass <= 0:
            return {bucket: span / length for bucket, span in even.items()}
        return {
            bucket: EVEN_SHARE * even[bucket] / length + (1 - EVEN_SHARE) * expected[bucket] / mass
            for bucket in even
        }

    def _overlap(self, bucket: int, lower: float, upper: float) -> float:
        start, end = self.grid.bounds(bucket)
        return min(end, upper) - max(start, lower)

    def _within(self, bucket: int, span: float) -> float:
        """Return how much of a bucket's weight lies in a part of it that is `span` long."""
        start, end = self.grid.bounds(bucket)
        # The open bucket has no length; what ends in it is somewhere in it.
        return self.weights[bucket] * (1.0 if math.isinf(end) else span / (end - start))

    def _smoothed(self) -> Histogram:
        """Return a quarter of each weight moved to either neighbour."""
        padded = (self.weights[0], *self.weights, self.weights[-1])
        triples = zip(padded, padded[1:], padded[2:], strict=False)
        return Histogram(
            self.grid, tuple(0.25 * left + 0.5 * own + 0.25 * right for left, own, right in triples)
        )


class ForecastKind(StrEnum):
    """What an upstream's word about the end of a render rests on; values are kept in the store.

    Words of one kind are trusted alike, and each kind as far as it was right before. Progress
    counts by how far it had come: 3 % says less than 90 %.
    """

    ESTIMATE = "estimate"
    FROM_1 = "progress_1"
    FROM_20 = "progress_20"
    FROM_40 = "progress_40"
    FROM_60 = "progress_60"
    FROM_80 = "progress_80"


_BANDS = (
    (80, ForecastKind.FROM_80),
    (60, ForecastKind.FROM_60),
    (40, ForecastKind.FROM_40),
    (20, ForecastKind.FROM_20),
    (1, ForecastKind.FROM_1),
)
_COMPLETE = 100

#: How far off each kind is believed to be before it was compared with anything. What EvoLink's
#: numbers mean is not known (protocols/evolink.md §18.12), so that they must earn their trust.
FORECAST_PRIORS: Mapping[ForecastKind, Lognormal] = {
    ForecastKind.ESTIMATE: Lognormal(median=1.0, sigma=1.0),
    ForecastKind.FROM_1: Lognormal(median=1.0, sigma=0.6),
    ForecastKind.FROM_20: Lognormal(median=1.0, sigma=0.5),
    ForecastKind.FROM_40: Lognormal(median=1.0, sigma=0.4),
    ForecastKind.FROM_60: Lognormal(median=1.0, sigma=0.4),
    ForecastKind.FROM_80: Lognormal(median=1.0, sigma=0.4),
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a render would end by its upstream's word: seconds from the submit, above zero."""

    kind: ForecastKind
    total_s: float


def forecast_from_estimate(estimate_s: float | None) -> Forecast | None:
    """Return the forecast in a submit's answer (`estimated_time`), or None."""
    if estimate_s is None or not 0 < estimate_s < math.inf:
        return None
    return Forecast(ForecastKind.ESTIMATE, estimate_s)


def forecast_from_progress(progress: int | None, elapsed_s: float) -> Forecast | None:
    """Return the forecast of a render that has come `progress` per cent in `elapsed_s`, or None.

    As if it went on as it began; 0 and 100 say nothing.
    """
    if progress is None or not 0 < progress < _COMPLETE or elapsed_s <= 0:
        return None
    kind = next(kind for least, kind in _BANDS if progress >= least)
    return Forecast(kind, elapsed_s * _COMPLETE / progress)


def noted(forecasts: tuple[Forecast, ...], forecast: Forecast | None) -> tuple[Forecast, ...]:
    """Return the forecasts with a new one, unless there is one of its kind.

    The first of a kind stands. The last one before an end is always right: a progress that stays
    at 95 would be trusted for it.
    """
    if forecast is None or any(known.kind is forecast.kind for known in forecasts):
        return forecasts
    return (*forecasts, forecast)
