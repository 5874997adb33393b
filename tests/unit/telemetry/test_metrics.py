import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from gateway.telemetry.metrics import OTHER, RENDER_BUCKETS, Metrics, usd
from gateway.telemetry.workers import Reading

#: Name, kind and labels of every metric: dashboards and alerts rely on them.
TABLE: list[tuple[str, type, tuple[str, ...]]] = [
    ("requests", Counter, ("route", "team", "model", "status", "code")),
    ("request_duration_seconds", Histogram, ("route", "team", "model")),
    ("phase_duration_seconds", Histogram, ("phase", "provider", "model")),
    ("overhead_seconds", Histogram, ("route",)),
    ("cost_usd", Counter, ("team", "model", "provider", "category")),
    ("images", Counter, ("team", "model", "provider", "quality", "size")),
    ("tokens", Counter, ("team", "model", "category")),
    ("budget_limit_usd", Reading, ("scope", "team", "name", "per")),
    ("budget_spent_usd", Reading, ("scope", "team", "name", "per")),
    ("budget_held_usd", Reading, ("scope", "team", "name", "per")),
    ("rejections", Counter, ("team", "reason")),
    ("tasks_in_flight", Gauge, ("provider",)),
    ("task_age_seconds_max", Gauge, ()),
    ("paid_undelivered_usd", Reading, ("team",)),
    ("queue_length", Gauge, ("provider",)),
    ("renders", Counter, ("provider", "model", "outcome")),
    ("upstream_requests", Counter, ("provider", "call", "status")),
    ("polls_per_render", Histogram, ("provider",)),
    ("poll_lateness_seconds", Histogram, ("provider",)),
    ("poll_lateness_seconds_max", Gauge, ("provider",)),
    ("poll_put_off_seconds", Histogram, ("provider",)),
    ("detection_lag_seconds", Histogram, ("provider",)),
    ("callbacks", Counter, ("direction", "outcome")),
    ("hold_overrun_usd", Counter, ("team",)),
    ("possible_charge_usd", Counter, ("provider",)),
    ("billing_drift_usd", Counter, ("provider",)),
    ("price_miss", Counter, ("model",)),
    ("recovered_tasks", Counter, ()),
    ("repriced_tasks", Counter, ("provider",)),
    ("joined_retries", Counter, ("team",)),
    ("saved_usd", Counter, ("team",)),
    ("alerts", Counter, ("outcome",)),
    ("budget_window_start_seconds", Reading, ("scope", "team", "name", "per")),
    ("budget_window_end_seconds", Reading, ("scope", "team", "name", "per")),
    ("provider_up", Reading, ("provider",)),
    ("provider_credits", Reading, ("provider",)),
    ("model_retires_in_seconds", Reading, ("model", "provider")),
    ("loop_deaths", Counter, ("loop",)),
    ("assets_errors", Counter, ("operation", "reason")),
    ("assets_full", Gauge, ()),
    ("assets_free_bytes", Reading, ()),
    ("assets_waiting", Gauge, ()),
    ("config_reloads", Counter, ("outcome",)),
    ("pictures_cut", Counter, ("provider",)),
    ("store_up", Reading, ()),
]

#: The attribute each is used by, where it is not the name.
ATTRIBUTES = {
    "request_duration_seconds": "request_duration",
    "phase_duration_seconds": "phase_duration",
    "overhead_seconds": "overhead",
    "cost_usd": "cost",
    "budget_limit_usd": "budget_limit",
    "budget_spent_usd": "budget_spent",
    "budget_held_usd": "budget_held",
    "task_age_seconds_max": "task_age",
    "paid_undelivered_usd": "paid_undelivered",
    "poll_lateness_seconds": "poll_lateness",
    "poll_lateness_seconds_max": "poll_lateness_max",
    "poll_put_off_seconds": "poll_put_off",
    "detection_lag_seconds": "detection_lag",
    "hold_overrun_usd": "hold_overrun",
    "possible_charge_usd": "possible_charge",
    "billing_drift_usd": "billing_drift",
    "saved_usd": "saved",
    "budget_window_start_seconds": "budget_start",
    "budget_window_end_seconds": "budget_end",
    "model_retires_in_seconds": "model_retires",
    "assets_errors": "asset_errors",
    "assets_free_bytes": "assets_free",
}


@pytest.fixture
def metrics() -> Metrics:
    """Build the metrics of one process on a registry of their own."""
    return Metrics(CollectorRegistry(), version="1.2.3")


@pytest.mark.parametrize(("name", "kind", "labels"), TABLE, ids=[row[0] for row in TABLE])
def test_table(metrics: Metrics, name: str, kind: type, labels: tuple[str, ...]) -> None:
    """Each metric has the promised name, kind and labels, and a text that explains it."""
    metric = getattr(metrics, ATTRIBUTES.get(name, name))
    (family,) = metric.collect()

    assert (f"gateway_{name}", kind, labels) == (family.name, type(metric), metric._labelnames)
    assert family.documentation.endswith(".") or "(1/0)" in family.documentation


