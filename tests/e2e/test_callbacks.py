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
            async with asyncio.timeout(10):
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
            async with asyncio.timeout(10):
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


async def test_an_address_inside_is_refused_before_anything_is_held(tmp_path: Path) -> None:
    """A callback to a private address is 400, and nothing is ordered."""
    async with running_gateway(tmp_path) as running:
        answer = await running.generate(callback_url="http://127.0.0.1:1/hook")

        assert (400, "callback_url") == (answer.status_code, answer.json()["error"]["param"])
        assert 0 == (await running.simulated())["submits"]
