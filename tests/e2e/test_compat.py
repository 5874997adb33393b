"""How like OpenAI the server is, and where it helps instead (`server.compat`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import structlog

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway

HELP = 'help_url = "https://wiki.example/keys"'
WRONG_KEY = "sk-wrong-0123456789abcdef-wxyz"
MASKED = "sk-wron****wxyz"

NOT_THERE = [
    ("POST", "/v1/images/variations"),
    ("GET", "/v1/images/variations"),
    ("GET", "/v1/nope"),
    ("POST", "/v1/images/foo"),
    ("POST", "/images/generations"),
    ("GET", "/"),
]


async def _not_there(running: Running) -> list[httpx.Response]:
    return [await running.client.request(method, path) for method, path in NOT_THERE]


async def _refused_keys(running: Running) -> tuple[httpx.Response, httpx.Response]:
    """Call with a wrong key, and with none."""
    async with httpx.AsyncClient(base_url=running.url) as stranger:
        headers = {"authorization": f"Bearer {WRONG_KEY}"}
        return (
            await stranger.get("/v1/models", headers=headers),
            await stranger.get("/v1/models"),
        )


async def test_strict_is_todays_openai(tmp_path: Path) -> None:
    """Nothing is said of what is not there, and keys are OpenAI's to give; tasks are as ever."""
    async with running_gateway(tmp_path, server=f'compat = "strict"\n{HELP}') as running:
        missing = await _not_there(running)
        wrong, none = await _refused_keys(running)
        task = await running.client.get("/v1/images/tasks/imgtask_1")
        model = await running.client.get("/v1/models/gpt-image-9")
        evolink = await running.client.get("/evolink/v1/nope")
        doubled = await running.client.get("/v1//models")
        metrics = await running.metrics()

    for answer in missing:
        assert (404, b"", "nosniff") == (
            *(answer.status_code, answer.content),
            answer.headers["x-content-type-options"],
        )
        assert answer.headers["x-request-id"].startswith("req_")
        assert "content-type" not in answer.headers
    told = wrong.json()["error"]
    assert (401, "invalid_api_key") == (wrong.status_code, told["code"])
    assert (
        f"Incorrect API key provided: {MASKED}."
        " You can find your API key at https://platform.openai.com/account/api-keys."
    ) == told["message"]
    assert (401, None) == (none.status_code, none.json()["error"]["code"])
    assert [404, 404] == [answer.status_code for answer in (task, model)]
    assert ["task_not_found", "model_not_found"] == [
        answer.json()["error"]["code"] for answer in (task, model)
    ]
    assert (404, "resource_not_found") == (evolink.status_code, evolink.json()["error"]["code"])
    assert 200 == doubled.status_code
    assert len(NOT_THERE) <= sum(
        count
        for name, count in metrics.items()
        if name.startswith("gateway_requests_total{") and 'code="unknown_url"' in name
    )


async def test_lenient_says_where_to_go(tmp_path: Path) -> None:
    """The base URL, and the page that the settings name for keys."""
    async with running_gateway(tmp_path, server=HELP) as running:
        missing = {
            path: answer.json()["error"]
            for (_, path), answer in zip(NOT_THERE, await _not_there(running), strict=True)
        }
        wrong, none = await _refused_keys(running)

    assert {"unknown_url"} == {error["code"] for error in missing.values()}
    assert "set base_url to …/v1" in missing["/images/generations"]["message"]
    assert "/v1/images/generations" in missing["/v1/images/variations"]["message"]
    assert (401, 401) == (wrong.status_code, none.status_code)
    for answer in (wrong, none):
        assert "https://wiki.example/keys" in answer.json()["error"]["message"]
    assert MASKED in wrong.json()["error"]["message"]
    assert None is none.json()["error"]["code"]


async def test_the_sdk_reads_why_a_picture_was_blocked(tmp_path: Path) -> None:
    """Refused when it was ordered it was the words; of a task that failed nobody knows."""
    quick = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    stages = []
    async with (
        running_gateway(tmp_path, simulator=quick) as running,
        openai.AsyncOpenAI(
            base_url=f"{running.url}/v1", api_key=running.client.headers["authorization"][7:]
        ) as client,
    ):
        for marker in ("[[submit:content_policy_violation]]", "[[fail:content_policy_violation]]"):
            with pytest.raises(openai.BadRequestError) as blocked:
                await client.images.generate(model="gpt-image-1.5", prompt=marker, quality="low")
            body = blocked.value.body
            assert isinstance(body, dict)
            assert "moderation_blocked" == blocked.value.code
            assert [] == body["moderation_details"]["categories"]
            stages.append(body["moderation_details"]["moderation_stage"])

    assert ["input", "unknown"] == stages


@pytest.fixture
def plain_tracebacks() -> Iterator[None]:
    """Show no values of variables where tracebacks are printed: the product's logs never do."""
    before = structlog.get_config()
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before["processors"][:-1], console])
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("plain_tracebacks")
async def test_a_defect_of_ours_is_tried_again_and_names_its_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three attempts of a stock client, and the last one's id in the text; nothing is charged."""
    attempts = []

    def broken(*_: object) -> None:
        attempts.append(1)
        raise ZeroDivisionError

    async with (
        running_gateway(tmp_path) as running,
        openai.AsyncOpenAI(
            base_url=f"{running.url}/v1", api_key=running.client.headers["authorization"][7:]
        ) as client,
    ):
        monkeypatch.setattr(running.gateway.front.images, "plan", broken)
        with pytest.raises(openai.InternalServerError) as failed:
            await client.images.generate(model="gpt-image-1.5", prompt="a fox", quality="low")
        spent = await running.budget()

    error = failed.value
    assert (500, "server_error", None) == (error.status_code, error.type, error.code)
    assert error.request_id
    assert error.request_id in error.message
    assert 3 == len(attempts)
    assert (0, 0) == spent


@pytest.mark.usefixtures("plain_tracebacks")
async def test_a_defect_after_the_picture_was_ordered_leaves_it_to_the_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stock client has its one picture by its second attempt."""
    quick = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    async with (
        running_gateway(tmp_path, simulator=quick) as running,
        openai.AsyncOpenAI(
            base_url=f"{running.url}/v1", api_key=running.client.headers["authorization"][7:]
        ) as client,
    ):
        images = running.gateway.front.images
        outcome = images.outcome

        async def broken(*_: object, **__: object) -> None:
            monkeypatch.setattr(images, "outcome", outcome)
            raise ZeroDivisionError

        monkeypatch.setattr(images, "outcome", broken)
        picture = await client.images.generate(model="gpt-image-1.5", prompt="a", quality="low")
        submits = (await running.simulated())["submits"]

    assert picture.data is not None
    assert picture.data[0].b64_json
    assert 1 == submits
