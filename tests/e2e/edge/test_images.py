from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI, AuthenticationError, BadRequestError, PermissionDeniedError
from PIL import Image

from gateway.assets.straight import StraightAssets
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import OTHER_KEY, TEAM_KEY, Running, running_gateway


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Serve the product with an upstream that answers at once."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=settings) as served:
        yield served


@pytest.mark.parametrize(
    ("fields", "magic"),
    [
        ({"output_format": "webp", "output_compression": 50}, b"RIFF"),
        ({"output_format": "jpeg", "output_compression": 80}, b"\xff\xd8\xff"),
    ],
)
async def test_the_format_that_was_asked_for_is_answered(
    running: Running, fields: dict[str, object], magic: bytes
) -> None:
    """The upstream makes png: what is answered, stored and linked is what was asked for."""
    answer = await running.generate(**fields)
    await running.gateway.shelf.flush()
    task = await running.client.get(f"/v1/images/tasks/{answer.headers['x-gateway-task-id']}")
    linked = await running.client.get(task.json()["data"][0]["url"])

    body = answer.json()
    content = base64.b64decode(body["data"][0]["b64_json"], validate=True)
    assert content.startswith(magic)
    assert (linked.content, linked.headers["content-type"]) == (
        content,
        f"image/{fields['output_format']}",
    )
    assert fields["output_format"] == body["output_format"] == task.json()["output_format"]
    with Image.open(io.BytesIO(content)) as picture:
        assert (1024, 1024) == picture.size


async def test_answer_has_every_field_and_header(running: Running) -> None:
    """The body is OpenAI's, byte-counted; the headers tell task, provider, cost and the rest."""
    answer = await running.generate(size="auto", quality="auto", safety_identifier="u-1")

    body = answer.json()
    assert [
        "created",
        "background",
        "data",
        "output_format",
        "quality",
        "size",
        "safety_identifier",
        "usage",
    ] == list(body)
    assert ("medium", "1024x1024", "u-1") == (
        body["quality"],
        body["size"],
        body["safety_identifier"],
    )
    assert [["b64_json"]] == [list(picture) for picture in body["data"]]
    assert base64.b64decode(body["data"][0]["b64_json"], validate=True).startswith(b"\x89PNG")
    assert {
        "input_tokens": 4,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 4},
        "output_tokens": 1056,
        "output_tokens_details": {"image_tokens": 1056, "text_tokens": 0},
        "total_tokens": 1060,
    } == body["usage"]
    headers = answer.headers
    assert "application/json" == headers["content-type"]
    assert len(answer.content) == int(headers["content-length"])
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-gateway-task-id"].startswith("imgtask_")
    assert ("evolink", "0.030431", "4.969569") == (
        headers["x-gateway-provider"],
        headers["x-gateway-cost-usd"],
        headers["x-gateway-budget-remaining-usd"],
    )
    assert int(headers["openai-processing-ms"]) > 0


@pytest.mark.parametrize(
    ("key", "code", "words"),
    [
        ("", None, "You didn't provide an API key"),
        ("Bearer", None, "You didn't provide an API key"),
        ("Basic abc", None, "You didn't provide an API key"),
        (
            "Bearer sk-wrong-0123456789abcdef",
            "invalid_api_key",
            "Incorrect API key provided: sk-wron****cdef.",
        ),
        ("Bearer short", "invalid_api_key", "Incorrect API key provided: ****."),
    ],
)
async def test_calls_without_a_known_key_are_refused(
    running: Running, key: str, code: str | None, words: str
) -> None:
    """The refusal is OpenAI's and shows no whole key."""
    async with httpx.AsyncClient(base_url=running.url) as client:
        answer = await client.post(
            "/v1/images/generations", json={}, headers={"Authorization": key} if key else {}
        )

    error = answer.json()["error"]
    assert (401, "invalid_request_error", None, code) == (
        answer.status_code,
        error["type"],
        error["param"],
        error["code"],
    )
    assert error["message"].startswith(words)


async def test_stock_sdk_raises_its_own_exceptions(running: Running) -> None:
    """Each refusal is the SDK's class for it, with code and param readable."""
    url = f"{running.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="sk-wrong-0123456789abcdef") as client:
        with pytest.raises(AuthenticationError) as unknown_key:
            await client.images.generate(model="gpt-image-1.5", prompt="a fox")
    async with AsyncOpenAI(base_url=url, api_key=OTHER_KEY) as client:
        with pytest.raises(PermissionDeniedError) as other_model:
            await client.images.generate(model="gpt-image-1.5", prompt="a fox")
    async with AsyncOpenAI(base_url=url, api_key=TEAM_KEY) as client:
        with pytest.raises(BadRequestError) as dead_model:
            await client.images.generate(model="dall-e-3", prompt="a fox")
        models = [model.id async for model in client.models.list()]
        model = await client.models.retrieve("gpt-image-1.5")

    assert "invalid_api_key" == unknown_key.value.code
    assert "permission_denied" == other_model.value.code
    assert ("invalid_value", "model") == (dead_model.value.code, dead_model.value.param)
    assert ["gpt-image-1.5"] == models
    assert ("gpt-image-1.5", "model", "system") == (model.id, model.object, model.owned_by)
    assert 0 == (await running.simulated())["submits"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, None),
        (b"\xff\xfe", None, None),
        (b"[]", None, "invalid_type"),
        (b"{}", "model", "missing_required_parameter"),
        (b'{"model":"gpt-image-1.5"}', "prompt", "missing_required_parameter"),
        (b'{"model":"gpt-image-1.5","prompt":"","n":0}', "prompt", "empty_string"),
        (b'{"model":"gpt-image-1.5","bogus":1,"n":0}', "bogus", "unknown_parameter"),
        (b'{"model":"gpt-image-1.5","prompt":"x","n":11}', "n", "integer_above_max_value"),
        (b'{"model":"gpt-image-1.5","prompt":"x","size":"9x9"}', "size", "invalid_value"),
    ],
)
async def test_bad_bodies_cost_nothing(
    running: Running, body: bytes, param: str | None, code: str | None
) -> None:
    """Every fault is a 400 in OpenAI's envelope, and the upstream hears nothing."""
    answer = await running.client.post("/v1/images/generations", content=body)

    error = answer.json()["error"]
    assert (400, param, code) == (answer.status_code, error["param"], error["code"])
    assert 0 == (await running.simulated())["submits"]
    assert (0, 0) == await running.budget()


