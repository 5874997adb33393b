"""When to poll so that an end is noticed soon with few polls: dynamic programming over a grid.

Every poll has a price, in seconds of detection lag that it must save. A plan minimises lag plus
price times polls, both as expected from a histogram, under two bounds: gaps are at least the floor
and, after the first poll, at most `max_gap_s`. The price is what makes the expected number of polls
fit a budget. A price is better than a count that runs out: for the same mean number of polls, six
polls each and then the longest gaps cost about half as much lag again (docs/polling.md).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

from gateway.domain.latency import Histogram

#: A gap may grow by this share of the time that has passed since the submit.
GAP_SHARE = 0.1
#: And starts from this many seconds.
GAP_START_S = 1.0

#: Prices of a poll, in seconds of lag, between which the one for a budget is looked for, and how
#: often the range is halved for it.
_MIN_PRICE_S = 0.003
_MAX_PRICE_S = 60.0
_HALVINGS = 12
#: Buckets wider than this factor are cut, so that a poll can stand inside them.
_MAX_STEP = 1.03


def max_gap_s(elapsed_s: float) -> float:
    """Return the longest gap that may begin `elapsed_s` after the submit (design rule 21)."""
    return GAP_START_S + GAP_SHARE * max(elapsed_s, 0.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """A histogram in a form to reckon with.

    At each point in seconds: how much has not ended by then (`alive`, shares), and the sum of the
    ending times of what has (`ended_s`).
    """

    points_s: tuple[float, ...]
    alive: tuple[float, ...]
    ended_s: tuple[float, ...]

    @classmethod
    def of(cls, histogram: Histogram, *, scale_s: float = 1.0) -> Curve:
        """Return the curve of a histogram, not an empty one, whose unit is `scale_s` seconds."""
        points, pieces = _cut(histogram)
        total = histogram.total
        shares = [piece / total for piece in pieces]
        # Summed from the end: differences from 1 would lose the small shares of the tail.
        beyond = histogram.weights[-1] / total
        alive = list(accumulate(reversed(shares[1:]), initial=beyond))[::-1]
        starts = [0.0, *points[:-1]]
        middles = ((start + end) / 2 for start, end in zip(starts, points, strict=True))
        ended = accumulate(
            share * middle * scale_s for share, middle in zip(shares, middles, strict=True)
        )
        return cls(tuple(point * scale_s for point in points), tuple(alive), tuple(ended))


def _cut(histogram: Histogram) -> tuple[list[float], list[float]]:
    """Return points, and the weight between each and the one before; wide buckets are cut."""
    edges = histogram.grid.edges
    parts = 1
    while (edges[1] / edges[0]) ** (1 / parts) > _MAX_STEP:
        parts += 1
    points, pieces = [edges[0]], [histogram.weights[0]]
    for bucket, (start, end) in enumerate(pairwise(edges), start=1):
        for part in range(1, parts + 1):
            points.append(start + (end - start) * part / parts)
            pieces.append(histogram.weights[bucket] / parts)
    return points, pieces


@dataclass(frozen=True, slots=True)
class Plan:
    """After a poll at each point, which point is next (None: none of the grid), and its cost.

    `cost_s` counts what is still to come for one that has not ended; `first` is the first poll of
    all. `polls` and `lag_s` are expected means over all renders.
    """

    points_s: tuple[float, ...]
    following: tuple[int | None, ...]
    cost_s: tuple[float, ...]
    first: int
    first_cost_s: float
    price_s: float
    polls: float
    lag_s: float

    def next_s(self, elapsed_s: float) -> float | None:
        """Return when to poll after one at `elapsed_s`; None past the plan's end.

        Between two points it is as far between what follows them: rounding up to the next point
        would be late at every poll.
        """
        point = bisect_left(self.points_s, elapsed_s)
        following = None if point == len(self.points_s) else self.following[point]
        if following is None:
            return None
        after_s = self.points_s[following]
        before = self.following[point - 1] if point else None
        if before is None:
            return after_s
        start_s, end_s = self.points_s[point - 1], self.points_s[point]
        missing = (end_s - elapsed_s) / (end_s - start_s)
        return after_s - missing * (after_s - self.points_s[before])

    def cost_after_s(self, elapsed_s: float) -> float:
        """Return lag plus price of what is still to come after a poll at `elapsed_s`."""
        point = bisect_left(self.points_s, elapsed_s)
        return self.cost_s[min(point, len(self.cost_s) - 1)]


@dataclass(frozen=True, slots=True)
class _Reach:
    """For each point the first and the last one that may follow it; the last one included."""

    nearest: tuple[int, ...]
    farthest: tuple[int, ...]
    first: int


def _reach(points_s: tuple[float, ...], floor_s: float) -> _Reach:
    """Return what the bounds allow, each rounded to the closest point.

    A floor that is rounded up to the next point would be half as long again where points are far
    apart; who acts on a plan keeps to the bounds to the letter.
    """
    ends_s = [*((here + after) / 2 for here, after in pairwise(points_s)), points_s[-1]]
    nearest, farthest = [], []
    near = far = 0
    for point, point_s in enumerate(points_s):
        near = max(near, point + 1)
        while near < len(points_s) and ends_s[near] < point_s + floor_s:
            near += 1
        limit_s = point_s + max(floor_s, max_gap_s(point_s))
        while far + 1 < len(points_s) and ends_s[far] < limit_s:
            far += 1
        nearest.append(near)
        farthest.append(max(far, near))
    first = min(bisect_left(ends_s, floor_s), len(points_s) - 1)
    return _Reach(tuple(nearest), tuple(farthest), first)


def plan_at_price(curve: Curve, *, floor_s: float, price_s: float) -> Plan:
    """Return the best plan when a poll is worth `price_s` seconds of lag."""
    return _plan(curve, _reach(curve.points_s, floor_s), price_s)


@lru_cache(maxsize=64)
def plan_for_budget(curve: Curve, *, floor_s: float, budget: float) -> Plan:
    """Return the plan with the least lag among those that expect at most `budget` polls a render.

    Where even the longest allowed gaps need more, the plan with those. It takes some ten
    milliseconds, and the last ones are remembered: what was not learned since is not planned again.
    """
    reach = _reach(curve.points_s, floor_s)
    plan = _plan(curve, reach, _MIN_PRICE_S)
    if plan.polls <= budget:
        return plan
    plan = _plan(curve, reach, _MAX_PRICE_S)
    low_s, high_s = _MIN_PRICE_S, _MAX_PRICE_S
    for _ in range(_HALVINGS):
        price_s = (low_s * high_s) ** 0.5
        tried = _plan(curve, reach, price_s)
        if tried.polls <= budget:
            plan, high_s = tried, price_s
        else:
            low_s = price_s
    return plan


def _plan(curve: Curve, reach: _Reach, price_s: float) -> Plan:
    """Work from the end back: the best next point is known when all later ones are.

    Later points get later followers, as lag grows with the product of gap and share (Monge).
    """
    points_s, alive, ended_s = curve.points_s, curve.alive, curve.ended_s
    count = len(points_s)
    # Sums over all renders, not means over those still alive: nothing has to be divided here.
    cost = [0.0] * count
    polls = [0.0] * count
    following: list[int | None] = [None] * count
    for point in range(count - 1, -1, -1):
        near, far = reach.nearest[point], min(reach.farthest[point], count - 1)
        if near >= count:
            continue
        here = alive[point]
        # What does not depend on which point is next stays out of the loop.
        best, chosen = float("inf"), near
        for later in range(near, far + 1):
            candidate = points_s[later] * (here - alive[later]) - ended_s[later] + cost[later]
            # Of equals the later: where nothing is left to find, gaps are as long as may be.
            if candidate <= best:
                best, chosen = candidate, later
        cost[point] = best + ended_s[point] + price_s * here
        polls[point] = here + polls[chosen]
        following[point] = chosen
    first_costs = [
        points_s[point] * (1.0 - alive[point]) - ended_s[point] + cost[point]
        for point in range(reach.first, count)
    ]
    first = reach.first + min(range(len(first_costs)), key=first_costs.__getitem__)
    first_cost_s = first_costs[first - reach.first] + price_s
    mean_polls = 1.0 + polls[first]
    return Plan(
        points_s=points_s,
        following=tuple(following),
        cost_s=tuple(
            cost[point] / alive[point] if alive[point] > 0 else 0.0 for point in range(count)
        ),
        first=first,
        first_cost_s=first_cost_s,
        price_s=price_s,
        polls=mean_polls,
        lag_s=first_cost_s - price_s * mean_polls,
    )
