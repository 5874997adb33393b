"""Pictures take longer than clients and what is between expect: they are told, or kept awake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import orjson
import pytest

from gateway.assembly.gateway import Gateway
from gateway.domain.latency import LatencyClass
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, Running, running_gateway

SLOW = SimulatorSettings(latency_median_s=2.5, latency_sigma=0.0, seed=7)
QUICK = SimulatorSettings(latency_median_s=0.2, latency_sigma=0.0, seed=7)

CALL = {
    "model": "gpt-image-1.5",
    "prompt": "a small red fox",
    "quality": "low",
    "size": "1024x1024",
}


@asynccontextmanager
async def kept_alive(folder: Path, **placeholders: str) -> AsyncIterator[Running]:
    """Serve slow pictures, with answers that are silent for half a second at most."""
    placeholders.setdefault("server", 'keepalive_after = "500ms"')
    async with running_gateway(folder, simulator=SLOW, **placeholders) as running:
        yield running


def client_of(running: Running, *, timeout_s: float, retries: int = 4) -> openai.AsyncOpenAI:
    """Return a stock client."""
    return openai.AsyncOpenAI(
        base_url=f"{running.url}/v1", api_key=TEAM_KEY, timeout=timeout_s, max_retries=retries
    )


def takes_as_long_as(gateway: Gateway, seconds: float) -> None:
    """Let the gateway have seen that pictures take so long."""
    picture = LatencyClass("evolink", "gpt-image-1.5", "generation", "low", "1k")  # type: ignore[arg-type]
    for _ in range(200):
        gateway.latencies.observe(picture, seconds, seconds)


async def test_a_client_that_is_too_impatient_is_told(tmp_path: Path) -> None:
    """Every answer says what to expect, and that the client's timeout is too short when it is."""
    patience = [
        {},
        {"x-stainless-read-timeout": "600"},
        {"x-stainless-read-timeout": "2"},
        {"x-stainless-timeout": "2"},
    ]
    async with running_gateway(tmp_path, simulator=QUICK, server='heartbeat = "1s"') as running:
        takes_as_long_as(running.gateway, 3.0)
        await running.gateway.latencies.refresh()
        answers = await asyncio.gather(
            *(
                running.client.post("/v1/images/generations", json=CALL, headers=headers)
                for headers in patience
            )
        )
        # Between the heartbeats of a stream nobody waits as long as for a picture.
        streams = [
            await running.client.post(
                "/v1/images/generations", json=CALL | {"stream": True}, headers=headers
            )
            for headers in patience
        ]

    [expected_s] = {answer.headers["x-gateway-expected-seconds"] for answer in answers}
    assert 3 <= int(expected_s) <= 5
    hint = f"raise your timeout above {expected_s}s"
    assert [None, None, hint, hint] == [
        answer.headers.get("x-gateway-timeout-hint") for answer in answers
    ]
    assert [None, None, None, hint] == [
        stream.headers.get("x-gateway-timeout-hint") for stream in streams
    ]


async def test_a_timeout_that_would_be_too_short_is_enough_with_spaces(tmp_path: Path) -> None:
    """A stock client that gives up after a second of silence gets its picture by its first try."""
    async with kept_alive(tmp_path) as running:
        async with client_of(running, timeout_s=1.0, retries=0) as client:
            raw = await client.images.with_raw_response.generate(**CALL)  # type: ignore[arg-type]
        picture = raw.parse()

        assert picture.data is not None
        assert picture.data[0].b64_json
        assert (1, 1) == await _submits_and_pictures(running)
        assert "chunked" == raw.headers["transfer-encoding"]
        assert {
            "content-length",
            "x-gateway-cost-usd",
            "x-gateway-budget-remaining-usd",
        }.isdisjoint(raw.headers)
        assert raw.headers["x-gateway-task-id"].startswith("imgtask_")


