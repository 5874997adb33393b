"""Replicas are replaced one after the other while clients wait: nobody notices."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import openai

from gateway.simulator.settings import SimulatorSettings
from tests.support.balancer import balancing
from tests.support.gateway import (
    TEAM_KEY,
    ServedProcess,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.valkey import ValkeyProcess

CLIENTS = 50


async def stop(server: ServedProcess) -> None:
    """Ask a process to stop and wait until it has."""
    server.process.send_signal(signal.SIGTERM)
    await server.process.wait()

    assert server.process.returncode == 0


async def test_a_rolling_restart_fails_no_call(
    valkey_process: ValkeyProcess, store: object, tmp_path: Path
) -> None:
    """Fifty stock clients that wait get their pictures while both replicas are replaced."""
    settings = SimulatorSettings(latency_median_s=6.0, latency_sigma=0.4, seed=7)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(settings))
        config = write_config(
            tmp_path,
            upstream,
            redis=f'url = "{valkey_process.url}"',
            wait="60s",
            server='lease = "2s"',
            budget="50",
        )
        balancer = await stack.enter_async_context(balancing())

        async def start() -> ServedProcess:
            served = await stack.enter_async_context(serving_gateway(config))
            balancer.backends.append(served.url.removesuffix("/v1"))
            return served

        first, second = await start(), await start()
        await balancer.until_ready(2)
        client = await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{balancer.url}/v1", api_key=TEAM_KEY, timeout=60)
        )

        async def picture(number: int) -> str:
            await asyncio.sleep(number * 0.1)
            answer = await client.images.generate(
                model="gpt-image-1.5",
                prompt=f"fox number {number}",
                quality="low",
                size="1024x1024",
            )
            assert answer.data is not None
            return answer.data[0].b64_json or ""

        async with asyncio.TaskGroup() as group:
            pictures = [group.create_task(picture(number)) for number in range(CLIENTS)]
            await asyncio.sleep(2.5)
            await start()
            await balancer.until_ready(3)
            await stop(first)
            await start()
            await balancer.until_ready(3)
            await stop(second)
        async with httpx.AsyncClient() as plain:
            stats = (await plain.get(f"{upstream}/_sim/stats")).json()

    assert len({task.result() for task in pictures}) == CLIENTS
    assert (stats["submits"], stats["renders_completed"]) == (CLIENTS, CLIENTS)