def test_nothing_else_is_registered(metrics: Metrics) -> None:
    """A metric that is not in the table is not exported, and none is missing."""
    expected = {f"gateway_{name}" for name, _, _ in TABLE} | {"gateway_build_info"}
    declared = {
        name for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)
    }

    assert expected == {family.name for family in metrics.registry.collect()}
    assert len(TABLE) == len(declared)


def test_pages_name_what_is_exported(metrics: Metrics) -> None:
    """What an operator reads of can be looked for, by the very name."""
    families = metrics.registry.collect()
    exported = {family.name + suffix for family in families for suffix in ("", "_total")}
    root = Path(__file__).parents[3]
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    named = {
        name
        for page in pages
        for name in re.findall(r"\bgateway_[a-z_]*[a-z]\b", page.read_text(encoding="utf-8"))
    }

    assert len(named) > 20
    assert set() == named - exported


def test_no_label_can_be_invented_by_a_client() -> None:
    """No metric is labelled by a key, a user, a task or a URL."""
    labels = {label for _, _, row in TABLE for label in row}

    assert not labels & {"key", "user", "task", "request", "url", "prompt", "path"}


@pytest.mark.parametrize("name", ["request_duration", "phase_duration", "detection_lag"])
def test_buckets_reach_a_quarter_of_an_hour(metrics: Metrics, name: str) -> None:
    """Pictures take up to 900 s, and small ones milliseconds."""
    bounds = getattr(metrics, name)._upper_bounds

    assert [*RENDER_BUCKETS, float("inf")] == bounds
    assert (bounds[0], bounds[-2]) == (0.005, 900)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("overhead", 0.001, 10), ("polls_per_render", 1, 100), ("poll_lateness", 0.001, 60)],
)
def test_other_buckets(metrics: Metrics, name: str, first: float, last: float) -> None:
    """Overhead is measured from a millisecond, polls from one."""
    bounds = getattr(metrics, name)._upper_bounds

    assert (first, last) == (bounds[0], bounds[-2])


def test_followed_gauges_show_what_is_read_at_a_refresh(metrics: Metrics) -> None:
    """Each refresh reads anew."""
    lengths = iter([3, 5])
    metrics.follow(metrics.queue_length.labels("evolink"), lambda: next(lengths))
    seen = []
    for _ in range(2):
        metrics.refresh()
        seen.append(
            metrics.registry.get_sample_value("gateway_queue_length", {"provider": "evolink"})
        )

    assert [3, 5] == seen


def test_what_must_be_seen_to_rise_begins_at_zero(metrics: Metrics) -> None:
    """The first possible charge of a provider is an increase, and not a series that begins."""
    metrics.expect(teams=["design"], models=["gpt-image-1.5"], providers=["evolink"])
    names = {
        ("hold_overrun_usd_total", "team", "design"),
        ("price_miss_total", "model", "gpt-image-1.5"),
        ("possible_charge_usd_total", "provider", "evolink"),
        ("billing_drift_usd_total", "provider", "evolink"),
        ("repriced_tasks_total", "provider", "evolink"),
        ("pictures_cut_total", "provider", "evolink"),
    }

    for outcome in ("delivered", "failed"):
        told = metrics.registry.get_sample_value("gateway_alerts_total", {"outcome": outcome})
        assert told == 0
    refused = {"team": "design", "reason": "insufficient_quota"}
    assert metrics.registry.get_sample_value("gateway_rejections_total", refused) == 0
    unpaid = {"provider": "evolink", "call": "submit", "status": "402"}
    assert metrics.registry.get_sample_value("gateway_upstream_requests_total", unpaid) == 0
    for name, label, value in names:
        assert metrics.registry.get_sample_value(f"gateway_{name}", {label: value}) == 0


def test_build_info(metrics: Metrics) -> None:
    """The running version is a label, as dashboards join it."""
    assert b'gateway_build_info{version="1.2.3"} 1.0' in generate_latest(metrics.registry)


def test_each_process_has_its_own() -> None:
    """Two sets of metrics do not share a registry."""
    first = Metrics(CollectorRegistry(), version="1")
    second = Metrics(CollectorRegistry(), version="1")
    first.store_up.set(1)

    assert first.registry.get_sample_value("gateway_store_up") == 1
    assert second.registry.get_sample_value("gateway_store_up") == 0


@pytest.mark.parametrize(("microusd", "dollars"), [(0, 0.0), (7834, 0.007834), (2_500_000, 2.5)])
def test_usd(microusd: int, dollars: float) -> None:
    """Metrics show dollars."""
    assert dollars == pytest.approx(usd(microusd))


def test_other() -> None:
    """The label of the unknown is part of the contract."""
    assert OTHER == "other"


def test_what_is_forgotten_is_not_read_again(metrics: Metrics) -> None:
    """Others of the same gauge are; what was never followed can be forgotten, too."""
    gauge = metrics.model_retires
    for model in ("one", "two"):
        metrics.follow(gauge.labels(model, "evolink"), lambda: 7.0)
    metrics.refresh()
    metrics.forget(gauge, "one", "evolink")
    metrics.forget(gauge, "three", "evolink")
    metrics.refresh()

    assert {("two", "evolink"): 7.0} == {
        tuple(sample.labels[name] for name in ("model", "provider")): sample.value
        for family in gauge.collect()
        for sample in family.samples
    }
