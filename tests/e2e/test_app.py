from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from gateway.app import LoopDiedError
from gateway.assembly.gateway import Gateway
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway


async def test_readiness_names_what_was_checked(tmp_path: Path) -> None:
    """Ready means that store, assets and loops are fine."""
    async with running_gateway(tmp_path) as running:
        answer = await running.client.get("/readyz")
        alive = await running.client.get("/healthz")

    assert (200, 200) == (answer.status_code, alive.status_code)
    assert {
        "ready": True,
        "checks": {"store": "ok", "assets": "ok", "loops": "ok", "serving": "ok"},
    } == (answer.json())


async def test_a_dead_loop_turns_readiness_red_and_stops_the_process(tmp_path: Path) -> None:
    """A gateway that lost a loop takes no more money: it says so, drains and ends with an error."""
    die = asyncio.Event()

    def poison(gateway: Gateway) -> None:
        original = gateway.shelf.run

        async def run_until_told() -> None:
            await die.wait()
            raise RuntimeError("the shelf broke")

        assert original is not None
        gateway.shelf.run = run_until_told  # type: ignore[method-assign]

    settings = SimulatorSettings(latency_median_s=1.5, latency_sigma=0.0, seed=7)
    seen: list[httpx.Response] = []

    async def watch(running: Running) -> None:
        async with httpx.AsyncClient(base_url=running.url) as probe:
            await probe.get("/readyz")
            call = asyncio.get_running_loop().create_task(running.generate())
            await running.until_submitted()
            die.set()
            await asyncio.sleep(0.2)
            seen.append(await probe.get("/readyz"))
            seen.append(await running.generate())
            seen.append(await call)
            await asyncio.wait({running.served}, timeout=20)

    with pytest.raises(ExceptionGroup) as ended:
        async with running_gateway(
            tmp_path, simulator=settings, prepare=poison, drain="20s"
        ) as running:
            await watch(running)

    assert ended.group_contains(LoopDiedError, match="shelf")
    ready, refused, picture = seen
    assert 503 == ready.status_code
    assert "dead: shelf" == ready.json()["checks"]["loops"]
    assert (503, "shutting_down") == (refused.status_code, refused.json()["error"]["code"])
    assert 200 == picture.status_code


async def test_a_crashed_store_is_restarted_and_readiness_follows(tmp_path: Path) -> None:
    """The embedded server may be killed: it comes back by itself, with the money where it was."""
    async with running_gateway(tmp_path) as running:
        await running.generate()
        before = await running.budget()
        embedded = running.gateway.embedded
        assert embedded is not None
        assert embedded.pid is not None
        os.kill(embedded.pid, signal.SIGKILL)
        statuses: list[int] = []
        async with asyncio.timeout(60):
            while 503 not in statuses or statuses[-1] != 200:
                statuses.append((await running.client.get("/readyz")).status_code)
                await asyncio.sleep(0.01)
        after = await running.budget()
        again = await running.generate()

    assert {200, 503} == set(statuses)
    assert before == after
    assert 200 == again.status_code


async def test_running_calls_finish_when_the_server_is_stopped(tmp_path: Path) -> None:
    """A stop lets the call that waits have its picture, and sends new ones elsewhere."""
    settings = SimulatorSettings(latency_median_s=3.0, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=settings, drain="30s") as running:
        call = asyncio.get_running_loop().create_task(running.generate())
        await running.until_submitted()
        running.stop.set()
        await asyncio.sleep(0.05)
        ready = await running.client.get("/readyz")
        refused = await running.generate()
        answer = await call

    assert (503, 503, 200) == (ready.status_code, refused.status_code, answer.status_code)
    assert int(refused.headers["retry-after"]) <= 60
