"""The store of pictures is down or full: whoever has paid for a picture gets it, and once."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
from PIL import Image

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import ENVIRON, Running, running_gateway
from tests.support.outage import in_front_of
from tests.support.seaweed import ENVIRON as S3_ENVIRON
from tests.support.seaweed import Seaweed
from tests.support.uploads import a_picture

AT_ONCE = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
COST_MICROUSD = 7_852
AN_EDIT = {
    "model": "gpt-image-1.5",
    "prompt": "make it blue",
    "quality": "low",
    "images": [{"image_url": f"data:image/png;base64,{base64.b64encode(a_picture()).decode()}"}],
}


def picture_of(answer: httpx.Response) -> bytes:
    """Return the picture of an answer."""
    assert answer.status_code == 200, answer.text
    content = base64.b64decode(answer.json()["data"][0]["b64_json"], validate=True)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert (1024, 1024) == picture.size
    return content


async def task_of(
    running: Running, answer: httpx.Response, *, within_s: float = 20.0
) -> httpx.Response:
    """Return the task of an answer once its picture is in the store."""
    task = f"/v1/images/tasks/{answer.headers['x-gateway-task-id']}"
    async with asyncio.timeout(within_s):
        while True:
            await running.gateway.shelf.flush()
            shown = await running.client.get(task)
            if shown.json()["status"] == "completed":
                return shown
            await asyncio.sleep(0.1)


def broken(folder: Path) -> Callable[[], None]:
    """Put a file where the folder of pictures is; return what puts the folder back."""
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"")

    def mend() -> None:
        folder.unlink()
        folder.with_name("away").rename(folder)

    return mend


@pytest.mark.parametrize("fields", [{}, {"output_format": "webp", "output_compression": 60}])
async def test_a_picture_that_cannot_be_stored_comes_from_its_link(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    """It is answered at once and stored when the store is back: one submission, one charge."""
    async with running_gateway(tmp_path, simulator=AT_ONCE) as running:
        mend = broken(tmp_path / "assets")
        answer = await running.generate(**fields)
        meanwhile = await running.metrics()
        mend()
        task = await task_of(running, answer)
        submits, money = (await running.simulated())["submits"], await running.budget()
        afterwards = await running.metrics()

    content = picture_of(answer)
    assert content == picture_of(task)
    assert fields.get("output_format", "png") == answer.json()["output_format"]
    assert (1, (COST_MICROUSD, 0)) == (submits, money)
    assert meanwhile["gateway_assets_waiting"] == 1
    assert afterwards["gateway_assets_waiting"] == 0
    failed = 'gateway_assets_errors_total{operation="write",reason="unavailable"}'
    assert afterwards[failed] >= 1


async def test_a_full_disk_is_a_metric_and_no_lost_picture(tmp_path: Path) -> None:
    """Too little room is left: the picture is answered from its link, and readiness stays."""
    assets = 'url = "file:assets"\nmin_free = "900000000GiB"'
    async with running_gateway(tmp_path, simulator=AT_ONCE, assets=assets) as running:
        answer = await running.generate()
        figures, ready = await running.metrics(), await running.client.get("/readyz")

    picture_of(answer)
    assert figures["gateway_assets_full"] == 1
    assert figures['gateway_assets_errors_total{operation="write",reason="full"}'] >= 1
    assert figures["gateway_assets_free_bytes"] > 0
    assert ready.status_code == 200


async def test_a_store_far_away_that_answers_503_loses_nothing(
    seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is down pictures come from their links, stored ones too; then they are stored."""
    for name, value in S3_ENVIRON.items():
        monkeypatch.setitem(ENVIRON, name, value)
    port = httpx.URL(seaweed.endpoint).port or 0
    async with in_front_of(port) as outage:
        assets = seaweed.settings().replace(seaweed.endpoint, outage.url)
        async with running_gateway(tmp_path, simulator=AT_ONCE, assets=assets) as running:
            before = await running.generate("before it went down")
            outage.is_down = True
            during = await running.generate("while it is down")
            fetched = await running.client.get(
                f"/v1/images/tasks/{before.headers['x-gateway-task-id']}"
            )
            outage.is_down = False
            task = await task_of(running, during)

    assert outage.refused > 0
    assert picture_of(during) == picture_of(task)
    assert picture_of(before) == picture_of(fetched)


@pytest.mark.parametrize(
    "outage_s",
    [
        pytest.param(3.0, id="seconds"),
        pytest.param(60.0, id="a minute", marks=[pytest.mark.stall, pytest.mark.timeout(300)]),
    ],
)
async def test_nothing_is_lost_while_it_answers_503(
    seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outage_s: float
) -> None:
    """Every call meanwhile has its picture, converted or not, and has it stored afterwards.

    To the byte, for one submission and one charge each. An edit cannot be kept, and is not begun:
    the try after the outage makes it.
    """
    for name, value in S3_ENVIRON.items():
        monkeypatch.setitem(ENVIRON, name, value)
    kinds: list[dict[str, object]] = [{}, {"output_format": "webp", "output_compression": 60}] * 2
    async with in_front_of(httpx.URL(seaweed.endpoint).port or 0) as outage:
        assets = seaweed.settings().replace(seaweed.endpoint, outage.url)
        async with running_gateway(tmp_path, simulator=AT_ONCE, assets=assets) as running:
            outage.is_down, until_s = True, time.monotonic() + outage_s
            answers: list[httpx.Response] = []
            while time.monotonic() < until_s:
                answers += await asyncio.gather(
                    *(running.generate(f"{until_s} {len(answers)}", **fields) for fields in kinds)
                )
                await asyncio.sleep(outage_s / 60)
            edit = partial(running.client.post, "/v1/images/edits", json=AN_EDIT)
            refused, unstored = await edit(), await running.metrics()
            outage.is_down = False
            edited = await edit(headers={"x-stainless-retry-count": "1"})
            # The longest pause between two tries to store a picture is half a minute.
            tasks = [await task_of(running, answer, within_s=45.0) for answer in answers]
            stats, money = await running.simulated(), await running.budget()

    assert [picture_of(answer) for answer in answers] == [picture_of(task) for task in tasks]
    assert len(answers) >= len(kinds)
    assert unstored["gateway_assets_waiting"] == len(answers)
    assert (503, "storage_unavailable") == (refused.status_code, refused.json()["error"]["code"])
    assert 200 == edited.status_code
    assert stats["submits"] == len(answers) + 1
    assert (stats["cost_microusd"], 0) == money


async def test_a_stream_of_events_has_its_picture_from_the_link(tmp_path: Path) -> None:
    """Whoever asked for events does not wait for the store either."""
    async with running_gateway(tmp_path, simulator=AT_ONCE) as running:
        mend = broken(tmp_path / "assets")
        answer = await running.generate(stream=True)
        mend()

    [completed] = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    event = json.loads(completed.removeprefix("data: "))
    assert "image_generation.completed" == event["type"]
    with Image.open(io.BytesIO(base64.b64decode(event["b64_json"], validate=True))) as picture:
        picture.load()
