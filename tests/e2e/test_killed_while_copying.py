"""A replica is killed, or a link breaks, while a picture is copied: it is delivered, and once."""

from __future__ import annotations

import asyncio
import base64
import io
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from PIL import Image

from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import (
    running_gateway,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.valkey import ValkeyProcess

AT_ONCE = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)


def size_of(answer: httpx.Response) -> tuple[int, int]:
    """Return the size of an answer's picture, all of which is looked at."""
    assert answer.status_code == 200, answer.text
    content = base64.b64decode(answer.json()["data"][0]["b64_json"], validate=True)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        return picture.size


def files(folder: Path) -> list[str]:
    """Return the names of what is stored, without what shows that the store works."""
    return [
        path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    ]


async def spent_and_submitted(store: Store, upstream: str) -> tuple[int, int, int]:
    """Return what is spent, what is held, and how often the upstream was asked for a picture."""
    [key] = await store.command("KEYS", "{t:design}:budget:team:*")  # type: ignore[misc]
    reply = await store.command("HMGET", key, "spent", "held")
    assert isinstance(reply, list)
    spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
    async with httpx.AsyncClient() as client:
        stats = (await client.get(f"{upstream}/_sim/stats")).json()
    return spent, held, int(stats["submits"])


async def test_a_replica_killed_in_the_middle_of_a_copy_loses_nothing(
    valkey_process: ValkeyProcess, store: Store, tmp_path: Path
) -> None:
    """The other one copies the picture again; nothing of the first copy stays behind."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(AT_ONCE))
        config = write_config(
            tmp_path,
            upstream,
            redis=f'url = "{valkey_process.url}"',
            server='lease = "1s"',
            wait="30s",
        )
        first = await stack.enter_async_context(serving_gateway(config))
        second = await stack.enter_async_context(serving_gateway(config))
        prompt = "a fox [[result:slow:3]]"
        async with asyncio.TaskGroup() as group:
            lost = group.create_task(_lost(first.picture(prompt, x_stainless_retry_count="0")))
            await _until_settled(store)
            # It is settled and takes three seconds to arrive.
            await asyncio.sleep(0.5)
            first.process.kill()
        answer = await second.picture(prompt, x_stainless_retry_count="1")
        spent, held, submits = await spent_and_submitted(store, upstream)

    assert lost.result()
    assert (1024, 1024) == size_of(answer)
    assert (True, 0, 1) == (spent > 0, held, submits)
    assert ["0"] == files(tmp_path / "assets")


async def _lost(call: object) -> bool:
    try:
        await call  # type: ignore[misc]
    except httpx.TransportError:
        return True
    return False


async def _until_settled(store: Store) -> None:
    async with asyncio.timeout(20):
        while True:
            keys = await store.command("KEYS", "{t:design}:task:*")
            if keys and await store.command("HEXISTS", keys[0], "ended_ms"):  # type: ignore[index, arg-type]
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("fields", [{}, {"output_format": "jpeg"}])
async def test_a_link_that_breaks_off_again_and_again_ends_in_the_whole_picture(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    """Each answer brings the half of what is missing; one submission, one charge."""
    async with running_gateway(tmp_path, simulator=AT_ONCE) as running:
        answer = await running.generate("a fox [[result:cut*2]]", **fields)
        submits, money = (await running.simulated())["submits"], await running.budget()

    assert (1024, 1024) == size_of(answer)
    assert (1, 0) == (submits, money[1])
    assert ["0"] == files(tmp_path / "assets")


async def test_a_picture_whose_file_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    """The host sends half of it as if it were all; what is delivered and kept is the whole."""
    async with running_gateway(tmp_path, simulator=AT_ONCE) as running:
        answer = await running.generate("a fox [[result:truncated*2]]")
        submits, money = (await running.simulated())["submits"], await running.budget()
        figures = await running.metrics()

    assert (1024, 1024) == size_of(answer)
    assert (1, 0) == (submits, money[1])
    assert 0 == figures['gateway_pictures_cut_total{provider="evolink"}']
    assert ["0"] == files(tmp_path / "assets")


async def test_a_link_that_dies_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The upstream charged it: so does the answer say, and no half of a picture is kept."""
    async with running_gateway(tmp_path, simulator=AT_ONCE) as running:
        answer = await running.generate("a fox [[result:404]]")
        money = await running.budget()

    assert (502, "false") == (answer.status_code, answer.headers["x-should-retry"])
    assert (True, 0) == (money[0] > 0, money[1])
    assert [] == files(tmp_path / "assets")
