"""Edits on EvoLink's own surface: a create with `image_urls`, as its clients write it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway
from tests.support.sockets import RawServer, answer, raw_server
from tests.support.uploads import a_picture

QUICK = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7, plain_pictures=True)
MODEL_2 = '[models."gpt-image-2"]\nroutes = ["evolink"]'
PNG = a_picture()


def data_url(content: bytes = PNG) -> str:
    """Return a picture as text."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


class Client:
    """Creates edits and polls them."""

    def __init__(self, running: Running) -> None:
        self._client = running.client

    async def create(
        self, headers: dict[str, str] | None = None, **fields: object
    ) -> httpx.Response:
        """Ask for a low square."""
        body = {"model": "gpt-image-1.5", "prompt": "make it blue", "size": "1:1", "quality": "low"}
        path = "/evolink/v1/images/generations"
        return await self._client.post(path, json=body | fields, headers=headers or {})

    async def finished(self, created: httpx.Response) -> dict:
        """Poll a task until it is over."""
        assert created.status_code == 200, created.text
        async with asyncio.timeout(15):
            while True:
                told = (await self._client.get(f"/evolink/v1/tasks/{created.json()['id']}")).json()
                if told["status"] in ("completed", "failed"):
                    return told
                await asyncio.sleep(0.05)


def refusal(answered: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and param."""
    error = answered.json()["error"]
    return answered.status_code, error["code"], error["param"]


@pytest.fixture
async def pictures() -> AsyncIterator[RawServer]:
    """Serve a picture from an address that the gateway is allowed to fetch from."""
    async with raw_server(answer(200, PNG, {"content-type": "image/png"})) as server:
        yield server


@pytest.fixture
async def running(tmp_path: Path, pictures: RawServer) -> AsyncIterator[Running]:
    """Serve with two models, one of which takes masks."""
    allow = f'[references]\nallow = ["{pictures.host}"]'
    async with running_gateway(tmp_path, simulator=QUICK, sections=f"{MODEL_2}\n{allow}") as served:
        yield served


async def test_a_create_with_references_is_an_edit(running: Running, pictures: RawServer) -> None:
    """Links and data URLs are edited, priced as references, paid for once, and told of."""
    client = Client(running)
    link = f"{pictures.url}/a.png"
    done = await client.finished(
        await client.create(image_urls=[link, data_url(a_picture("WEBP"))])
    )
    [listed] = (await running.client.get("/v1/images/tasks")).json()["data"]
    stats, (spent, held) = await running.simulated(), await running.budget()

    assert "completed" == done["status"]
    assert 2 * 1536 == done["usage"]["image_input_tokens"]
    assert "edit" == listed["operation"]
    assert (1, 2, 2) == (stats["submits"], stats["files"], stats["references_read"])
    assert (stats["cost_microusd"], 0) == (spent, held)


async def test_masks(running: Running) -> None:
    """Taken where the model takes them, with the texts of EvoLink's documents where it does not."""
    client = Client(running)
    on_2 = {"model": "gpt-image-2", "image_urls": [data_url()]}
    mask = data_url(a_picture(alpha=True))
    done = await client.finished(await client.create(**on_2, mask_url=mask))
    ignored = await client.finished(await client.create(model="gpt-image-2", mask_url=mask))
    refused = [
        await client.create(**on_2, mask_url=data_url()),
        await client.create(**on_2, mask_url=data_url(a_picture(alpha=True, size=(32, 32)))),
        await client.create(image_urls=[data_url()], mask_url=mask),
    ]

    assert ["completed"] * 2 == [done["status"], ignored["status"]]
    assert (400, "image_processing_error", "mask_url") == refusal(refused[0])
    assert "missing alpha channel" in refused[0].json()["error"]["message"]
    assert "does not match image size" in refused[1].json()["error"]["message"]
    assert (400, "invalid_request", "mask_url") == refusal(refused[2])
    assert 2 == (await running.simulated())["submits"]


async def test_its_end_is_told(tmp_path: Path, pictures: RawServer) -> None:
    """The callback of an edit says what a query for it is answered."""
    async with raw_server(answer(204, b"")) as receiver:
        allow = (
            f'[references]\nallow = ["{pictures.host}"]\n[callbacks]\nallow = ["{receiver.host}"]'
        )
        async with running_gateway(tmp_path, simulator=QUICK, sections=allow) as running:
            created = await Client(running).create(
                image_urls=[f"{pictures.url}/a.png"], callback_url=f"{receiver.url}/hook"
            )
            async with asyncio.timeout(60):
                await receiver.asked.wait()
    [told] = receiver.requests
    body = json.loads(told.body)

    assert (created.json()["id"], "completed") == (body["id"], body["status"])
    assert 1536 == body["usage"]["image_input_tokens"]


async def test_what_is_no_reference(running: Running, pictures: RawServer) -> None:
    """Told with its place before anything is held; what is private is never connected to."""
    client = Client(running)
    refused = [
        await client.create(image_urls=[f"{pictures.url}/a.png", bad])
        for bad in (
            *("http://10.0.0.1/a.png", "http://169.254.169.254/latest", "http://localhost/a"),
            *("ftp://x/a.png", "data:image/png;base64,%", data_url(b"hello"), ""),
        )
    ]
    long = await client.create(prompt="x" * 600_000, image_urls=[data_url()])

    assert ["image_urls[1]"] * 7 == [refusal(each)[2] for each in refused]
    assert {400} == {each.status_code for each in refused}
    assert (400, "invalid_request", "prompt") == refusal(long)
    assert 0 == (await running.simulated())["submits"]
    assert (0, 0) == await running.budget()


async def test_links_that_are_handed_on(tmp_path: Path, pictures: RawServer) -> None:
    """Where the provider fetches by itself nothing is fetched here, but what is kept here."""
    async with running_gateway(
        tmp_path,
        simulator=QUICK,
        provider='image_urls = "pass"',
        sections=f'[references]\nallow = ["{pictures.host}"]',
    ) as running:
        client = Client(running)
        done = await client.finished(await client.create(image_urls=[f"{pictures.url}/a.png"]))
        again = await client.finished(await client.create(image_urls=done["results"]))
        private = await client.create(image_urls=["http://10.0.0.1/a.png"])
        stats = await running.simulated()

    assert ["completed"] * 2 == [done["status"], again["status"]]
    assert (400, "image_processing_error", "image_urls[0]") == refusal(private)
    assert (2, 1, 2) == (stats["submits"], stats["files"], stats["references_read"])
    # By the simulator.
    assert 1 == len(pictures.requests)


async def test_the_same_key_is_the_same_edit(running: Running, pictures: RawServer) -> None:
    """By what links are and data URLs hold, not by how the body is written."""
    client = Client(running)
    key = {"Idempotency-Key": "run_0123456789abcdef"}
    named = [f"{pictures.url}/a.png", data_url()]
    first = await client.create(key, image_urls=named)
    again = await client.create(key, image_urls=[named[0], named[1].replace("png;", "png;x=y;", 1)])
    other = await client.create(key, image_urls=[named[0], data_url(a_picture(shade=9))])
    await client.finished(first)

    assert first.json()["id"] == again.json()["id"]
    assert "true" == again.headers["idempotency-replayed"]
    assert (409, "idempotency_conflict") == (
        other.status_code,
        other.json()["error"]["code"],
    )
    assert 1 == (await running.simulated())["submits"]
