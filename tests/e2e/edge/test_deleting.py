"""A picture that was deleted is gone, wherever one looks, but for its line in the ledger."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.command_line import gateway
from tests.support.gateway import OTHER_KEY, Running, running_gateway
from tests.support.sockets import answer as saying
from tests.support.sockets import raw_server

PROMPT = "a portrait of Ada Lovelace in the rain"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Serve the product with an upstream that answers at once, and that calls back."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    async with running_gateway(
        tmp_path, simulator=settings, server='public_url = "URL"', sections=CALLBACKS
    ) as served:
        yield served


LEDGER = ["{t:design}:ledger"]
CALLBACKS = '[callbacks]\nallow = ["127.0.0.1"]'


async def dump(store: Store) -> dict[str, str]:
    """Return everything that is in the store, key by key, as text."""
    found: dict[str, str] = {}
    keys = await store.command("KEYS", "*")
    assert isinstance(keys, list)
    read = {
        "hash": ("HGETALL",),
        "string": ("GET",),
        "set": ("SMEMBERS",),
        "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
        "stream": ("XRANGE", "-", "+"),
    }
    for key in keys:
        assert isinstance(key, bytes)
        kind = await store.command("TYPE", key)
        assert isinstance(kind, bytes)
        if kind == b"none":
            # It has expired meanwhile.
            continue
        verb, *rest = read[kind.decode()]
        found[key.decode()] = str(await store.command(str(verb), key, *rest))
    return found


def naming(found: dict[str, str], text: str) -> list[str]:
    """Return the keys that hold a text, or have it in their name."""
    return [key for key, value in found.items() if text in key + value]


async def until_called(running: Running, task: str, client: Store) -> None:
    """Wait until the client was told of a task's end."""
    async with asyncio.timeout(20):
        while "'delivered'" not in str(  # noqa: ASYNC110 - the store sets no event
            {key: value for key, value in (await dump(client)).items() if f"evt_{task}" in key}
        ):
            await asyncio.sleep(0.1)


async def test_nothing_of_a_deleted_picture_remains_but_its_ledger_line(
    running: Running, tmp_path: Path
) -> None:
    """Record, prompt, links, callback, file: one looks for each of them in all that is kept."""
    store = running.gateway.store
    async with raw_server(saying(200)) as client:
        answer = await running.client.post(
            "/v1/images/generations",
            json={
                "model": "gpt-image-1.5",
                "prompt": PROMPT,
                "quality": "low",
                "size": "1024x1024",
                "user": "ada",
                "callback_url": client.url,
            },
            headers={"idempotency-key": "the-one-of-ada"},
        )
        task = answer.headers["x-gateway-task-id"]
        await until_called(running, task, store)
    await running.gateway.shelf.flush()
    url = f"/v1/images/tasks/{task}"
    shown = (await running.client.get(url)).json()
    link = shown["data"][0]["url"]
    upstream = (await running.gateway.store_tasks.read("design", task)).renders[0].upstream_id  # type: ignore[arg-type, union-attr]
    before, money = await dump(store), await running.budget()
    deleted = await running.client.delete(url)
    async with asyncio.timeout(60):
        # The account's permit of a render is given back a moment after its end.
        while naming(after := await dump(store), task) != LEDGER:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)

    assert len(naming(before, upstream)) > 1
    assert len(naming(before, task)) > 4
    assert (200, {"id": task, "object": "image.task", "deleted": True}) == (
        deleted.status_code,
        deleted.json(),
    )
    for secret in (PROMPT, "lovelace-1815", client.url, "the-one-of-ada"):
        assert [] == naming(after, secret)
    files = [path for path in (tmp_path / "assets").rglob("*") if not path.name.startswith(".")]
    assert [] == files
    assert 410 == (await running.client.get(link)).status_code
    assert 404 == (await running.client.get(url)).status_code
    assert 404 == (await running.client.delete(url)).status_code
    listed = (await running.client.get("/v1/images/tasks")).json()
    assert [] == listed["data"]
    assert money == await running.budget()
    assert base64.b64decode(shown["data"][0]["b64_json"])


async def test_another_team_s_picture_cannot_be_deleted(running: Running) -> None:
    """It is not there for them."""
    answer = await running.generate()
    url = f"/v1/images/tasks/{answer.headers['x-gateway-task-id']}"
    refused = await running.client.delete(url, headers={"Authorization": f"Bearer {OTHER_KEY}"})

    assert (404, "task_not_found") == (refused.status_code, refused.json()["error"]["code"])
    assert 200 == (await running.client.get(url)).status_code


async def test_a_running_task_is_not_deleted(running: Running) -> None:
    """It may be charged yet: it is cancelled, or waited for."""
    accepted = await running.client.post(
        "/v1/images/generations",
        json={"model": "gpt-image-1.5", "prompt": "a fox [[latency:30]]", "quality": "low"},
        headers={"prefer": "respond-async"},
    )
    refused = await running.client.delete(accepted.headers["location"])

    assert (409, "task_running") == (refused.status_code, refused.json()["error"]["code"])
    assert "false" == refused.headers["x-should-retry"]
    assert 200 == (await running.client.get(accepted.headers["location"])).status_code


async def test_everything_of_an_end_user_is_purged(running: Running, tmp_path: Path) -> None:
    """Whether the books know users or not; others keep their pictures, running tasks are told."""
    for user in ("ada", "bob", "ada"):
        await running.generate(f"for {user}", safety_identifier=user)
    running_one = await running.client.post(
        "/v1/images/generations",
        json={
            "model": "gpt-image-1.5",
            "prompt": "a fox [[latency:30]]",
            "quality": "low",
            "user": "ada",
        },
        headers={"prefer": "respond-async"},
    )
    await running.gateway.shelf.flush()
    command, config = ["purge", "--user", "ada", "--json"], tmp_path / "config.toml"
    purged = await gateway(*command, config=config)
    again = await gateway(*command, config=config)
    tasks = (await running.client.get("/v1/images/tasks?data=false")).json()["data"]
    kept = running_one.json()["id"]

    assert (1, {"deleted": 2, "running": [kept]}) == (purged.exit_code, json.loads(purged.printed))
    assert {"deleted": 0, "running": [kept]} == json.loads(again.printed)
    assert 2 == len(tasks)
    stored = [path for path in (tmp_path / "assets").rglob("*") if path.is_file()]
    assert 1 == len([path for path in stored if not path.name.startswith(".")])
