"""Every metric, declared once, on a registry of its own so that tests build a fresh one.

Labels are bounded: names from the catalogue and the configuration, or ``other``. Never a key, a
prompt, a task id or anything a client can invent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.workers import Reading, sum_over_workers

#: Seconds; pictures take up to a quarter of an hour.
RENDER_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60, 90),
    *(120, 180, 240, 300, 450, 600, 900),
)
OVERHEAD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LATENESS_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
POLL_BUCKETS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)

#: The label value for whatever is not in the catalogue or the configuration.
OTHER = "other"

#: Refusals that alerts wait for: ours of a call that fits into no budget, the provider's (HTTP's
#: 402) of an order that its account cannot pay.
NO_BUDGET = "insufficient_quota"
NO_CREDITS = "402"

MICROUSD_PER_USD = 1_000_000


class Metrics:
    """All counters, gauges and histograms of one process.

    With `shared` (the folder of `telemetry/workers.py`) `registry` tells what all workers have
    counted together. A gauge is a *part* of what all workers have, which are added up, the *worst*
    of what any of them has, or a *reading* of something that is the same whoever reads it.
    """

    def __init__(  # noqa: PLR0915 - one for each metric
        self, registry: CollectorRegistry, *, version: str, shared: Path | None = None
    ) -> None:
        self.registry = registry
        self._followed: dict[Gauge, Callable[[], float]] = {}
        own = registry
        if shared is not None:
            # What is counted here is told from the files, together with the other workers'.
            own = CollectorRegistry()
            sum_over_workers(registry, shared)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"gateway_{name}", text, labels, registry=own)

        def part(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"gateway_{name}", text, labels, registry=own, multiprocess_mode="livesum")

        def worst(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"gateway_{name}", text, labels, registry=own, multiprocess_mode="livemax")

        def reading(name: str, text: str, *labels: str) -> Gauge:
            return Reading(f"gateway_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"gateway_{name}", text, labels, registry=own, buckets=buckets)

        self.requests = counter(
            "requests_total",
            "HTTP requests by their answer, at its end; code is the error code, empty if none.",
            *("route", "team", "model", "status", "code"),
        )
        self.request_duration = histogram(
            "request_duration_seconds",
            "Seconds from the first byte of a request to the last byte of its answer.",
            RENDER_BUCKETS,
            *("route", "team", "model"),
        )
        self.phase_duration = histogram(
            "phase_duration_seconds",
            "Seconds a picture spent in a phase: admit, upload, queue, submit, render, fetch,"
            " store; the body of its call in receive, and the answer in deliver.",
            RENDER_BUCKETS,
            *("phase", "provider", "model"),
        )
        self.overhead = histogram(
            "overhead_seconds",
            "Seconds of a request for pictures that were the gateway's own: all but upload, submit,"
            " render and fetch, and but what the client took to send its body and to take its"
            " answer; of calls that were answered without an error.",
            OVERHEAD_BUCKETS,
            "route",
        )
        self.cost = counter(
            "cost_usd_total",
            "US dollars settled in the ledger by price category; possible charges are in here too.",
            *("team", "model", "provider", "category"),
        )
        self.images = counter(
            "images_total",
            "Pictures completed and kept in the asset store.",
            *("team", "model", "provider", "quality", "size"),
        )
        self.tokens = counter(
            "tokens_total",
            "Tokens by category, as the upstream reported them.",
            *("team", "model", "category"),
        )
        self.budget_limit = reading(
            "budget_limit_usd",
            "US dollars a budget allows, top-ups included, by the ledger.",
            *("scope", "team", "name", "per"),
        )
        self.budget_spent = reading(
            "budget_spent_usd",
            "US dollars settled in the budget's current window (a snapshot, at most 10 s old).",
            *("scope", "team", "name", "per"),
        )
        self.budget_held = reading(
            "budget_held_usd",
            "US dollars held by calls in progress (a snapshot, at most 10 s old).",
            *("scope", "team", "name", "per"),
        )
        self.provider_up = reading(
            "provider_up",
            "Whether the provider served our account when it was last asked for the balance (1/0).",
            "provider",
        )
        self.provider_credits = reading(
            "provider_credits",
            "Credits that the provider's account has left, in its own unit, by its own word.",
            "provider",
        )
        self.model_retires = reading(
            "model_retires_in_seconds",
            "Seconds until the model is gone, by the catalogue; negative once it should be.",
            *("model", "provider"),
        )
        self.budget_start = reading(
            "budget_window_start_seconds",
            "Unix seconds at which the budget's current window began; a total has none.",
            *("scope", "team", "name", "per"),
        )
        self.budget_end = reading(
            "budget_window_end_seconds",
            "Unix seconds at which the budget's current window ends; a total has none.",
            *("scope", "team", "name", "per"),
        )
        self.rejections = counter(
            "rejections_total", "Calls refused before anything was submitted.", "team", "reason"
        )
        self.tasks_in_flight = part(
            "tasks_in_flight", "Tasks between admission and their stored picture.", "provider"
        )
        self.task_age = worst(
            "task_age_seconds_max", "Seconds since the oldest task that runs here was admitted."
        )
        self.paid_undelivered = reading(
            "paid_undelivered_usd",
            "US dollars paid for pictures that nobody waits for and nobody has fetched"
            " (a snapshot, at most 10 s old).",
            "team",
        )
        self.queue_length = part(
            "queue_length", "Renders that wait here for their turn at the provider.", "provider"
        )
        self.renders = counter(
            "renders_total",
            "Renders by how they ended; retried ones failed at no charge.",
            *("provider", "model", "outcome"),
        )
        self.upstream_requests = counter(
            "upstream_requests_total",
            "HTTP calls to the upstream; status is HTTP's, or what kept it from having one.",
            *("provider", "call", "status"),
        )
        self.polls_per_render = histogram(
            "polls_per_render",
            "Polls that it took to see a render end, by our own count.",
            POLL_BUCKETS,
            "provider",
        )
        self.poll_lateness = histogram(
            "poll_lateness_seconds",
            "Seconds by which polls started after their turn, waits for a free slot among them.",
            LATENESS_BUCKETS,
            "provider",
        )
        self.poll_put_off = histogram(
            "poll_put_off_seconds",
            "Seconds between when a poll was wanted and its turn, where too many are wanted.",
            LATENESS_BUCKETS,
            "provider",
        )
        self.poll_lateness_max = worst(
            "poll_lateness_seconds_max",
            "The worst of it in the last one to two minutes.",
            "provider",
        )
        self.detection_lag = histogram(
            "detection_lag_seconds",
            "Upper bound of the seconds between a render's end and our seeing it: the last gap.",
            RENDER_BUCKETS,
            "provider",
        )
        self.callbacks = counter(
            "callbacks_total",
            "Callbacks from upstreams (in: woke, of these early and repeated; late, forged)"
            " and tries to clients (out).",
            *("direction", "outcome"),
        )
        self.hold_overrun = counter(
            "hold_overrun_usd_total", "US dollars settled above what was held for the call.", "team"
        )
        self.possible_charge = counter(
            "possible_charge_usd_total",
            "US dollars booked for renders whose charge nobody can account for.",
            "provider",
        )
        self.billing_drift = counter(
            "billing_drift_usd_total",
            "US dollars by which the upstream's bills and our own reckoning differ, either way.",
            "provider",
        )
        self.price_miss = counter(
            "price_miss_total",
            "Calls for a picture that no price is known for, refused or at a configured amount.",
            "model",
        )
        self.recovered_tasks = counter(
            "recovered_tasks_total", "Tasks taken over from a process that stopped or died."
        )
        self.repriced_tasks = counter(
            "repriced_tasks_total",
            "Tasks taken over whose quoted prices nobody knows: settled by those in force where the"
            " upstream tells no bill.",
            "provider",
        )
        self.joined_retries = counter(
            "joined_retries_total",
            "Calls that were attached to a task that was already paid for.",
            "team",
        )
        self.saved = counter(
            "saved_usd_total",
            "US dollars that joined retries would have cost as calls of their own.",
            "team",
        )
        self.alerts = counter(
            "alerts_total", "Tries to announce what is spent of a budget, by outcome.", "outcome"
        )
        self.loop_deaths = counter(
            "loop_deaths_total",
            "Background loops that ended although they never should; the process stops then.",
            "loop",
        )
        self.asset_errors = counter(
            "assets_errors_total",
            "Calls to the store of pictures that failed; reason is full or unavailable.",
            *("operation", "reason"),
        )
        self.assets_full = worst(
            "assets_full", "Whether the store of pictures takes none for lack of room (1/0)."
        )
        self.assets_free = reading(
            "assets_free_bytes", "Room that is left where pictures are kept in a folder."
        )
        self.assets_waiting = part(
            "assets_waiting", "Pictures that are paid for and not in the store yet."
        )
        self.config_reloads = counter(
            "config_reloads_total",
            "Looks at a changed settings file: taken, refused (the old one stays in force),"
            " unchanged.",
            "outcome",
        )
        self.pictures_cut = counter(
            "pictures_cut_total",
            "Pictures of which the provider has only a part: that was kept, and delivered.",
            "provider",
        )
        self.store_up = reading(
            "store_up", "Whether the ledger store answered its last ping (1/0)."
        )
        for outcome in ("taken", "refused", "unchanged"):
            self.config_reloads.labels(outcome)
        for outcome in ("delivered", "failed"):
            self.alerts.labels(outcome)
        build = reading("build_info", "The running version.", "version")
        build.labels(version).set(1)

    def expect(
        self, *, teams: Collection[str], models: Collection[str], providers: Collection[str]
    ) -> None:
        """Show at zero what must be seen to rise: a first value is no increase to Prometheus."""
        for team in teams:
            self.rejections.labels(team, NO_BUDGET)
        for provider in providers:
            self.upstream_requests.labels(provider, "submit", NO_CREDITS)
        for counter, names in (
            (self.hold_overrun, teams),
            (self.price_miss, models),
            (self.possible_charge, providers),
            (self.billing_drift, providers),
            (self.repriced_tasks, providers),
            (self.pictures_cut, providers),
        ):
            for name in names:
                counter.labels(name)

    def follow(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Show in this gauge what `read` returns at every `refresh`."""
        self._followed[gauge] = read

    def forget(self, gauge: Gauge, *labels: str) -> None:
        """Show these labels of a gauge no more, whether they were followed or not."""
        self._followed.pop(gauge.labels(*labels), None)
        gauge.remove(*labels)

    def refresh(self) -> None:
        """Look at what is followed: before a scrape, and often enough for the other workers'."""
        for gauge, read in self._followed.items():
            gauge.set(read())


def usd(microusd: int) -> float:
    """Return dollars for a metric; the books themselves never see this float."""
    return microusd / MICROUSD_PER_USD
