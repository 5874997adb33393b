"""What an operator's dashboards and alerts rely on, scraped from the served product."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, Running, running_gateway
from tests.support.noise import make_noise

#: Name by name and label by label; counters by the name of their samples. What only shows up when
#: something goes wrong or is configured stands apart.
ALWAYS = """
requests_total{route,team,model,status,code} request_duration_seconds{route,team,model}
phase_duration_seconds{phase,provider,model} overhead_seconds{route}
cost_usd_total{team,model,provider,category} images_total{team,model,provider,quality,size}
tokens_total{team,model,category} budget_limit_usd{scope,team,name,per}
budget_window_start_seconds{scope,team,name,per} budget_window_end_seconds{scope,team,name,per}
budget_spent_usd{scope,team,name,per} budget_held_usd{scope,team,name,per}
rejections_total{team,reason} tasks_in_flight{provider} task_age_seconds_max
renders_total{provider,model,outcome} upstream_requests_total{provider,call,status}
polls_per_render{provider} detection_lag_seconds{provider} joined_retries_total{team}
saved_usd_total{team} paid_undelivered_usd{team} hold_overrun_usd_total{team}
possible_charge_usd_total{provider} price_miss_total{model} billing_drift_usd_total{provider}
provider_up{provider} provider_credits{provider} recovered_tasks_total store_up build_info{version}
queue_length{provider} poll_lateness_seconds{provider} poll_lateness_seconds_max{provider}
poll_put_off_seconds{provider}
loop_deaths_total{loop} assets_errors_total{operation,reason} assets_full assets_free_bytes
assets_waiting pictures_cut_total{provider} config_reloads_total{outcome} alerts_total{outcome}
repriced_tasks_total{provider}
"""
LABELS = {
    match[1]: set(filter(None, (match[2] or "").split(",")))
    for match in re.finditer(r"(\w+)(?:\{([\w,]+)\})?", ALWAYS)
}


async def scraped(running: Running) -> dict[str, set[str]]:
    """Return every series by its name (of a histogram's samples: its own) with its labels."""
    text = (await running.client.get("/metrics")).text
    return {
        re.sub(r"_(bucket|sum|count)$", "", sample.name).removeprefix("gateway_"): {*sample.labels}
        - {"le"}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def series(url: str) -> set[str]:
    """Return every sample's name and labels."""
    async with httpx.AsyncClient(timeout=60) as client:
        text = (await client.get(f"{url}/metrics")).text
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


async def test_every_metric_is_there_with_its_labels(tmp_path: Path) -> None:
    """After one picture, a retry of it and a refusal, all names of the contract are scraped."""
    async with running_gateway(tmp_path) as running:
        await running.generate()
        await running.client.post(
            "/v1/images/generations",
            json={
                "model": "gpt-image-1.5",
                "prompt": "a small red fox",
                "quality": "low",
                "size": "1024x1024",
            },
            headers={"x-stainless-retry-count": "1"},
        )
        await running.generate(size="7x7")
        async with asyncio.timeout(20):
            # The figures of budgets are a snapshot, taken every few seconds.
            while "budget_spent_usd" not in (found := await scraped(running)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    found = {name: labels for name, labels in found.items() if not name.endswith("_created")}
    assert LABELS == {name: found.get(name) for name in LABELS}
    assert set(LABELS) == set(found)


async def test_phases_of_a_picture_and_of_its_answer(tmp_path: Path) -> None:
    """A picture is in each phase once, and all but the upstream's are little next to it."""
    async with running_gateway(tmp_path) as running:
        await running.generate()
        figures = await running.metrics()

    counts = {
        phase: figures[
            "gateway_phase_duration_seconds_count"
            f'{{model="gpt-image-1.5",phase="{phase}",provider="evolink"}}'
        ]
        for phase in ("receive", "admit", "queue", "submit", "render", "fetch", "store", "deliver")
    }
    assert counts == dict.fromkeys(counts, 1)
    assert figures['gateway_overhead_seconds_count{route="images.generations"}'] == 1


async def test_an_account_that_runs_out_is_seen(tmp_path: Path) -> None:
    """The balance is read from the upstream, and is the one that it keeps."""
    poor = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, credits_balance=12)
    async with running_gateway(
        tmp_path, simulator=poor, provider='balance_every = "100ms"'
    ) as running:
        name = 'gateway_provider_credits{provider="evolink"}'
        async with asyncio.timeout(20):
            while (await running.metrics()).get(name) != 12.0:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)
            await running.generate()
            while (left := (await running.metrics())[name]) == 12.0:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        up = (await running.metrics())['gateway_provider_up{provider="evolink"}']

    assert 10 < left < 12
    assert up == 1


@pytest.mark.parametrize("requests", [600])
async def test_no_request_makes_a_series(tmp_path: Path, requests: int) -> None:
    """Random models, users, keys, sizes and paths leave the number of series as it was.

    `make observe` sends ten thousand.
    """
    async with running_gateway(tmp_path) as running:
        root = running.url
        # Each kind of refusal once: routes, statuses and codes are few.
        await make_noise(root, TEAM_KEY, requests, seed=1)
        async with asyncio.timeout(20):
            while not any(  # noqa: ASYNC110 - a snapshot, taken every few seconds
                "budget_spent" in each for each in await series(root)
            ):
                await asyncio.sleep(0.1)
        before = await series(root)
        seen = await make_noise(root, TEAM_KEY, requests, seed=2)
        after = await series(root)

    assert seen.keys() >= {400, 401, 404}
    assert not {status for status in seen if status >= 500 or status == 200}
    assert before == after
