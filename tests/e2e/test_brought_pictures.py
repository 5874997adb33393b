"""What an edit was made from is kept for its task, and is gone with it, whatever happens."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from gateway.background import SystemClock
from gateway.cli.fault_points import FAULT_ENV
from gateway.domain.references import is_reference
from gateway.service.links import REFERENCE_MS
from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import (
    TEAM_KEY,
    Running,
    running_gateway,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.uploads import Part, a_file, a_form, a_part, a_picture, form_headers
from tests.support.valkey import ValkeyProcess

AT_ONCE = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
PNG = a_picture(shade=77)
DIGEST = hashlib.sha256(PNG).hexdigest()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Serve the product with an upstream that answers at once."""
    async with running_gateway(tmp_path, simulator=AT_ONCE) as served:
        yield served


def an_edit(prompt: str = "make it blue") -> bytes:
    """Return the body of an edit of one picture."""
    fields = {"model": "gpt-image-1.5", "prompt": prompt, "quality": "low", "size": "1024x1024"}
    parts: list[Part] = [a_part(name, value) for name, value in fields.items()]
    return a_form([*parts, a_file(PNG)])


async def edit(
    client: httpx.AsyncClient, prompt: str = "make it blue", **headers: str
) -> httpx.Response:
    """Send an edit; names of headers are written with underscores."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(
        "/v1/images/edits", content=an_edit(prompt), headers=form_headers() | told
    )


def kept(folder: Path) -> list[str]:
    """Return the references that are in the folder of pictures."""
    assets = folder / "assets"
    names = [str(path.relative_to(assets)) for path in assets.rglob("*") if path.is_file()]
    return [name for name in names if is_reference(name)]


async def until_kept(folder: Path, count: int) -> None:
    """Wait until there are so many."""
    async with asyncio.timeout(20):
        while len(kept(folder)) != count:  # noqa: ASYNC110 - files set no event
            await asyncio.sleep(0.05)


async def test_it_is_there_for_as_long_as_its_task_runs(running: Running, tmp_path: Path) -> None:
    """A call that is attached to the task, and one of the same bytes, leave it alone."""
    slow = {"prefer": "respond-async", "idempotency_key": "one"}
    first = await edit(running.client, "slowly [[latency:60]]", **slow)
    during = kept(tmp_path)
    again = await edit(running.client, "slowly [[latency:60]]", **slow)
    other = await edit(running.client)
    await until_kept(tmp_path, 1)

    assert during == kept(tmp_path)
    assert [first.json()["id"], 200] == [again.json()["id"], other.status_code]
    assert 2 == (await running.simulated())["submits"]


async def test_a_call_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    """Over budget: nothing is held, nothing is ordered, and nothing is kept."""
    async with running_gateway(tmp_path, simulator=AT_ONCE, budget="0.001") as running:
        answer = await edit(running.client)
        await until_kept(tmp_path, 0)
        submits = (await running.simulated())["submits"]

    assert (429, "insufficient_quota") == (answer.status_code, answer.json()["error"]["code"])
    assert 0 == submits


async def test_nothing_is_known_of_it_once_its_task_is_deleted(
    running: Running, tmp_path: Path
) -> None:
    """Neither its bytes, nor that there was such a picture, nor a link to it at the upstream."""
    answer = await edit(running.client)
    await running.gateway.shelf.flush()
    before = await naming(running.gateway.store, DIGEST)
    deleted = await running.client.delete(f"/v1/images/tasks/{answer.headers['x-gateway-task-id']}")
    after = await naming(running.gateway.store, DIGEST)

    assert (200, 200) == (answer.status_code, deleted.status_code)
    assert ["task", "upload"] == sorted(key.split(":")[2] for key in before)
    assert [] == after
    files = [path.name for path in (tmp_path / "assets").rglob("*") if path.is_file()]
    assert all(name.startswith(".") for name in files)


async def naming(store: Store, text: str) -> list[str]:
    """Return the keys of the team that hold a text, or have it in their name."""
    keys = await store.command("KEYS", "{t:design}:*")
    assert isinstance(keys, list)
    found = []
    for key in keys:
        assert isinstance(key, bytes)
        read = {b"hash": "HGETALL", b"string": "GET"}.get(await store.command("TYPE", key))  # type: ignore[call-overload]
        value = await store.command(read, key) if read else None
        if text in f"{key.decode()} {value}":
            found.append(key.decode())
    return found


async def test_a_short_keep_takes_it_from_no_order(tmp_path: Path) -> None:
    """A team may keep pictures for a minute: what they are to be made from waits for longer."""
    async with running_gateway(
        tmp_path, simulator=AT_ONCE, team='keep = "1m"', server='deadline = "10m"'
    ) as running:
        keep_ms = await running.gateway.in_force.read_keep()

    assert 60_000 == keep_ms("design/imgtask_1/0")
    assert 600_000 + REFERENCE_MS == keep_ms("design/references/call/0a")


async def test_what_a_killed_gateway_kept_for_no_task_is_swept(
    valkey_process: ValkeyProcess, store: Store, tmp_path: Path
) -> None:
    """Killed between keeping and admission: the retry makes one picture, a later sweep the rest."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(AT_ONCE))
        config = write_config(tmp_path, upstream, redis=f'url = "{valkey_process.url}"')
        first = await stack.enter_async_context(
            serving_gateway(config, **{FAULT_ENV: "kill:asked"})
        )
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        client.headers["authorization"] = f"Bearer {TEAM_KEY}"
        client.base_url = httpx.URL(first.url.removesuffix("/v1"))
        with pytest.raises(httpx.TransportError):
            await edit(client, x_stainless_retry_count="0")
        [left] = kept(tmp_path)
        long_ago_s = (SystemClock().now_ms() - REFERENCE_MS) / 1000 - 660
        os.utime(tmp_path / "assets" / left, (long_ago_s, long_ago_s))
        second = await stack.enter_async_context(serving_gateway(config))
        client.base_url = httpx.URL(second.url.removesuffix("/v1"))
        answer = await edit(client, x_stainless_retry_count="1")
        await until_kept(tmp_path, 0)
        submits = (await client.get(f"{upstream}/_sim/stats")).json()["submits"]

    assert (200, 1) == (answer.status_code, submits)
    assert [] == await naming(store, left.split("/")[2])
