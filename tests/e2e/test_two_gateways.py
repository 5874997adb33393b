"""Two gateway processes, one store: one budget for both, and streams that move between them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import httpx
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.simulator.rules import Rule
from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import TEAM_KEY, serving_gateway, serving_simulator, write_config
from tests.support.valkey import ValkeyProcess

CALLS = 200
BUDGET_MICROUSD = 1_000_000
#: 408 image tokens at 28.8, 4 text tokens at 4.5: what each picture costs, and what it may hold.
COST_MICROUSD = 11_768
SAMPLE_S = 0.005


async def sample(store: Store, seen: list[int], stop: asyncio.Event) -> None:
    """Read spent and held every few milliseconds, as somebody outside would."""
    while not stop.is_set():
        keys = await store.command("KEYS", "{t:design}:budget:team:*")
        if isinstance(keys, list) and keys:
            reply = await store.command("HMGET", keys[0], "spent", "held")  # type: ignore[arg-type]
            assert isinstance(reply, list)
            seen.append(sum(int(value or 0) for value in reply))  # type: ignore[arg-type]
        await asyncio.sleep(SAMPLE_S)


async def test_a_dollar_is_never_exceeded_and_is_used_up(
    valkey_process: ValkeyProcess, store: Store, tmp_path: Path
) -> None:
    """Of two hundred calls at once, spread over two processes, as many are served as fit."""
    settings = SimulatorSettings(latency_median_s=0.2, latency_sigma=0.3, seed=7)
    stop, seen = asyncio.Event(), list[int]()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(settings))
        urls = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            config = write_config(
                folder,
                upstream,
                budget="1",
                redis=f'url = "{valkey_process.url}"',
                assets='url = "file:../assets"',
                # All of them at once take long on a busy machine; none may come back as an orphan,
                # which another call would join.
                submit_timeout="30s",
                wait="110s",
            )
            urls.append((await stack.enter_async_context(serving_gateway(config))).url)
        client = await stack.enter_async_context(
            httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=CALLS))
        )

        async def call(number: int) -> int:
            answer = await client.post(
                f"{urls[number % 2]}/images/generations",
                json={
                    "model": "gpt-image-1.5",
                    "prompt": "a small red fox",
                    "size": "1024x1536",
                    "quality": "low",
                },
                headers={"Authorization": f"Bearer {TEAM_KEY}"},
            )
            return answer.status_code

        async with asyncio.TaskGroup() as group:
            group.create_task(sample(store, seen, stop))
            first = await asyncio.gather(*(call(number) for number in range(CALLS)))
            # What was held in case prompts cost more is free again: the rest fits one by one.
            later = [await call(number) for number in range(20)]
            stop.set()
        served = [*first, *later].count(200)
        stats = (await client.get(f"{upstream}/_sim/stats")).json()
        spent, held = await budget(store)
        verified = await asyncio.to_thread(
            CliRunner().invoke, app, ["ledger", "verify", "--config", str(config)]
        )

    assert 0 == verified.exit_code, verified.output
    assert {200, 429} == {*first, *later}
    assert max(seen) <= BUDGET_MICROUSD
    assert len(seen) > 20
    assert (served * COST_MICROUSD, 0) == (spent, held)
    billed_microusd = Decimal(str(stats["credits_used"])) / 68 * 1_000_000
    assert billed_microusd <= BUDGET_MICROUSD
    assert stats["submits"] == served
    # No further call of this size fits under the dollar with its hold.
    hold_microusd = 408 * Decimal("28.8") + len("a small red fox") * Decimal("4.5") + 256 * 9
    assert BUDGET_MICROUSD - spent < hold_microusd


async def budget(store: Store) -> tuple[int, int]:
    """Return what is spent and held."""
    keys = await store.command("KEYS", "{t:design}:budget:team:*")
    assert isinstance(keys, list)
    reply = await store.command("HMGET", keys[0], "spent", "held")  # type: ignore[arg-type]
    assert isinstance(reply, list)
    spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
    return spent, held


async def test_a_stream_that_is_cut_goes_on_at_the_other_gateway(
    valkey_process: ValkeyProcess, store: Store, tmp_path: Path
) -> None:
    """It sends what is there already, and the rest when the gateway that runs it has got it."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    rules = [Rule("submit", "[[latency:6]]", nth=frozenset({1}))]
    call = {"model": "gpt-image-1.5", "prompt": "a small red fox", "n": 2, "stream": True}
    headers = {"Authorization": f"Bearer {TEAM_KEY}"}
    async with (
        serving_simulator(settings, rules) as upstream,
        httpx.AsyncClient(timeout=60, headers=headers) as client,
    ):
        redis = f'url = "{valkey_process.url}"'
        config = write_config(tmp_path, upstream, redis=redis, wait="50s")
        async with serving_gateway(config) as one, serving_gateway(config) as two:
            path = "images/generations"
            async with client.stream("POST", f"{one.url}/{path}", json=call) as cut:
                await anext(cut.aiter_bytes())
            async with asyncio.timeout(60):
                while not await store.command("KEYS", "{t:design}:orphans:*"):  # noqa: ASYNC110 - the store sets no event
                    await asyncio.sleep(0.01)
            answer = await client.post(f"{two.url}/{path}", json=call)
        stats = (await client.get(f"{upstream}/_sim/stats")).json()

    assert "true" == answer.headers["x-gateway-joined"]
    assert cut.headers["x-gateway-task-id"] == answer.headers["x-gateway-task-id"]
    assert 2 == answer.text.count("event: image_generation.completed\n")
    assert 2 == stats["submits"]
