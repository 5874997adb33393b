"""When to ask again: pure decisions, no clock and no randomness of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.latency import Forecast, ForecastKind, Histogram
from gateway.domain.poll_plan import Curve, Plan, max_gap_s, plan_at_price, plan_for_budget

#: A planned poll is put off by up to this share of its wait at random, so that tasks do not poll
#: in step; never earlier, as a poll just before the end costs a whole gap.
JITTER_SHARE = 0.02
JITTER_MAX_S = 0.25
#: Up to this share is taken off the longest allowed gap at random.
MAX_GAP_JITTER_SHARE = 0.1
#: One task in 32 first asks after half the wait: who never asks early never learns that an
#: upstream has become faster.
PROBE_SHARE = 1 / 32
PROBE_AT = 0.5
#: A task that has used this many times the budget is none the plan was made for.
OVERRUN = 3
#: An upstream's `Retry-After` is honoured up to this many seconds.
MAX_RETRY_AFTER_S = 300.0

#: Plans for forecasts are made for totals this factor apart.
_TOTAL_STEP = math.log(1.1)


@dataclass(frozen=True, slots=True)
class PollLimits:
    """What bounds the polls of a task: seconds between two of them, and their mean number."""

    floor_s: float
    budget: float


class Schedule:
    """Decides about the polls of one class of renders, from one state of what was learned.

    Pure but for a memory of the plans it has made. Making one takes milliseconds, asking it
    microseconds.
    """

    def __init__(
        self,
        latencies: Histogram,
        limits: PollLimits,
        ratios: Mapping[ForecastKind, Histogram] | None = None,
        *,
        proven: bool = True,
        probing: bool = True,
    ) -> None:
        """Take the seconds that renders took, and the parts of each kind of forecast.

        Neither may be empty: see `Histogram.with_prior`. As long as they are `proven` by few
        renders or none, the first wait is as short as any gap: a belief alone delays nobody.
        Without `probing` no task asks early to find out whether renders take less than they did.
        """
        self.proven = proven
        self._probe_share = PROBE_SHARE if probing else 0.0
        self.latencies = latencies
        self.ratios = ratios or {}
        self._limits = limits
        self.plan = plan_for_budget(
            Curve.of(latencies), floor_s=limits.floor_s, budget=limits.budget
        )
        self._forecast_plans: dict[tuple[ForecastKind, int], Plan] = {}

    def delay_s(
        self,
        elapsed_s: float,
        *,
        polls: int,
        jitter: float,
        forecasts: Sequence[Forecast] = (),
        retry_after_s: float | None = None,
    ) -> float:
        """Return seconds until the next poll of a task submitted `elapsed_s` ago.

        `polls` is how many it had; `jitter` is random in [0, 1). Never less than the floor or what
        `Retry-After` asks for; after the first poll otherwise never more than `max_gap_s`.
        """
        elapsed_s = max(elapsed_s, 0.0)
        delay_s = self._wanted_s(elapsed_s, polls, forecasts) - elapsed_s
        delay_s += min(delay_s * JITTER_SHARE, JITTER_MAX_S) * jitter
        if polls == 0 and self.proven:
            delay_s *= PROBE_AT if jitter < self._probe_share else 1.0
        else:
            longest_s = max_gap_s(elapsed_s) * (1.0 - MAX_GAP_JITTER_SHARE * jitter)
            delay_s = min(delay_s, longest_s)
        asked_s = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
        return max(delay_s, self._limits.floor_s, asked_s)

    def _wanted_s(self, elapsed_s: float, polls: int, forecasts: Sequence[Forecast]) -> float:
        """Return when the best informed plan would poll, in seconds after the submit."""
        if polls >= OVERRUN * self._limits.budget:
            return elapsed_s + max_gap_s(elapsed_s)
        cost_s, next_s = _ask(self.plan, elapsed_s, polls)
        for forecast in forecasts:
            if forecast.kind not in self.ratios:
                continue
            plan, stretch = self._plan_by(forecast)
            told_cost_s, told_s = _ask(plan, elapsed_s / stretch, polls)
            # What was learned of a forecast says how sharp it is: the sharper is the cheaper.
            if told_cost_s * stretch < cost_s:
                cost_s = told_cost_s * stretch
                next_s = None if told_s is None else told_s * stretch
        return elapsed_s + max_gap_s(elapsed_s) if next_s is None else max(next_s, elapsed_s)

    def _plan_by(self, forecast: Forecast) -> tuple[Plan, float]:
        """Return a plan for about this forecast, and by what factor to stretch its times."""
        step = round(math.log(forecast.total_s) / _TOTAL_STEP)
        about_s = math.exp(step * _TOTAL_STEP)
        plan = self._forecast_plans.get((forecast.kind, step))
        if plan is None:
            plan = self._forecast_plans[forecast.kind, step] = plan_at_price(
                Curve.of(self.ratios[forecast.kind], scale_s=about_s),
                floor_s=self._limits.floor_s,
                # A poll must save the same lag whatever told us when to ask.
                price_s=self.plan.price_s,
            )
        return plan, forecast.total_s / about_s


def _ask(plan: Plan, elapsed_s: float, polls: int) -> tuple[float, float | None]:
    """Return a plan's cost of what is still to come, and when it would poll next."""
    if polls == 0:
        return plan.first_cost_s, plan.points_s[plan.first]
    return plan.cost_after_s(elapsed_s), plan.next_s(elapsed_s)


def backoff_s(failures: int, *, first_s: float, cap_s: float) -> float:
    """Return seconds to wait after the `failures`-th failure in a row (1-based): doubling."""
    return min(first_s * 2.0 ** min(failures - 1, 30), cap_s)
