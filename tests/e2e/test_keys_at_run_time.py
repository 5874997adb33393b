"""A key made by the command works at once on every gateway, and revoked it works on none."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import ENVIRON, serving_gateway, serving_simulator, write_config
from tests.support.valkey import ValkeyProcess

CALL = {"model": "gpt-image-1.5", "prompt": "a small red fox", "quality": "low"}


async def gateway(config: Path, *arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and what it printed to stdout."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments, "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **ENVIRON},  # noqa: TID251 - a child's environment
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_keys_hold_everywhere_at_once(
    valkey_process: ValkeyProcess, store: Store, tmp_path: Path
) -> None:
    """Create, use on both replicas, revoke: the very next calls are 401; and the books verify."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(settings))
        configs, urls = [], []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            redis, assets = f'url = "{valkey_process.url}"', 'url = "file:../assets"'
            config = write_config(folder, upstream, redis=redis, assets=assets)
            configs.append(config)
            urls.append((await stack.enter_async_context(serving_gateway(config))).url)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        made, text = await gateway(configs[0], "keys", "create", "--team", "design", "--json")
        secret = json.loads(text)["key"]

        async def calls() -> list[int]:
            return [
                (
                    await client.post(
                        f"{url}/images/generations",
                        json=CALL,
                        headers={"Authorization": f"Bearer {secret}"},
                    )
                ).status_code
                for url in urls
            ]

        before = await calls()
        revoked, _ = await gateway(
            configs[0], "keys", "revoke", "--team", "design", "--name", "default"
        )
        after = await calls()
        verified, report = await gateway(configs[0], "ledger", "verify")
        used, usage = await gateway(configs[0], "usage", "--by", "key", "--format", "json")
        kept = str(
            [
                await store.command("HGETALL", "{t:design}:account"),
                await store.command("XRANGE", "{t:design}:audit", "-", "+"),
            ]
        )

    assert (0, 0) == (made, revoked)
    assert ([200, 200], [401, 401]) == (before, after)
    assert 0 == verified, report
    assert 0 == used
    assert "default" in usage
    assert secret not in kept
    logs = [path.read_text(errors="replace") for path in tmp_path.rglob("*.log")]
    assert not any(secret in log for log in logs)
