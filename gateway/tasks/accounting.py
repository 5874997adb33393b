"""What the metrics learn from tasks: phases, pictures, tokens and money, each counted once."""

from __future__ import annotations

from dataclasses import asdict

from gateway.domain.images import TokenUsage
from gateway.domain.pricing import ChargeBasis
from gateway.domain.sizes import FixedSizes
from gateway.tasks.interface import Ending
from gateway.tasks.live import LiveRender, LiveTask
from gateway.telemetry.metrics import OTHER, Metrics, usd

#: Phases in which the gateway waits for the upstream; the rest of a request is its own overhead.
UPSTREAM_PHASES = ("upload", "submit", "render", "fetch")

#: Sizes that are told apart of models that make any (protocols/openai_images.md §2).
USUAL_SIZES = frozenset(
    {"1024x1024", "1536x1024", "1024x1536", "2048x2048", "2048x1152", "3840x2160", "2160x3840"}
)


class Accounting:
    """Translates the engine's steps into metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def admitted(self, live: LiveTask) -> None:
        """Count a task in."""
        self._metrics.tasks_in_flight.labels(_provider(live)).inc()

    def left(self, live: LiveTask) -> None:
        """Count a task out, once, when it is over for this process."""
        if not live.done.done():
            self._metrics.tasks_in_flight.labels(_provider(live)).dec()

    def phase(self, live: LiveTask, phase: str, seconds: float) -> None:
        """Note how long a phase took; tries of one phase add up on the task."""
        live.phases_s[phase] = live.phases_s.get(phase, 0.0) + seconds
        self._metrics.phase_duration.labels(phase, _provider(live), live.task.model).observe(
            seconds
        )

    def render_phase(self, one: LiveRender, phase: str, seconds: float) -> None:
        """Note how long a phase of a render took, and whether it was spent at the upstream."""
        if phase in UPSTREAM_PHASES:
            one.upstream_s += seconds
        self.phase(one.live, phase, seconds)

    def recovered(self) -> None:
        """Count a task that was taken over from another process."""
        self._metrics.recovered_tasks.inc()

    def repriced(self, live: LiveTask) -> None:
        """Count a task that is not settled by the prices it was quoted by."""
        self._metrics.repriced_tasks.labels(_provider(live)).inc()

    def tried_again(self, one: LiveRender) -> None:
        """Count a submission that failed at no charge and is made once more."""
        live = one.live
        self._metrics.renders.labels(_provider(live), live.task.model, "retried").inc()

    def called_in_vain(self, why: str) -> None:
        """Count a callback that told nothing new: `early` or `repeated`."""
        self._metrics.callbacks.labels("in", why).inc()

    def detected(self, one: LiveRender, now_s: float) -> None:
        """Note that a render was seen to have ended; nothing of it when others began it."""
        if one.live.adopted:
            return
        provider = _provider(one.live)
        self.render_phase(one, "render", now_s - one.submitted_s)
        self._metrics.polls_per_render.labels(provider).observe(one.polls)
        # Whoever was called knows that it had not ended long before.
        known_s = one.called_s or one.last_pending_s
        self._metrics.detection_lag.labels(provider).observe(now_s - known_s)

    def concluded(self, one: LiveRender, ending: Ending) -> None:
        """Count the render's end and its money."""
        live, task, charge = one.live, one.live.task, ending.charge
        provider = _provider(live)
        self._metrics.renders.labels(provider, task.model, one.render.state.value).inc()
        for category, microusd in charge.by_category.items():
            self._metrics.cost.labels(live.task.team, task.model, provider, category).inc(
                usd(microusd)
            )
        if charge.basis is ChargeBasis.POSSIBLE:
            self._metrics.possible_charge.labels(provider).inc(usd(charge.total_microusd))
        if charge.drift_microusd:
            self._metrics.billing_drift.labels(provider).inc(usd(abs(charge.drift_microusd)))
        overrun = charge.total_microusd - one.held_microusd
        if overrun > 0:
            self._metrics.hold_overrun.labels(live.task.team).inc(usd(overrun))

    def used(self, live: LiveTask, usage: TokenUsage | None) -> None:
        """Count the tokens the upstream reported."""
        if usage is None:
            return
        for category, tokens in asdict(usage).items():
            if tokens:
                self._metrics.tokens.labels(live.task.team, live.task.model, category).inc(tokens)

    def stored(self, live: LiveTask, *, cut: bool) -> None:
        """Count a picture that is paid for and kept, and whether only a part of it came."""
        task = live.task
        if cut:
            self._metrics.pictures_cut.labels(_provider(live)).inc()
        self._metrics.images.labels(
            live.task.team, task.model, _provider(live), task.quality, _size(live)
        ).inc()


def _provider(live: LiveTask) -> str:
    return live.task.order.provider


def _size(live: LiveTask) -> str:
    """Return the picture's size, or `OTHER`: a model that makes any size would have thousands.

    Told apart are the sizes that a model has a list of, and `USUAL_SIZES` of the others.
    """
    size = live.task.size
    rule = None if live.offer is None else live.offer.sizes
    listed = map(str, rule.sizes) if isinstance(rule, FixedSizes) else USUAL_SIZES
    return size if size in listed else OTHER
