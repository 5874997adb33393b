"""A key made by the command works at once on every gateway, and revoked it works on none."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.command_line import gateway
from tests.support.gateway import serving_gateway, serving_simulator, write_config
from tests.support.valkey import ValkeyProcess

CALL = {"model": "gpt-image-1.5", "prompt": "a small red fox", "quality": "low"}


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
        team, config = ("--team", "design"), configs[0]
        made = await gateway("keys", "create", *team, "--json", config=config)
        secret = json.loads(made.printed)["key"]

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
        revoked = await gateway("keys", "revoke", *team, "--name", "default", config=config)
        after = await calls()
        verified = await gateway("ledger", "verify", config=config)
        used = await gateway("usage", "--by", "key", "--format", "json", config=config)
        kept = str(
            [
                await store.command("HGETALL", "{t:design}:account"),
                await store.command("XRANGE", "{t:design}:audit", "-", "+"),
            ]
        )

    assert (0, 0) == (made.exit_code, revoked.exit_code)
    assert ([200, 200], [401, 401]) == (before, after)
    assert 0 == verified.exit_code, verified.printed
    assert 0 == used.exit_code
    assert "default" in used.printed
    assert secret not in kept
    logs = [path.read_text(errors="replace") for path in tmp_path.rglob("*.log")]
    assert not any(secret in log for log in logs)
