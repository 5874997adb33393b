"""How late polls are after their turn, waits for a slot among it, and how long they are put off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from gateway.domain.clock import Clock
from gateway.telemetry.metrics import Metrics

#: The worst is told for this long at least, so that no scrape misses it, and twice that at most.
TOLD_FOR_S = 60.0


@dataclass(slots=True, eq=False)
class _Worst:
    """The worst of the span that began at `since_s`, and of the one before it."""

    since_s: float
    now_s: float = 0.0
    before_s: float = 0.0

    def turn(self, monotonic_s: float) -> None:
        """Begin a new span when this one is over."""
        age_s = monotonic_s - self.since_s
        if age_s >= TOLD_FOR_S:
            self.before_s = self.now_s if age_s < 2 * TOLD_FOR_S else 0.0
            self.now_s, self.since_s = 0.0, monotonic_s


class Lateness:
    """Shows in metrics how late the polls of each provider are."""

    def __init__(self, metrics: Metrics, clock: Clock, providers: Iterable[str]) -> None:
        self._clock = clock
        self._histograms = {name: metrics.poll_lateness.labels(name) for name in providers}
        self._put_off = {name: metrics.poll_put_off.labels(name) for name in self._histograms}
        self._worst = {name: _Worst(clock.monotonic_s()) for name in self._histograms}
        for name in self._worst:
            metrics.follow(metrics.poll_lateness_max.labels(name), partial(self.worst_s, name))

    def observe(self, provider: str, late_s: float, put_off_s: float) -> None:
        """Note a poll that starts so many seconds after its turn, which was put off so long."""
        self._histograms[provider].observe(late_s)
        self._put_off[provider].observe(put_off_s)
        worst = self._worst[provider]
        worst.turn(self._clock.monotonic_s())
        worst.now_s = max(worst.now_s, late_s)

    def worst_s(self, provider: str) -> float:
        """Return the worst of the last one to two minutes."""
        worst = self._worst[provider]
        worst.turn(self._clock.monotonic_s())
        return max(worst.now_s, worst.before_s)
