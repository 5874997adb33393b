"""One picture, one charge: retries of real clients get the picture their first try has paid for."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, Running, running_gateway

SLOW = SimulatorSettings(latency_median_s=4.0, latency_sigma=0.0, seed=7)
QUICK = SimulatorSettings(latency_median_s=0.2, latency_sigma=0.0, seed=7)


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[Running]:
    """Run the product with an upstream that takes four seconds."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        yield running


def client_of(running: Running, *, timeout_s: float = 1.8) -> openai.AsyncOpenAI:
    """Return a stock client that gives up long before the upstream is done; twice by default."""
    return openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=TEAM_KEY, timeout=timeout_s)


async def picture_of(client: openai.AsyncOpenAI, prompt: str = "a small red fox") -> bytes:
    """Return one low square's bytes."""
    answer = await client.images.generate(
        model="gpt-image-1.5", prompt=prompt, quality="low", size="1024x1024"
    )
    assert answer.data is not None
    assert answer.data[0].b64_json is not None
    return base64.b64decode(answer.data[0].b64_json)


async def test_a_client_that_times_out_gets_its_one_picture_by_its_retry(slow: Running) -> None:
    """A stock SDK whose calls time out submits once, pays once, and gets the picture."""
    async with client_of(slow) as client:
        picture = await picture_of(client)

    assert picture.startswith(b"\x89PNG")
    stats = await slow.simulated()
    assert (stats["submits"], stats["renders_completed"]) == (1, 1)
    metrics = await slow.metrics()
    assert metrics['gateway_joined_retries_total{team="design"}'] >= 1
    spent, held = await slow.budget()
    assert (spent, held) == (stats["cost_microusd"], 0)
    assert metrics['gateway_saved_usd_total{team="design"}'] * 1_000_000 == pytest.approx(spent)


async def test_identical_calls_that_all_time_out_stay_separate_pictures(slow: Running) -> None:
    """Four identical calls at once, all retried, are four submissions and four pictures."""
    async with client_of(slow) as client:
        pictures = await asyncio.gather(*(picture_of(client) for _ in range(4)))

    stats = await slow.simulated()
    assert stats["submits"] == stats["renders_completed"] == 4
    assert len(set(pictures)) == 4
    assert await slow.budget() == (stats["cost_microusd"], 0)


async def test_a_client_that_retries_without_a_sign_joins_after_a_504(tmp_path: Path) -> None:
    """A call that says nothing of being a retry gets the picture that nobody waits for."""
    async with running_gateway(tmp_path, simulator=SLOW, wait="1s") as running:
        first = await running.generate()
        second = await running.generate()
        while second.status_code == 504:
            second = await running.generate()

        assert (first.status_code, first.headers["x-should-retry"]) == (504, "true")
        assert second.headers["x-gateway-joined"] == "true"
        assert second.headers["x-gateway-cost-usd"] == "0.00"
        assert (await running.simulated())["submits"] == 1


async def test_a_new_call_after_a_delivered_one_is_a_new_picture(tmp_path: Path) -> None:
    """The same words asked for again, after they were answered, are another picture."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        first, second = await running.generate(), await running.generate()

        assert "x-gateway-joined" not in second.headers
        assert first.json()["data"] != second.json()["data"]
        assert (await running.simulated())["submits"] == 2


async def test_a_retry_of_a_delivered_call_gets_the_same_answer(tmp_path: Path) -> None:
    """An answer that was lost on its way is given again to the retry that says it is one."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        first = await running.generate()
        running.client.headers["x-stainless-retry-count"] = "1"
        second = await running.generate()

        assert second.headers["x-gateway-joined"] == "true"
        assert first.content == second.content
        left = "x-gateway-budget-remaining-usd"
        assert first.headers[left] == second.headers[left]
        assert (await running.simulated())["submits"] == 1


async def test_a_client_that_hangs_up_leaves_its_picture_to_the_next_call(tmp_path: Path) -> None:
    """A connection that is closed while it waits changes nothing; the next call gets it."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        await running.hang_up()
        async with asyncio.timeout(60):
            while not await running.gateway.store.command("KEYS", "{t:design}:orphans:*"):  # noqa: ASYNC110 - the store is looked at from outside
                await asyncio.sleep(0.01)
        answer = await running.generate()

        assert (answer.status_code, answer.headers["x-gateway-joined"]) == (200, "true")
        assert (await running.simulated())["submits"] == 1


async def test_a_call_whose_client_has_gone_already_is_not_a_picture(tmp_path: Path) -> None:
    """What lay in the socket of a process that stood still is not bought; its retry may be."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        body = b'{"model":"gpt-image-1.5","prompt":"a small red fox","quality":"low"}'
        head = (
            "POST /v1/images/generations HTTP/1.1\r\nhost: gateway\r\n"
            f"authorization: Bearer {TEAM_KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        # Sent and left before the loop of both sides turns again.
        with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as left:
            left.sendall(head.encode() + body)
        gone = 'code="client_disconnected"'
        async with asyncio.timeout(60):
            while not any(gone in name for name in await running.metrics()):  # noqa: ASYNC110 - a test may look
                await asyncio.sleep(0.05)

        assert await running.budget() == (0, 0)
        assert (await running.simulated())["submits"] == 0


async def test_an_idempotency_key_is_one_picture(tmp_path: Path) -> None:
    """The same key gives the same answer; another body under it is refused."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        running.client.headers["idempotency-key"] = "order-7"
        first, again = await running.generate(), await running.generate()
        other = await running.generate("a small blue fox")

        assert first.content == again.content
        assert again.headers["x-gateway-joined"] == "true"
        assert (other.status_code, other.headers["x-should-retry"]) == (422, "false")
        assert other.json()["error"]["code"] == "idempotency_conflict"
        assert (await running.simulated())["submits"] == 1


async def test_a_retry_of_a_refused_call_is_a_call_of_its_own(tmp_path: Path) -> None:
    """A call that was sent away for its rate does not get the picture of another one like it."""
    limits = "limits = { in_flight_images = 1 }"
    async with running_gateway(tmp_path, simulator=SLOW, team=limits) as running:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(running.generate())
            await running.until_submitted()
            refused = await running.generate()
            await first
        running.client.headers["x-stainless-retry-count"] = "1"
        retried = await running.generate()

        assert refused.status_code == 429
        assert "x-gateway-joined" not in retried.headers
        assert (await running.simulated())["submits"] == 2


async def test_a_team_may_have_no_retries_joined(tmp_path: Path) -> None:
    """Where joining is switched off, a retry is a new picture."""
    async with running_gateway(tmp_path, simulator=QUICK, team="join_retries = false") as running:
        await running.generate()
        running.client.headers["x-stainless-retry-count"] = "1"
        again = await running.generate()

        assert "x-gateway-joined" not in again.headers
        assert (await running.simulated())["submits"] == 2


async def test_a_failure_that_is_final_is_told_again(tmp_path: Path) -> None:
    """A retry of a blocked call is answered with the block, and nothing is submitted again."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        blocked = "[[fail:content_policy_violation]]"
        first = await running.generate(blocked)
        running.client.headers["x-stainless-retry-count"] = "1"
        again = await running.generate(blocked)

        assert (first.status_code, again.status_code) == (400, 400)
        assert (await running.simulated())["submits"] == 1
