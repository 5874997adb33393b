import asyncio

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.edge.ops import Check, OpsRoutes
from gateway.telemetry.metrics import Metrics
from tests.support.clock import in_virtual_time
from tests.support.factories import a_request


async def _fine() -> None:
    pass


async def _broken() -> None:
    raise ConnectionError("dead: poller")


async def _speechless() -> None:
    raise ConnectionError


async def _stalled() -> None:
    await asyncio.sleep(3600)


async def _slow() -> None:
    await asyncio.sleep(0.9)


def _ops(checks: dict[str, Check] | None = None) -> OpsRoutes:
    return OpsRoutes(checks=checks or {}, metrics=Metrics(CollectorRegistry(), version="7"))


async def test_healthz() -> None:
    """A process that serves at all is alive."""
    response = await _ops().healthz(a_request("/healthz"))

    assert (response.status_code, response.body) == (200, b"ok\n")


@pytest.mark.parametrize(
    ("checks", "status", "found"),
    [
        ({}, 200, {}),
        ({"store": _fine, "assets": _slow}, 200, {"store": "ok", "assets": "ok"}),
        ({"store": _fine, "loops": _broken}, 503, {"store": "ok", "loops": "dead: poller"}),
        ({"store": _speechless}, 503, {"store": "ConnectionError"}),
        ({"store": _stalled, "assets": _fine}, 503, {"store": "timeout", "assets": "ok"}),
    ],
)
def test_readyz(checks: dict[str, Check], status: int, found: dict[str, str]) -> None:
    """Readiness names every check and what it found; one that fails is enough for a 503."""
    response = in_virtual_time(_ops(checks).readyz(a_request("/readyz")))

    assert status == response.status_code
    assert {"ready": status == 200, "checks": found} == orjson.loads(response.body)
    assert response.headers["content-type"] == "application/json"


def test_checks_run_side_by_side() -> None:
    """Any number of stalled checks takes no longer than one."""

    async def measured() -> float:
        await _ops({"a": _stalled, "b": _stalled, "c": _stalled}).readyz(a_request("/readyz"))
        return asyncio.get_running_loop().time()

    assert in_virtual_time(measured()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
        # The library cannot read a number of 5,000 digits.
        (
            f"application/openmetrics-text; version={'9' * 5_000}",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
    ],
)
async def test_metrics(accept: str, content_type: str) -> None:
    """Metrics come in the format the scraper asks for."""
    response = await _ops().metrics(a_request("/metrics", accept=accept))

    assert content_type == response.headers["content-type"]
    assert b'gateway_build_info{version="7"} 1.0' in bytes(response.body)


async def test_a_scrape_looks_at_what_is_followed() -> None:
    """What has a length of its own is measured when somebody asks."""
    metrics = Metrics(CollectorRegistry(), version="7")
    metrics.follow(metrics.queue_length.labels("evolink"), lambda: 3)
    response = await OpsRoutes(checks={}, metrics=metrics).metrics(a_request("/metrics"))

    assert b'gateway_queue_length{provider="evolink"} 3.0' in bytes(response.body)
