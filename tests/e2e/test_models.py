"""Every model of the catalogue, made by the product: pixels, bills, refusals, and an end."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from PIL import Image

from gateway.background import SystemClock
from gateway.config.catalog import packaged
from gateway.domain.sizes import tiers_of
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODELS = packaged().models

#: Those that make pictures from words; the others are made from pictures.
GENERATING = [
    name
    for name, row in MODELS.items()
    if any("generation" in offer.operations for offer in row.offers)
]

#: All of them routed; the first one is by the settings of every test.
OFFERED = "\n".join(f'[models."{name}"]\nroutes = ["evolink"]' for name in [*MODELS][1:])


def _sizes(name: str) -> list[str]:
    """Return the default, and the widest of the usual sizes that have a name."""
    row = MODELS[name]
    rule = row.offers[0].size_rule()
    named = [each.size for each in rule.named if each.tier == tiers_of(rule)[0]]
    wide = max(named or [row.default_size], key=lambda size: size.width / size.height)
    return list(dict.fromkeys(map(str, (row.default_size, wide))))


CASES = [(name, size) for name in GENERATING for size in _sizes(name)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Serve every model with an upstream that answers at once."""
    async with running_gateway(
        tmp_path_factory.mktemp("models"),
        simulator=SimulatorSettings(
            latency_median_s=0.0, latency_sigma=0.0, seed=7, plain_pictures=True
        ),
        sections=OFFERED,
        budget="1000",
        team_models="*",
    ) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(running: Running) -> Mapping[tuple[str, str], httpx.Response]:
    """Make a picture of each model and size, many at a time.

    The upstream is to refuse what its model does not know.
    """
    few = asyncio.Semaphore(16)

    async def make(name: str, size: str) -> httpx.Response:
        async with few:
            prompt = f"a small red fox [[rules:no-unknown]] [[label:{name} {size}]]"
            return await running.generate(prompt, model=name, size=size, quality="auto")

    answers = await asyncio.gather(*(make(name, size) for name, size in CASES))
    return dict(zip(CASES, answers, strict=True))


async def _billed(running: Running, label: str) -> list[int]:
    """Return the micro-dollars that the upstream billed for the tasks of a label."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{running.upstream}/_sim/tasks", params={"label": label})
    return [task["cost_microusd"] for task in answer.json()["tasks"]]


@pytest.mark.parametrize(("name", "size"), CASES)
async def test_every_model_makes_what_is_asked_for_and_bills_what_it_costs(
    running: Running, made: Mapping[tuple[str, str], httpx.Response], name: str, size: str
) -> None:
    """The pixels are those asked for, and both sides' books agree to the micro-dollar."""
    answer = made[name, size]

    assert 200 == answer.status_code, answer.text
    told = answer.json()
    picture = Image.open(io.BytesIO(base64.b64decode(told["data"][0]["b64_json"])))
    assert (size, size) == (f"{picture.width}x{picture.height}", told["size"])
    cost_microusd = round(float(answer.headers["x-gateway-cost-usd"]) * 1_000_000)
    assert [cost_microusd] == await _billed(running, f"{name} {size}")
    assert cost_microusd > 0


async def test_the_budget_is_what_the_upstream_billed_in_all(
    running: Running, made: Mapping[tuple[str, str], httpx.Response]
) -> None:
    """Nothing is held any more, and no model is above or below its bill."""
    billed = [await _billed(running, f"{name} {size}") for name, size in made]

    assert (sum(map(sum, billed)), 0) == await running.budget()
    drift = (await running.metrics())['gateway_billing_drift_usd_total{provider="evolink"}']
    assert 0 == drift


def _house(name: str, retires: date) -> str:
    """Return a model of the settings that ends on a day."""
    return f"""
[models."{name}"]
routes = ["evolink"]
default_size = "1024x1024"
default_quality = "low"
successor = "gpt-image-1.5"
aliases = ["{name}-alias"]

[[models."{name}".offers]]
kind = "evolink"
operations = ["generation"]
upstream_model = "gpt-image-1"
retires = {retires.isoformat()}
sizes = ["1024x1024"]
qualities = ["low"]
prices = "evolink/gpt-image-1"
"""


async def test_a_model_that_ends(tmp_path: Path) -> None:
    """Its callers are warned, then sent on; the list of models has the day."""
    today = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).date()
    soon, past = today + timedelta(days=7), today - timedelta(days=1)
    sections = _house("gpt-image-soon", soon) + _house("gpt-image-gone", past)
    async with running_gateway(tmp_path, sections=sections) as running:
        warned = await running.generate(model="gpt-image-soon-alias", n=1)
        lasting = await running.generate()
        gone = await running.generate(model="gpt-image-gone")
        listed = (await running.client.get("/v1/models")).json()["data"]
        metrics = await running.metrics()

    assert (200, "gpt-image-1.5") == (warned.status_code, warned.headers["x-gateway-successor"])
    assert soon == parsedate_to_datetime(warned.headers["sunset"]).date()
    assert "sunset" not in lasting.headers
    error = gone.json()["error"]
    assert (400, "image_generation_user_error", "model", "invalid_value") == (
        *(gone.status_code, error["type"]),
        *(error["param"], error["code"]),
    )
    assert error["message"] == (
        "The model 'gpt-image-gone' does not exist. It has been shut down; use 'gpt-image-1.5'"
        " instead."
    )
    assert {"gpt-image-1.5": None, "gpt-image-soon": soon.isoformat()} == {
        model["id"]: model["shutdown_date"] for model in listed
    }
    left_s = metrics['gateway_model_retires_in_seconds{model="gpt-image-soon",provider="evolink"}']
    assert 5 < left_s / 86_400 <= 7