async def test_the_spaces_are_part_of_the_json(tmp_path: Path) -> None:
    """A space after each silence, and then the very answer that would have come without them."""
    async with kept_alive(tmp_path) as running:
        async with running.client.stream("POST", "/v1/images/generations", json=CALL) as answer:
            body = await answer.aread()
        spaces = len(body) - len(body.lstrip())
        running.client.headers["x-stainless-retry-count"] = "1"
        again = await running.generate()

        assert 200 == answer.status_code
        assert 3 <= spaces <= 8
        assert orjson.loads(body) == again.json()


async def test_a_quick_answer_has_its_headers(tmp_path: Path) -> None:
    """What is there before anybody would be cut off is answered as ever."""
    async with running_gateway(
        tmp_path, simulator=QUICK, server='keepalive_after = "10s"'
    ) as running:
        answer = await running.generate()

        assert len(answer.content) == int(answer.headers["content-length"])
        assert "x-gateway-cost-usd" in answer.headers


async def test_an_answer_that_cannot_come_any_more_is_cut(tmp_path: Path) -> None:
    """When the wait is over the connection breaks in the body, and the retry has the picture."""
    async with kept_alive(tmp_path, wait="1500ms") as running:
        with pytest.raises(httpx.RemoteProtocolError):
            await running.generate()
        async with client_of(running, timeout_s=10.0) as client:
            picture = await client.images.generate(**CALL)  # type: ignore[arg-type]

        assert picture.data is not None
        assert (1, 1) == await _submits_and_pictures(running)


async def test_a_refusal_reaches_the_sdk_by_its_retry(tmp_path: Path) -> None:
    """A picture that is refused late is a cut answer, and then the refusal with its own status."""
    async with kept_alive(tmp_path) as running:
        async with client_of(running, timeout_s=10.0) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.images.generate(
                    **CALL | {"prompt": "[[fail:content_policy_violation]]"}  # type: ignore[arg-type]
                )

        assert "moderation_blocked" == refused.value.code
        assert 1 == (await running.simulated())["submits"]


async def test_a_refusal_reaches_a_retry_without_a_sign(tmp_path: Path) -> None:
    """The answer that was cut told nobody anything, so the next call like it gets the refusal."""
    async with kept_alive(tmp_path) as running:
        refused = "[[fail:content_policy_violation]]"
        with pytest.raises(httpx.RemoteProtocolError):
            await running.generate(refused)
        answer = await running.generate(refused)

        assert (400, "moderation_blocked") == (answer.status_code, answer.json()["error"]["code"])
        assert "true" == answer.headers["x-gateway-joined"]
        assert 1 == (await running.simulated())["submits"]


async def test_a_hang_up_among_the_spaces_leaves_the_picture_to_a_retry(tmp_path: Path) -> None:
    """A client that goes away after the head is not waited for, and its next call gets it all."""
    async with kept_alive(tmp_path) as running:
        async with running.client.stream("POST", "/v1/images/generations", json=CALL) as answer:
            assert 200 == answer.status_code
        async with asyncio.timeout(60):
            while not await running.gateway.store.command("KEYS", "{t:design}:orphans:*"):  # noqa: ASYNC110 - the store sets no event
                await asyncio.sleep(0.01)
        async with running.client.stream("POST", "/v1/images/generations", json=CALL) as again:
            await again.aread()

        assert "true" == again.headers["x-gateway-joined"]
        assert (1, 1) == await _submits_and_pictures(running)


async def test_a_stop_waits_for_answers_that_have_begun(tmp_path: Path) -> None:
    """A call whose spaces are being sent is a call that waits: it gets its picture first."""
    simulator = replace(SLOW, latency_median_s=0.9)
    server = 'keepalive_after = "200ms"'
    async with running_gateway(tmp_path, simulator=simulator, server=server) as running:
        async with running.client.stream("POST", "/v1/images/generations", json=CALL) as answer:
            running.stop.set()
            body = await answer.aread()

        assert orjson.loads(body)["data"][0]["b64_json"]


async def _submits_and_pictures(running: Running) -> tuple[float, float]:
    stats = await running.simulated()
    return stats["submits"], stats["renders_completed"]
