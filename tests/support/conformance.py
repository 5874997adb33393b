"""The bench that conformance cases run on: a strict and a lenient gateway for all of them.

Cases are those of protocols/openai_images.md §15, by number.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import orjson
from openai import AsyncOpenAI
from PIL import Image

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway
from tests.support.sockets import RawServer, answer, raw_server

#: Keys of teams that come to their limits at once.
HURRIED_KEY = "sk-hurried-0123456789abcdef"
POOR_KEY = "sk-poor-0123456789abcdef0123"
CAPPED_KEY = "sk-capped-0123456789abcdef01"
NARROW_KEY = "sk-narrow-0123456789abcdef01"

PROMPT = "a small red fox"
GENERATIONS = "/v1/images/generations"


class Mode(StrEnum):
    """How strictly fields are read."""

    STRICT = "strict"
    LENIENT = "lenient"


def _team(name: str, key: str, terms: str) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return (
        f'[teams.{name}]\nmodels = ["*"]\n{terms}\n'
        f'[[teams.{name}.keys]]\nname = "ci"\nsha256 = "{digest}"\n'
    )


TEAMS = "\n".join(
    [
        _team("hurried", HURRIED_KEY, "limits = { images_per_minute = 1 }"),
        _team("poor", POOR_KEY, 'budgets = [{ usd = "0.001", per = "month" }]'),
        _team("narrow", NARROW_KEY, "limits = { in_flight_images = 1 }"),
        _team("capped", CAPPED_KEY, "per_call_usd = 0.001"),
    ]
)
MODELS = """
[models."gpt-image-2"]
routes = ["evolink"]
aliases = {aliases}

[models."gpt-image-2.5-flare"]
routes = ["evolink"]

[models."vendor/fox"]
routes = ["evolink"]
default_size = "1024x1024"
default_quality = "low"

[[models."vendor/fox".offers]]
kind = "evolink"
operations = ["generation"]
upstream_model = "gpt-image-2"
qualities = ["low"]
sizes = ["1024x1024"]
prices = "evolink/gpt-image-2"
"""
ALIASES = {Mode.STRICT: "[]", Mode.LENIENT: '["dall-e-3"]'}
#: URL stands for where the gateway listens, so that its links lead back to it.
SERVER = """
compat = "{mode}"
public_url = "URL"
help_url = "https://help.example/keys"
heartbeat = "300ms"
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """One gateway of a mode, and what cases do with it."""

    mode: Mode
    running: Running
    #: Where both gateways may call clients back.
    receiver: RawServer

    @property
    def strict(self) -> bool:
        """Whether fields are read exactly as OpenAI reads them."""
        return self.mode is Mode.STRICT

    async def post(
        self, body: Mapping[str, object] | bytes, path: str = GENERATIONS, **headers: str
    ) -> httpx.Response:
        """Post a body as it is, or as JSON; names of headers are written with underscores."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"content-type": "application/json"} | told
        return await self.running.client.post(path, content=content, headers=headers)

    async def ask(self, **fields: object) -> httpx.Response:
        """Ask gpt-image-2 for a picture with these fields, which may replace the prompt."""
        return await self.post(
            {"model": "gpt-image-2", "prompt": PROMPT, "quality": "low"} | fields
        )

    async def picture(self, **fields: object) -> dict[str, Any]:
        """Return the body of a successful call."""
        answer = await self.ask(**fields)
        assert 200 == answer.status_code, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def sdk(self, key: str = "", **options: object) -> AsyncOpenAI:
        """Return the stock client of Python, for another key than the team's if it is told."""
        team_key = self.running.client.headers["authorization"].removeprefix("Bearer ")
        return AsyncOpenAI(base_url=f"{self.running.url}/v1", api_key=key or team_key, **options)  # type: ignore[arg-type]

    async def submits(self) -> int:
        """Return how many submits the upstream has had."""
        return int((await self.running.simulated())["submits"])


@asynccontextmanager
async def benches(folder: Path) -> AsyncIterator[dict[Mode, Bench]]:
    """Serve a gateway of each mode, each with an upstream of its own."""
    async with AsyncExitStack() as stack:
        served = {}
        receiver = await stack.enter_async_context(raw_server(answer(204, b"")))
        sections = TEAMS + f'[callbacks]\nallow = ["{receiver.host}"]\n'
        for mode in Mode:
            place = folder / mode
            place.mkdir()
            quick = SimulatorSettings(
                latency_median_s=0.0, latency_sigma=0.0, seed=7, plain_pictures=True
            )
            running = await stack.enter_async_context(
                running_gateway(
                    place,
                    simulator=quick,
                    budget="1000",
                    wait="60s",
                    submit_timeout="30s",
                    team_models="*",
                    server=SERVER.format(mode=mode),
                    sections=MODELS.format(aliases=ALIASES[mode]) + sections,
                )
            )
            served[mode] = Bench(mode, running, receiver)
        yield served


def image_of(item: Mapping[str, str]) -> Image.Image:
    """Return the picture in `b64_json`; ValueError when it is not bare base64."""
    content = base64.b64decode(item["b64_json"], validate=True)
    return Image.open(io.BytesIO(content))


def assert_refused(
    answer: httpx.Response,
    *,
    param: str | None,
    code: str | None,
    message: str = "",
    kind: str = "invalid_request_error",
    status: int = 400,
) -> None:
    """The answer is OpenAI's envelope with all four keys; an empty `message` is not compared."""
    assert status == answer.status_code, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert (kind, param, code) == (error["type"], error["param"], error["code"]), error
    if message:
        assert message == error["message"]
