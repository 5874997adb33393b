from prometheus_client import CollectorRegistry

from gateway.tasks.lateness import TOLD_FOR_S, Lateness
from gateway.telemetry.metrics import Metrics
from tests.support.clock import FixedClock


def _worst(metrics: Metrics, provider: str = "p") -> float | None:
    metrics.refresh()
    return metrics.registry.get_sample_value(
        "gateway_poll_lateness_seconds_max", {"provider": provider}
    )


def test_every_poll_is_counted_and_the_worst_is_told() -> None:
    """By provider; one that was never polled has no worst."""
    metrics = Metrics(CollectorRegistry(), version="1")
    lateness = Lateness(metrics, FixedClock(), ["p", "q"])
    for late_s in (0.002, 0.3, 0.02):
        lateness.observe("p", late_s, 0.0)

    labels = {"provider": "p"}
    assert (0.3, 0.0) == (_worst(metrics), _worst(metrics, "q"))
    counted = metrics.registry.get_sample_value("gateway_poll_lateness_seconds_count", labels)
    assert 3.0 == counted


def test_the_worst_is_forgotten() -> None:
    """No scrape within a minute misses it, and after two it is gone, polls or not."""
    metrics, clock = Metrics(CollectorRegistry(), version="1"), FixedClock()
    lateness = Lateness(metrics, clock, ["p"])
    clock.advance(TOLD_FOR_S - 1)
    lateness.observe("p", 3.0, 0.0)
    seen = []
    for seconds in (1.0, TOLD_FOR_S - 1, 1.0):
        clock.advance(seconds)
        seen.append(_worst(metrics))
        lateness.observe("p", 0.5, 0.0)
    clock.advance(2 * TOLD_FOR_S)
    seen.append(_worst(metrics))

    assert [3.0, 3.0, 0.5, 0.0] == seen