async def test_body_too_large_is_refused_in_the_envelope(running: Running) -> None:
    """Five megabytes are too many, whether announced or found out on the way."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (1 << 20)

    announced = await running.client.post("/v1/images/generations", content=b" " * (5 << 20))
    counted = await running.client.post("/v1/images/generations", content=chunks())

    for answer in (announced, counted):
        assert (413, "request_too_large") == (answer.status_code, answer.json()["error"]["code"])
        assert answer.headers["x-request-id"].startswith("req_")


async def test_chunked_and_pretty_printed_bodies_are_read(running: Running) -> None:
    """A body in pieces, or indented as old SDKs write it, is the same call."""
    call = {"model": "gpt-image-1.5", "prompt": "a fox", "quality": "low", "n": None}
    pretty = json.dumps(call, indent=2).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(pretty), 7):
            yield pretty[start : start + 7]

    answer = await running.client.post("/v1/images/generations", content=chunks())

    assert 200 == answer.status_code


async def test_unknown_paths_and_verbs_answer_in_the_envelope(running: Running) -> None:
    """A wrong base URL is told how to be right, and two slashes are one."""
    wrong = await running.client.post("/images/generations", json={})
    verb = await running.client.get("/v1/images/generations")
    slashes = await running.client.get(f"{running.url}//v1//models")
    nowhere = await running.client.get("/v1/models/no/such")

    assert (404, "unknown_url") == (wrong.status_code, wrong.json()["error"]["code"])
    assert "/v1" in wrong.json()["error"]["message"]
    assert (405, "method_not_allowed") == (verb.status_code, verb.json()["error"]["code"])
    assert 200 == slashes.status_code
    assert (404, "model_not_found") == (nowhere.status_code, nowhere.json()["error"]["code"])


async def test_a_picture_that_left_the_store_is_an_error_and_not_a_torn_answer(
    running: Running, tmp_path: Path
) -> None:
    """When neither the stored file nor its link can be read the client gets a whole error."""
    store = running.gateway.assets
    assert isinstance(store, StraightAssets)
    original, sources = store.read, store._sources

    def vanish(key: str, *, chunk_bytes: int) -> object:
        (tmp_path / "assets" / key).unlink()
        sources.clear()
        return original(key, chunk_bytes=chunk_bytes)

    store.read = vanish  # type: ignore[method-assign, assignment]
    answer = await running.generate()

    assert (500, "server_error") == (answer.status_code, answer.json()["error"]["type"])


async def test_ten_calls_at_once_are_ten_pictures(running: Running) -> None:
    """Parallel identical calls stay separate, each with its task and its charge."""
    answers = await asyncio.gather(*(running.generate() for _ in range(10)))

    assert 10 == len({answer.headers["x-gateway-task-id"] for answer in answers})
    assert (10 * 7_852, 0) == await running.budget()


async def test_links_in_place_of_pictures(running: Running) -> None:
    """Each opens its picture to whoever has it, from the address that the caller used."""
    answer = await running.generate(n=2, response_format="url")
    task = f"/v1/images/tasks/{answer.headers['x-gateway-task-id']}"
    async with asyncio.timeout(60):
        # Stored pictures are noted a moment later.
        while not (shown := (await running.client.get(task)).json()["data"]):  # noqa: ASYNC110 - the store sets no event
            await asyncio.sleep(0.05)

    assert len(answer.content) == int(answer.headers["content-length"])
    data = answer.json()["data"]
    assert [["url"], ["url"]] == [list(picture) for picture in data]
    async with httpx.AsyncClient() as stranger:
        pictures = [(await stranger.get(picture["url"])).content for picture in data]
    assert all(picture["url"].startswith(f"{running.url}/v1/assets/") for picture in data)
    assert 2 == len(set(pictures))
    assert pictures == [base64.b64decode(picture["b64_json"]) for picture in shown]


async def test_links_lead_to_the_public_address(tmp_path: Path) -> None:
    """Where one is configured, whatever the caller has called."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    server = 'public_url = "https://pictures.example"'
    async with running_gateway(tmp_path, simulator=settings, server=server) as running:
        [picture] = (await running.generate(response_format="url")).json()["data"]

    assert picture["url"].startswith("https://pictures.example/v1/assets/")
