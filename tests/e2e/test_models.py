"""Every model of the catalogue, made by the product: pixels, bills, refusals, and an end."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

#: Those that make pictures from pictures, by their links.
EDITING = [
    name for name, row in MODELS.items() if any("edit" in offer.operations for offer in row.offers)
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


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[Running]:
    """Serve every model with an upstream that answers at once."""
    simulator = SimulatorSettings(
        latency_median_s=0.0, latency_sigma=0.0, seed=7, plain_pictures=True
    )
    async with running_gateway(
        folder, simulator=simulator, sections=OFFERED, budget="1000", team_models="*"
    ) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Serve every model for all tests that do not look at all the money there is."""
    async with _serving(tmp_path_factory.mktemp("models")) as served:
        yield served


def _cost_microusd(answer: httpx.Response) -> int:
    return round(float(answer.headers["x-gateway-cost-usd"]) * 1_000_000)


async def _billed(running: Running, label: str) -> list[int]:
    """Return the micro-dollars that the upstream billed for the tasks of a label."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{running.upstream}/_sim/tasks", params={"label": label})
    return [task["cost_microusd"] for task in answer.json()["tasks"]]


def _pixels(answer: httpx.Response) -> str:
    """Return the size that a picture has in truth; what is told where there is none."""
    if answer.status_code != 200:
        return answer.text
    content = base64.b64decode(answer.json()["data"][0]["b64_json"])
    with Image.open(io.BytesIO(content)) as picture:
        return f"{picture.width}x{picture.height}"


async def test_every_model_makes_what_is_asked_for_and_bills_what_it_costs(tmp_path: Path) -> None:
    """The pixels are those asked for, and both sides' books agree to the micro-dollar.

    All in one gateway, many at a time; the upstream refuses what its model does not know.
    """
    few = asyncio.Semaphore(16)
    async with _serving(tmp_path) as running:

        async def make(name: str, size: str) -> httpx.Response:
            async with few:
                prompt = f"a small red fox [[rules:no-unknown]] [[label:{name} {size}]]"
                return await running.generate(prompt, model=name, size=size, quality="auto")

        answers = dict(
            zip(CASES, await asyncio.gather(*(make(*case) for case in CASES)), strict=True)
        )
        billed = {(name, size): await _billed(running, f"{name} {size}") for name, size in CASES}
        budget = await running.budget()
        metrics = await running.metrics()

    assert {(name, size): size for name, size in CASES} == {
        case: _pixels(answer) for case, answer in answers.items()
    }
    assert {(name, size): size for name, size in CASES} == {
        case: answer.json()["size"] for case, answer in answers.items()
    }
    costs = {case: [_cost_microusd(answer)] for case, answer in answers.items()}
    assert billed == costs
    assert min(costs.values()) > [0]
    assert (sum(map(sum, billed.values())), 0) == budget
    assert 0 == metrics['gateway_billing_drift_usd_total{provider="evolink"}']


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


async def test_every_model_that_edits_does_from_links(running: Running) -> None:
    """What EvoLink's clients send: references are fetched by the upstream, and priced."""
    link = (await running.generate(response_format="url")).json()["data"][0]["url"]

    async def make(name: str) -> httpx.Response:
        prompt = f"in oil [[rules:no-unknown]] [[label:edit {name}]]"
        return await running.generate(
            prompt, model=name, size="auto", quality="auto", image_urls=[link]
        )

    answers = dict(zip(EDITING, await asyncio.gather(*map(make, EDITING)), strict=True))
    costs = {
        name: [_cost_microusd(answer)]
        for name, answer in answers.items()
        if answer.status_code == 200
    }

    assert {} == {name: answer.text for name, answer in answers.items() if name not in costs}
    assert costs == {name: await _billed(running, f"edit {name}") for name in EDITING}
    assert {name: str(MODELS[name].default_size) for name in EDITING} == {
        name: answer.json()["size"] for name, answer in answers.items()
    }


async def test_links_that_lead_nowhere(running: Running) -> None:
    """The upstream cannot fetch it: OpenAI's error of a bad image, and nothing is spent."""
    before = await running.budget()
    nowhere = await running.generate(
        model="gpt-image-2", image_urls=[f"{running.upstream}/nothing.png"]
    )
    inside = await running.generate(model="gpt-image-2", image_urls=["file:///etc/passwd"])

    assert (400, "image_generation_user_error", "invalid_image") == (
        nowhere.status_code,
        *(nowhere.json()["error"][key] for key in ("type", "code")),
    )
    assert (400, "image_urls[0]") == (inside.status_code, inside.json()["error"]["param"])
    assert before == await running.budget()


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
