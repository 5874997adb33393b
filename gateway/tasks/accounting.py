"""What the metrics learn from tasks: phases, pictures, tokens and money, each counted once."""

from __future__ import annotations

from dataclasses import asdict

from gateway.domain.images import TokenUsage
from gateway.domain.pricing import ChargeBasis
from gateway.providers.interface import Provider
from gateway.tasks.interface import Ending
from gateway.tasks.live import LiveTask
from gateway.telemetry.metrics import Metrics, usd


class Accounting:
    """Translates the engine's steps into metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def admitted(self, live: LiveTask) -> None:
        """Count a task in."""
        self._metrics.tasks_in_flight.labels(_provider(live)).inc()

    def left(self, live: LiveTask) -> None:
        """Count a task out, once, when it is over for this process."""
        if not live.outcome.done():
            self._metrics.tasks_in_flight.labels(_provider(live)).dec()

    def phase(self, live: LiveTask, phase: str, seconds: float) -> None:
        """Note how long a phase took; tries of one phase add up on the task."""
        live.phases_s[phase] = live.phases_s.get(phase, 0.0) + seconds
        self._metrics.phase_duration.labels(phase, _provider(live), live.task.model).observe(
            seconds
        )

    def detected(self, live: LiveTask, provider: Provider, now_s: float) -> None:
        """Note that a render was seen to have ended."""
        self.phase(live, "render", now_s - live.submitted_s)
        self._metrics.polls_per_render.labels(provider.name).observe(live.polls)
        self._metrics.detection_lag.labels(provider.name).observe(now_s - live.last_pending_s)

    def concluded(self, live: LiveTask, ending: Ending) -> None:
        """Count the render's end and its money."""
        task, charge = live.task, ending.charge
        provider = _provider(live)
        self._metrics.renders.labels(provider, task.model, task.render.state.value).inc()
        for category, microusd in charge.by_category.items():
            self._metrics.cost.labels(live.team_label, task.model, provider, category).inc(
                usd(microusd)
            )
        if charge.basis is ChargeBasis.POSSIBLE:
            self._metrics.possible_charge.labels(provider).inc(usd(charge.total_microusd))
        if charge.drift_microusd:
            self._metrics.billing_drift.labels(provider).inc(usd(abs(charge.drift_microusd)))
        overrun = charge.total_microusd - task.hold.amount_microusd
        if overrun > 0:
            self._metrics.hold_overrun.labels(live.team_label).inc(usd(overrun))

    def used(self, live: LiveTask, usage: TokenUsage | None) -> None:
        """Count the tokens the upstream reported."""
        if usage is None:
            return
        for category, tokens in asdict(usage).items():
            if tokens:
                self._metrics.tokens.labels(live.team_label, live.task.model, category).inc(tokens)

    def stored(self, live: LiveTask) -> None:
        """Count a picture that is paid for and kept."""
        task = live.task
        self._metrics.images.labels(
            live.team_label, task.model, _provider(live), task.quality, task.size
        ).inc()


def _provider(live: LiveTask) -> str:
    return live.task.render.order.provider
