"""The embedded store is killed in the middle of calls, more than once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import running_gateway

CALLS = 24


async def test_no_settled_cent_is_lost_and_nothing_is_admitted_without_a_hold(
    tmp_path: Path,
) -> None:
    """Whatever the kills hit, the books end with exactly what the upstream billed.

    Calls meet the kills before, while and after their admission; those that are not admitted get
    503, and no picture is submitted for them.
    """
    settings = SimulatorSettings(latency_median_s=0.5, latency_sigma=0.5, seed=7)
    async with running_gateway(tmp_path, simulator=settings) as running:
        embedded = running.gateway.embedded
        assert embedded is not None

        async def call(number: int) -> int:
            await asyncio.sleep(0.1 * number)
            return (await running.generate()).status_code

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call(number)) for number in range(CALLS)]
            for _ in range(3):
                await asyncio.sleep(0.7)
                pid = embedded.pid
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
        statuses = [task.result() for task in calls]
        for _ in range(100):
            spent, held = await running.budget()
            if held == 0:
                break
            await asyncio.sleep(0.1)
        simulated = await running.simulated()
        metrics = await running.metrics()

    pictures = statuses.count(200)
    assert {200, 503} >= set(statuses)
    assert 0 < pictures
    assert (pictures, pictures) == (simulated["submits"], simulated["renders_completed"])
    assert (7_852 * pictures, 0) == (spent, held)
    images = [value for name, value in metrics.items() if name.startswith("gateway_images_total")]
    assert pictures == sum(images)
