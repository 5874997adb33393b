"""Prompts are where the settings say, for as long as they say, and nowhere else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from gateway.cli.fault_points import FAULT_ENV
from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import (
    Running,
    running_gateway,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.valkey import ValkeyProcess

PROMPT = "a portrait of Ada Lovelace in the rain"


async def where(store: Store) -> list[str]:
    """Return the keys of the store that hold the prompt."""
    found = []
    keys = await store.command("KEYS", "{t:design}:*")
    assert isinstance(keys, list)
    for key in keys:
        assert isinstance(key, bytes)
        # As it lies on the disk, whatever it is.
        if PROMPT.encode() in (await store.command("DUMP", key) or b""):  # type: ignore[operator]
            found.append(key.decode().partition("}:")[2].partition(":")[0])
    return found


async def begun(running: Running) -> str:
    """Start a picture that takes a moment, and return where its task is."""
    answer = await running.client.post(
        "/v1/images/generations",
        json={
            "model": "gpt-image-1.5",
            "prompt": f"{PROMPT} [[latency:1]]",
            "quality": "low",
            "size": "1024x1024",
        },
        headers={"prefer": "respond-async"},
    )
    assert answer.status_code == 202
    return answer.headers["location"]


@pytest.mark.parametrize(
    ("keep", "during", "after", "told"),
    [
        ("until_done", ["task"], [], None),
        ("1h", ["task"], ["prompt"], f"{PROMPT} [[latency:1]]"),
        ("never", [], [], None),
    ],
)
async def test_a_prompt_is_kept_as_the_settings_say(
    tmp_path: Path, keep: str, during: list[str], after: list[str], told: str | None
) -> None:
    """While the picture is made, and after it; whoever may see the task may see what is kept."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    sections = f'[privacy]\nkeep_prompts = "{keep}"'
    async with running_gateway(tmp_path, simulator=settings, sections=sections) as running:
        url, store = await begun(running), running.gateway.store
        seen = await where(store)
        async with asyncio.timeout(20):
            while (task := (await running.client.get(url)).json())["status"] != "completed":  # noqa: ASYNC110 - the store sets no event
                await asyncio.sleep(0.1)
        left = await where(store)
        deleted = await running.client.delete(url)
        gone = await where(store)

    assert (during, after, told) == (seen, left, task.get("prompt"))
    assert (200, []) == (deleted.status_code, gone)


async def test_a_prompt_that_died_with_its_gateway_costs_nothing(
    valkey_process: ValkeyProcess, store: Store, tmp_path: Path
) -> None:
    """The other gateway cannot order it and says so; the retry is a call of its own."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(settings))
        config = write_config(
            tmp_path,
            upstream,
            redis=f'url = "{valkey_process.url}"',
            server='lease = "1s"',
            wait="20s",
            sections='[privacy]\nkeep_prompts = "never"',
        )
        fault = {FAULT_ENV: "kill:admitted"}
        first = await stack.enter_async_context(serving_gateway(config, **fault))
        second = await stack.enter_async_context(serving_gateway(config))
        with pytest.raises(httpx.TransportError):
            await first.picture(PROMPT, x_stainless_retry_count="0")
        joined = await second.picture(PROMPT, x_stainless_retry_count="1")
        again = await second.picture(PROMPT, x_stainless_retry_count="2")
        async with httpx.AsyncClient() as client:
            stats = (await client.get(f"{upstream}/_sim/stats")).json()
        [key] = await store.command("KEYS", "{t:design}:budget:team:*")  # type: ignore[misc]
        held = await store.command("HGET", key, "held")

    assert (504, "true") == (joined.status_code, joined.headers["x-should-retry"])
    assert 200 == again.status_code
    assert (1, b"0") == (stats["submits"], held)
