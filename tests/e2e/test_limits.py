"""Quotas and caps as a team meets them: the answers, and what a stock SDK makes of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from openai import AsyncOpenAI

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, running_gateway

AT_ONCE = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)


async def test_requests_per_minute_are_told_before_they_run_out(tmp_path: Path) -> None:
    """Every answer counts down; the one too many says when to come back, and costs nothing."""
    async with running_gateway(
        tmp_path, simulator=AT_ONCE, team="limits = { requests_per_minute = 2 }"
    ) as running:
        first, second, third = [await running.generate() for _ in range(3)]
        spent = await running.budget()
        metrics = await running.metrics()

    assert [("2", "1"), ("2", "0")] == [
        (
            answer.headers["x-ratelimit-limit-requests"],
            answer.headers["x-ratelimit-remaining-requests"],
        )
        for answer in (first, second)
    ]
    assert "0" == third.headers["x-ratelimit-remaining-requests"]
    assert second.headers["x-ratelimit-reset-requests"].endswith("s")
    error = third.json()["error"]
    assert (429, "requests", "rate_limit_exceeded") == (
        third.status_code,
        error["type"],
        error["code"],
    )
    retry_ms = int(third.headers["retry-after-ms"])
    assert 20_000 < retry_ms <= 30_000
    assert -(-retry_ms // 1000) == int(third.headers["retry-after"])
    assert (2 * 7_852, 0) == spent
    assert 1 == metrics['gateway_rejections_total{reason="rate_limit_exceeded",team="design"}']


async def test_a_stock_sdk_waits_as_it_is_told_and_gets_its_picture(tmp_path: Path) -> None:
    """`retry-after-ms` is honest: the SDK's own retry succeeds."""
    async with (
        running_gateway(
            tmp_path, simulator=AT_ONCE, team="limits = { images_per_minute = 60 }"
        ) as running,
        AsyncOpenAI(base_url=f"{running.url}/v1", api_key=TEAM_KEY) as client,
    ):
        for _ in range(6):
            answers = await asyncio.gather(*(running.generate() for _ in range(10)))
        refused = [answer for answer in answers if answer.status_code == 429]
        picture = await client.images.generate(
            model="gpt-image-1.5", prompt="a small red fox", quality="low"
        )

    assert picture.data is not None
    assert len(refused) < 10


async def test_a_queue_lets_a_call_wait_for_its_turn(tmp_path: Path) -> None:
    """With `queue`, a call above the limit is served late instead of refused."""
    team = 'limits = { in_flight_images = 1, queue = "10s" }'
    async with running_gateway(tmp_path, simulator=AT_ONCE, team=team) as running:
        began_s = time.monotonic()
        answers = await asyncio.gather(*(running.generate() for _ in range(2)))
        took_s = time.monotonic() - began_s

    assert [200, 200] == [answer.status_code for answer in answers]
    assert took_s > 1.0


async def test_images_in_progress_are_limited(tmp_path: Path) -> None:
    """Without a queue the call above the limit is told to come back."""
    slow = SimulatorSettings(latency_median_s=1.5, latency_sigma=0.0, seed=7)
    team = "limits = { in_flight_images = 1 }"
    async with running_gateway(tmp_path, simulator=slow, team=team) as running:
        first = asyncio.get_running_loop().create_task(running.generate())
        await running.until_submitted()
        second = await running.generate()
        await first
        third = await running.generate()

    assert (429, "input-images") == (second.status_code, second.json()["error"]["type"])
    assert int(second.headers["retry-after"]) <= 60
    assert 200 == third.status_code


async def test_a_team_sees_what_is_left_of_its_quotas(tmp_path: Path) -> None:
    """`GET /v1/usage` tells those that it has: calls, pictures of the day, pictures in progress."""
    team = "limits = { requests_per_minute = 2, images_per_day = 9, in_flight_images = 4 }"
    async with running_gateway(tmp_path, simulator=AT_ONCE, team=team) as running:
        before = (await running.client.get("/v1/usage")).json()["quotas"]
        await running.generate(n=2)
        running.client.headers["prefer"] = "respond-async"
        await running.generate("a slow fox [[latency:2]]", n=3)
        after = (await running.client.get("/v1/usage")).json()["quotas"]

    names = ["requests_per_minute", "images_per_day", "in_flight_images"]
    assert [(name, 0) for name in names] == [(quota["name"], quota["used"]) for quota in before]
    assert [(2, 2, 0), (9, 5, 4), (4, 3, 1)] == [
        (quota["limit"], quota["used"], quota["remaining"]) for quota in after
    ]
    assert [True, False, True] == [quota["resets_at"] is None for quota in before]
    assert [False, False, True] == [quota["resets_at"] is None for quota in after]


async def test_one_call_may_cost_no_more_than_its_cap(tmp_path: Path) -> None:
    """The lower of the team's and the key's cap refuses a call before anything is held."""
    async with running_gateway(
        tmp_path, simulator=AT_ONCE, team="per_call_usd = 1", key="per_call_usd = 0.02"
    ) as running:
        dear = await running.generate(quality="high")
        cheap = await running.generate()

    error = dear.json()["error"]
    assert (400, "invalid_request_error", "cost_limit_exceeded") == (
        dear.status_code,
        error["type"],
        error["code"],
    )
    assert "$0.02 allowed" in error["message"]
    assert 200 == cheap.status_code


async def test_a_key_may_use_fewer_models_than_its_team(tmp_path: Path) -> None:
    """A key's own globs narrow the team's."""
    async with running_gateway(
        tmp_path, simulator=AT_ONCE, key='models = ["gpt-image-2*"]'
    ) as running:
        answer = await running.generate()

    assert (403, "permission_denied") == (answer.status_code, answer.json()["error"]["code"])


async def test_an_expired_key_is_no_key(tmp_path: Path) -> None:
    """After its date a key is refused like an unknown one."""
    async with running_gateway(tmp_path, simulator=AT_ONCE, key="expires = 2026-01-31") as running:
        answer = await running.generate()

    assert (401, "invalid_api_key") == (answer.status_code, answer.json()["error"]["code"])


async def test_each_end_user_has_a_budget(tmp_path: Path) -> None:
    """One user's spending stops that user; the books never hold the user's name."""
    team = 'user_budget = { usd = 0.011, per = "day" }'
    async with running_gateway(tmp_path, simulator=AT_ONCE, team=team) as running:
        answers = [
            await running.generate(**fields)
            for fields in (
                {"user": "alice@example.org"},
                {"user": "alice@example.org"},
                {"safety_identifier": "bob"},
                {},
            )
        ]
        names = str(await running.gateway.store.command("KEYS", "*"))

    assert [200, 429, 200, 200] == [answer.status_code for answer in answers]
    assert "the user's 'day' budget" in answers[1].json()["error"]["message"]
    assert "alice" not in names
