"""Pictures in an S3 that gateways on several hosts share."""

from __future__ import annotations

import base64
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import ENVIRON, running_gateway, serving_simulator
from tests.support.seaweed import ENVIRON as S3_ENVIRON
from tests.support.seaweed import Seaweed
from tests.support.valkey import ValkeyProcess

AT_ONCE = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)


async def test_a_picture_made_by_one_gateway_is_had_from_the_other(
    seaweed: Seaweed,
    valkey_process: ValkeyProcess,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither has a folder: answer, task and link of one picture come from S3, wherever asked."""
    for name, value in S3_ENVIRON.items():
        monkeypatch.setitem(ENVIRON, name, value)
    assets = seaweed.settings()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(AT_ONCE))
        both = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            both.append(
                await stack.enter_async_context(
                    running_gateway(
                        tmp_path / name,
                        upstream=upstream,
                        redis=f'url = "{valkey_process.url}"',
                        assets=assets,
                    )
                )
            )
        one, two = both
        answer = await one.generate(output_format="webp")
        await one.gateway.shelf.flush()
        task = await two.client.get(f"/v1/images/tasks/{answer.headers['x-gateway-task-id']}")
        link = task.json()["data"][0]["url"]
        linked = await two.client.get(link)
        part = await two.client.get(link, headers={"range": "bytes=4-11"})
        ready = await two.client.get("/readyz")

    content = base64.b64decode(answer.json()["data"][0]["b64_json"], validate=True)
    assert content[:4] == b"RIFF"
    assert content == base64.b64decode(task.json()["data"][0]["b64_json"]) == linked.content
    assert (206, content[4:12]) == (part.status_code, part.content)
    assert "ok" == ready.json()["checks"]["assets"]
    assert [] == [path for path in tmp_path.rglob("*") if path.is_dir() and path.name == "assets"]
