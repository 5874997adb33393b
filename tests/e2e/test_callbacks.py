"""Clients are called back when their picture has ended, signed, after its money is settled."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import orjson
import pytest
from standardwebhooks.webhooks import Webhook

from gateway.background import SystemClock
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.domain.ids import TeamId
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import running_gateway
from tests.support.sockets import answer as answering
from tests.support.sockets import raw_server


@pytest.mark.parametrize(
    ("prompt", "kind", "status"),
    [
        ("a small red fox", "image.task.completed", "completed"),
        ("[[fail:content_policy_violation]]", "image.task.failed", "failed"),
    ],
)
async def test_the_end_is_told_once_and_signed(
    tmp_path: Path, prompt: str, kind: str, status: str
) -> None:
    """Completed or failed, the client hears of it, can verify it, and knows what it cost."""
    async with raw_server(answering(204, b"")) as receiver:
        sections = f'[callbacks]\nallow = ["{receiver.host}"]'
        async with running_gateway(tmp_path, sections=sections) as running:
            running.client.headers["prefer"] = "respond-async"
            answer = await running.generate(prompt, callback_url=f"{receiver.url}/hook?x=1")
            async with asyncio.timeout(60):
                await receiver.asked.wait()
            spent, held = await running.budget()
            team = TeamSecrets(running.gateway.store, SystemClock(), secrets.token_bytes)
            secret = (await team.of_team(TeamId("design"))).current
            await asyncio.sleep(0.5)

    [told] = receiver.requests
    assert ("POST", "/hook?x=1") == (told.method, told.target)
    Webhook(secret).verify(told.body, told.headers)
    body = orjson.loads(told.body)
    assert (kind, status, answer.json()["id"]) == (
        body["type"],
        body["data"]["status"],
        body["data"]["id"],
    )
    assert told.headers["webhook-id"] == f"evt_{answer.json()['id']}_{status}"
    assert 0 == held
    assert spent == (7_852 if status == "completed" else 0)


@pytest.mark.parametrize(
    ("prompt", "status"),
    [("a small red fox", "completed"), ("[[fail:content_policy_violation]]", "failed")],
)
async def test_clients_of_evolink_hear_what_they_would_have_read(
    tmp_path: Path, prompt: str, status: str
) -> None:
    """A task of EvoLink's surface is told as a query for it is answered, and its links open."""
    async with raw_server(answering(204, b"")) as receiver:
        sections = f'[callbacks]\nallow = ["{receiver.host}"]'
        async with running_gateway(tmp_path, sections=sections) as running:
            asked = {
                "model": "gpt-image-1.5",
                "prompt": prompt,
                "size": "1:1",
                "quality": "low",
                "callback_url": f"{receiver.url}/hook",
            }
            answer = await running.client.post("/evolink/v1/images/generations", json=asked)
            task = answer.json()["id"]
            async with asyncio.timeout(60):
                await receiver.asked.wait()
            queried = (await running.client.get(f"/evolink/v1/tasks/{task}")).json()
            body = orjson.loads(receiver.requests[0].body)
            pictures = [await running.client.get(url) for url in body.get("results", [])]

    assert (task, status) == (body["id"], body["status"])
    # Our clock rounds its seconds, and a link says until when it opens.
    for told in (body, queried):
        for moving in ("duration", "results", "result_data"):
            told.pop(moving, None)
    assert queried == body
    assert ([200] if status == "completed" else []) == [one.status_code for one in pictures]


#: One picture is made at once, and takes long: what comes after it waits.
BUSY = SimulatorSettings(latency_median_s=30.0, latency_sigma=0.0, seed=7)


