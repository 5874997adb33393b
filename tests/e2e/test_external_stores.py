"""The gateway on stores that are not its own: what it runs on, what it refuses, what comes late."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from gateway.assembly.build import build
from gateway.config.load import load
from gateway.config.problems import ConfigError
from tests.support.gateway import ENVIRON, running_gateway, write_config
from tests.support.stores import StoreKind, run_store
from tests.support.valkey import OPTIONS, free_ports, run_on_port


@pytest.mark.parametrize("kind", [StoreKind.SENTINEL, StoreKind.CLUSTER])
async def test_a_picture_on_every_topology(tmp_path: Path, kind: StoreKind) -> None:
    """One picture is made and booked, behind Sentinels and on a cluster."""
    with run_store(kind, tmp_path / "store") as store:
        async with running_gateway(tmp_path, redis=f'url = "{store.url}"') as running:
            answer = await running.generate()
            ready = await running.client.get("/readyz")
            spent, held = await running.budget()

    assert (200, 200) == (answer.status_code, ready.status_code)
    assert 0 == held
    assert spent == round(float(answer.headers["x-gateway-cost-usd"]) * 1_000_000)


async def test_a_store_that_evicts_is_refused_at_the_start(tmp_path: Path) -> None:
    """Nothing is listened on, and the operator is told what to change."""
    [port] = free_ports(1)
    config = write_config(tmp_path, "http://127.0.0.1:1", redis=f'url = "redis://127.0.0.1:{port}"')
    evicting = run_on_port(tmp_path / "store", port, ("--maxmemory-policy", "allkeys-lru"))
    with evicting, pytest.raises(ConfigError, match="noeviction"):
        await build(load(config, ENVIRON)).__aenter__()


@pytest.mark.parametrize("server", ["", 'public_url = "URL"'])
async def test_a_store_may_come_after_its_gateway(tmp_path: Path, server: str) -> None:
    """Until it is there money is refused; then calls are served without a restart.

    Also where the upstream calls back, to addresses that are signed with what the store keeps.
    """
    [port] = free_ports(1)
    redis = f'url = "redis://127.0.0.1:{port}"'
    async with running_gateway(
        tmp_path, redis=redis, store_timeout="500ms", server=server
    ) as running:
        early = await running.generate()
        unready = await running.client.get("/readyz")
        with run_on_port(tmp_path / "store", port, OPTIONS):
            late = await _until_served(running.generate)
            ready = await running.client.get("/readyz")
            stats = await running.simulated()

    assert (503, 503, 200) == (early.status_code, unready.status_code, late.status_code)
    assert (200, 1 if server else 0) == (ready.status_code, stats["callbacks_sent"])


async def _until_served(call: object) -> httpx.Response:
    for _ in range(50):
        answer: httpx.Response = await call()  # type: ignore[operator]
        if answer.status_code == 200:
            break
        await asyncio.sleep(0.1)
    return answer
