"""The store stops answering in the middle of ten calls, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway

STALL_S = 5.0


async def settled(running: Running) -> tuple[int, int]:
    """Return spent and held once nothing is held any more (or after a while)."""
    for _ in range(100):
        if (await running.budget())[1] == 0:
            break
        await asyncio.sleep(0.1)
    return await running.budget()


@pytest.mark.parametrize("head_start_s", [0.0, 0.15, 0.6])
async def test_calls_across_a_stall_are_answered_and_counted_once(
    tmp_path: Path, head_start_s: float
) -> None:
    """Every call is answered within its bound, and each counter has moved exactly once.

    Calls that were not admitted yet get 503 within the store's limit; the others get their picture
    when the store is back. What either is charged is what the upstream charged.
    """
    simulator = SimulatorSettings(latency_median_s=0.5, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=simulator) as running:
        assert running.gateway.embedded is not None
        pid = running.gateway.embedded.pid
        assert pid is not None
        await running.generate()
        before = await running.metrics()

        async def call() -> tuple[httpx.Response, float]:
            started_s = time.monotonic()
            return await running.generate(), time.monotonic() - started_s

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call()) for _ in range(10)]
            await asyncio.sleep(head_start_s)
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(STALL_S)
                ready = await running.client.get("/readyz")
            finally:
                os.kill(pid, signal.SIGCONT)
        results = [task.result() for task in calls]
        pictures = sum(response.status_code == 200 for response, _ in results)
        spent, held = await settled(running)
        after = await running.metrics()
        simulated = await running.simulated()

    assert 503 == ready.status_code
    assert {200, 503} >= {response.status_code for response, _ in results}
    for response, took_s in results:
        if response.status_code == 503:
            assert "ledger_unavailable" == response.json()["error"]["code"]
            assert int(response.headers["retry-after"]) <= 60
            assert took_s < 4.0
        else:
            assert took_s < STALL_S + 5.0
    assert (1 + pictures, 0) == (simulated["submits"], held)
    assert 7_852 * (1 + pictures) == spent
    # Each picture is rounded once, so the sums differ by less than half a micro-dollar each.
    assert abs(spent - simulated["credits_used"] / 68 * 1e6) <= 0.5 * (1 + pictures)

    def moved(prefix: str) -> float:
        return sum(after[name] - before.get(name, 0) for name in after if name.startswith(prefix))

    assert 7_852 * pictures == round(moved("gateway_cost_usd_total") * 1e6)
    assert pictures == moved("gateway_images_total")
    assert pictures == moved("gateway_renders_total")
    assert 10 == moved('gateway_requests_total{code="",model="gpt-image-1.5"') + moved(
        'gateway_requests_total{code="ledger_unavailable"'
    )
    assert 0 == after['gateway_tasks_in_flight{provider="evolink"}']