@pytest.mark.parametrize("surface", ["openai", "evolink"])
async def test_a_cancellation_is_told_when_nothing_was_ordered(
    tmp_path: Path, surface: str
) -> None:
    """A task that is cancelled in its queue is told once, signed, in the words of its surface."""
    async with raw_server(answering(204, b"")) as receiver:
        sections = f'[callbacks]\nallow = ["{receiver.host}"]'
        async with running_gateway(
            tmp_path, simulator=BUSY, provider="max_in_flight = 1", sections=sections
        ) as running:
            client, url = running.client, f"{receiver.url}/hook"
            client.headers["prefer"] = "respond-async"
            await running.generate("a fox that is being made")
            await running.until_submitted()
            if surface == "openai":
                told_id = task = (await running.generate(callback_url=url)).json()["id"]
            else:
                asked = {"model": "gpt-image-1.5", "prompt": "a small red fox", "callback_url": url}
                created = await client.post("/evolink/v1/images/generations", json=asked)
                told_id = created.json()["id"]
                task = (await client.get("/v1/images/tasks")).json()["data"][0]["id"]
            _, held_before = await running.budget()
            cancelled = await client.post(f"/v1/images/tasks/{task}/cancel")
            async with asyncio.timeout(60):
                await receiver.asked.wait()
            shown = (await client.get(f"/v1/images/tasks/{task}")).json()
            queried = (await client.get(f"/evolink/v1/tasks/{told_id}")).json()
            _, held = await running.budget()
            team = TeamSecrets(running.gateway.store, SystemClock(), secrets.token_bytes)
            secret = (await team.of_team(TeamId("design"))).current
            await asyncio.sleep(0.5)
            submits = (await running.simulated())["submits"]

    [told] = receiver.requests
    Webhook(secret).verify(told.body, told.headers)
    body = orjson.loads(told.body)
    assert (200, "cancelled") == (cancelled.status_code, shown["status"])
    assert f"evt_{task}_cancelled" == told.headers["webhook-id"]
    if surface == "openai":
        assert ("image.task.cancelled", "cancelled", task) == (
            body["type"],
            body["data"]["status"],
            body["data"]["id"],
        )
    else:
        assert (told_id, "failed", "request_cancelled") == (
            body["id"],
            body["status"],
            body["error"]["code"],
        )
        assert queried == body
    assert (1, True) == (submits, held < held_before)


@pytest.mark.parametrize("surface", ["openai", "evolink"])
async def test_a_cancellation_that_comes_too_late_is_told_as_what_it_became(
    tmp_path: Path, surface: str
) -> None:
    """What was ordered cannot be taken back: its end is told, and no cancellation."""
    slow = SimulatorSettings(latency_median_s=1.0, latency_sigma=0.0, seed=7)
    async with raw_server(answering(204, b"")) as receiver:
        sections = f'[callbacks]\nallow = ["{receiver.host}"]'
        async with running_gateway(tmp_path, simulator=slow, sections=sections) as running:
            client, url = running.client, f"{receiver.url}/hook"
            client.headers["prefer"] = "respond-async"
            if surface == "openai":
                await running.generate(callback_url=url)
            else:
                asked = {"model": "gpt-image-1.5", "prompt": "a small red fox", "callback_url": url}
                await client.post("/evolink/v1/images/generations", json=asked)
            await running.until_submitted()
            task = (await client.get("/v1/images/tasks")).json()["data"][0]["id"]
            await client.post(f"/v1/images/tasks/{task}/cancel")
            async with asyncio.timeout(60):
                await receiver.asked.wait()
            await asyncio.sleep(0.5)

    [told] = receiver.requests
    assert f"evt_{task}_completed" == told.headers["webhook-id"]


async def test_an_address_inside_is_refused_before_anything_is_held(tmp_path: Path) -> None:
    """A callback to a private address is 400, and nothing is ordered."""
    async with running_gateway(tmp_path) as running:
        answer = await running.generate(callback_url="http://127.0.0.1:1/hook")

        assert (400, "callback_url") == (answer.status_code, answer.json()["error"]["param"])
        assert 0 == (await running.simulated())["submits"]
