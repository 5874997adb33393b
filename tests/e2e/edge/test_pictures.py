"""A picture that was made here is edited by its link, whatever surface it is named on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway

QUICK = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7, plain_pictures=True)


async def edit(running: Running, link: str) -> httpx.Response:
    """Edit what a link leads to, as OpenAI's clients do."""
    body = {"model": "gpt-image-1.5", "prompt": "red", "quality": "low"}
    return await running.client.post(
        "/v1/images/edits", json=body | {"images": [{"image_url": link}]}
    )


async def create(running: Running, *links: str) -> httpx.Response:
    """Make a picture, or edit pictures, as EvoLink's clients do."""
    body = {"model": "gpt-image-1.5", "prompt": "a fox", "quality": "low", "image_urls": [*links]}
    return await running.client.post("/evolink/v1/images/generations", json=body)


async def finished(running: Running, created: httpx.Response) -> dict:
    """Poll a task until it is over."""
    assert created.status_code == 200, created.text
    async with asyncio.timeout(15):
        while True:
            told = (await running.client.get(f"/evolink/v1/tasks/{created.json()['id']}")).json()
            if told["status"] in ("completed", "failed"):
                return told
            await asyncio.sleep(0.05)


async def test_a_result_is_edited_by_its_link(tmp_path: Path) -> None:
    """It leads to this very server, which is nowhere that it would fetch from."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        first = await finished(running, await create(running))
        [link] = first["results"]
        again = await finished(running, await create(running, link))
        edited = await edit(running, link)
        stats = await running.simulated()

    assert ["completed"] * 2 == [first["status"], again["status"]]
    assert 1536 == again["usage"]["image_input_tokens"]
    assert 1536 == edited.json()["usage"]["input_tokens_details"]["image_tokens"]
    # The same bytes of a team go up once.
    assert (3, 1, 2) == (stats["submits"], stats["files"], stats["references_read"])


async def test_a_link_that_opens_nothing(tmp_path: Path) -> None:
    """Another signature makes it a link to a private address, a deleted picture one to nothing."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        made = await create(running)
        [link] = (await finished(running, made))["results"]
        forged = await edit(running, link.replace(".png", "x.png"))
        task = made.headers["x-gateway-task-id"]
        deleted = await running.client.delete(f"/v1/images/tasks/{task}")
        gone = await edit(running, link)
        stats = await running.simulated()

    told = [each.json()["error"] for each in (forged, gone)]
    assert ["images[0].image_url"] * 2 == [each["param"] for each in told]
    assert 200 == deleted.status_code
    assert "no longer kept" not in told[0]["message"]
    assert "no longer kept" in told[1]["message"]
    assert 1 == stats["submits"]