async def test_names_of_old_are_answered_as_they_were(tmp_path: Path) -> None:
    """Case 16: what LangChain sends for dall-e-2 comes back as the link that it reads.

    Open WebUI asks the same name for base64 and gets that; the model's own name is of today.
    """
    alias = 'aliases = ["dall-e-2", "house"]'
    langchain = {"prompt": "cats", "model": "dall-e-2", "n": 1, "size": "1024x1024"}
    async with running_gateway(tmp_path, model=alias) as running:

        async def asked(**fields: str) -> dict[str, Any]:
            answer = await running.client.post("/v1/images/generations", json=langchain | fields)
            [item] = answer.json()["data"]
            return dict(item)

        linked = await asked()
        fetched = await running.client.get(linked["url"])
        answers = [
            await asked(response_format="b64_json"),
            await asked(model="house"),
            await asked(model="gpt-image-1.5"),
        ]

    assert ["url"] == [*linked]
    assert (200, "image/png") == (fetched.status_code, fetched.headers["content-type"])
    assert [["b64_json"]] * 3 == [[*item] for item in answers]


async def test_a_background_that_is_left_out(running: Running) -> None:
    """The picture has alpha, and the answer says so."""
    answer = await running.generate(
        model="gpt-image-2", background="transparent", output_format="webp"
    )

    told = answer.json()
    picture = Image.open(io.BytesIO(base64.b64decode(told["data"][0]["b64_json"])))
    assert ("transparent", "webp", "WEBP") == (
        *(told["background"], told["output_format"]),
        picture.format,
    )
    assert picture.convert("RGBA").getextrema()[3][0] < 255


async def test_strictly_there_are_no_other_names(tmp_path: Path) -> None:
    """Cases 15 and 17: nothing but today's OpenAI."""
    strict = {"server": 'compat = "strict"', "model": 'aliases = ["dall-e-3"]'}
    async with running_gateway(tmp_path, **strict) as running:
        answers = [
            await running.generate(model="dall-e-3"),
            await running.generate(response_format="b64_json"),
            await running.generate(quality="hd"),
            await running.generate(size="1:1"),
        ]
        plain = await running.generate()

    assert [
        ("model", "invalid_value"),
        ("response_format", "unknown_parameter"),
        ("quality", "invalid_value"),
        ("size", "invalid_value"),
    ] == [
        (error["param"], error["code"]) for error in (answer.json()["error"] for answer in answers)
    ]
    assert 200 == plain.status_code


@pytest.mark.parametrize(
    ("name", "prompt", "told"),
    [
        # Counted here, in code points and in bytes: the upstream never hears of it.
        ("z-image-turbo", "x" * 2001, "maximum length 2000"),
        ("gpt-image-2", "漢" * 20_001, "at most 60000 bytes"),
        # Counted there, in tokens.
        ("gpt-image-1.5", "a fox and " * 700, "does not take a prompt of this length"),
        ("doubao-seedream-5.0-pro", "a fox and " * 1400, "does not take a prompt of this length"),
    ],
)
async def test_prompts_that_are_too_long(
    running: Running, name: str, prompt: str, told: str
) -> None:
    """Whoever counts, it is OpenAI's error, and nothing is spent."""
    before = await running.budget()
    answer = await running.generate(prompt, model=name, size="auto", quality="auto")

    error = answer.json()["error"]
    assert (400, "invalid_request_error", "prompt", "string_above_max_length") == (
        *(answer.status_code, error["type"]),
        *(error["param"], error["code"]),
    )
    assert told in error["message"]
    assert before == await running.budget()


@pytest.mark.parametrize("response_format", ["b64_json", "url"])
async def test_what_an_upstream_makes_of_a_prompt(running: Running, response_format: str) -> None:
    """Case 16: it is told beside each picture, and is kept nowhere."""
    answer = await running.generate(
        "a cat [[revised-prompt:a red cat in oil]]",
        model="qwen-image-3.0-pro",
        quality="auto",
        n=2,
        response_format=response_format,
    )
    task = answer.headers["x-gateway-task-id"]
    record = (await running.client.get(f"/v1/images/tasks/{task}", params={"data": "false"})).text

    told = [item["revised_prompt"] for item in answer.json()["data"]]
    assert ["a red cat in oil"] * 2 == told
    assert "in oil" not in record
