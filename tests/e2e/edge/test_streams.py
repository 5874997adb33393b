"""Streams of pictures, by the stock SDK and byte by byte (protocols/openai_images.md §5)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from gateway.assets.interface import AssetUnavailableError
from gateway.simulator.rules import Rule
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, Running, running_gateway

QUICK = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
SLOW = SimulatorSettings(latency_median_s=0.8, latency_sigma=0.0, seed=7)

#: Streams that begin long before a slow picture is there.
EARLY = 'heartbeat = "100ms"'

CALL = {
    "model": "gpt-image-1.5",
    "prompt": "a small red fox",
    "quality": "low",
    "size": "1024x1024",
}
COST_MICROUSD = 7_852


@asynccontextmanager
async def slow_gateway(folder: Path, **options: object) -> AsyncIterator[Running]:
    """Serve pictures that take a while, in streams that begin before."""
    options = {"server": EARLY, "simulator": SLOW} | options
    async with running_gateway(folder, **options) as running:  # type: ignore[arg-type]
        yield running


@asynccontextmanager
async def sdk(running: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    """Connect a stock client."""
    async with openai.AsyncOpenAI(
        base_url=f"{running.url}/v1", api_key=TEAM_KEY, max_retries=8
    ) as client:
        yield client


async def collected(running: Running, **fields: object) -> list[object]:
    """Return the events of a call as the SDK's asynchronous client has them."""
    async with sdk(running) as client:
        stream = await client.images.generate(**CALL | fields, stream=True)  # type: ignore[call-overload]
        return [event async for event in stream]


async def streamed(running: Running, **fields: object) -> tuple[httpx.Response, bytes]:
    """Return a stream's answer and all of its bytes."""
    body = CALL | {"stream": True} | fields
    async with running.client.stream("POST", "/v1/images/generations", json=body) as answer:
        return answer, await answer.aread()


@dataclass(frozen=True)
class Event:
    """One event of a stream."""

    name: str
    data: dict[str, object]

    @property
    def picture(self) -> bytes:
        """Its picture."""
        return base64.b64decode(str(self.data["b64_json"]), validate=True)


def events_of(body: bytes) -> Iterator[Event]:
    """Read a stream by the letter: comments, and events of a name and one line of JSON."""
    *blocks, end = body.decode().split("\n\n")
    assert not end
    for block in blocks:
        if block.startswith(":"):
            assert "\n" not in block
            continue
        name, data = block.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        event = Event(name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        assert event.name == event.data["type"]
        yield event


async def test_the_very_bytes(tmp_path: Path) -> None:
    """One event with every field in OpenAI's order, and then the end; a retry gets the same."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        answer, body = await streamed(running, safety_identifier="u-1")
        running.client.headers["x-stainless-retry-count"] = "1"
        _, again = await streamed(running, safety_identifier="u-1")
        task = answer.headers["x-gateway-task-id"]
        shown = (await running.client.get(f"/v1/images/tasks/{task}")).json()

    assert 200 == answer.status_code
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    assert "no" == answer.headers["x-accel-buffering"]
    assert "0.007852" == answer.headers["x-gateway-cost-usd"]
    assert body == again
    assert body.startswith(
        b"event: image_generation.completed\n"
        b'data: {"type":"image_generation.completed","b64_json":"iVBOR'
    )
    assert b"[DONE]" not in body
    [event] = events_of(body)
    assert [
        *("type", "b64_json", "created_at", "size", "quality", "background", "output_format"),
        *("safety_identifier", "usage"),
    ] == list(event.data)
    assert shown["data"][0]["b64_json"] == event.data["b64_json"]
    assert shown["created"] == event.data["created_at"]
    assert ("1024x1024", "low", "opaque", "png", "u-1") == tuple(
        event.data[name]
        for name in ("size", "quality", "background", "output_format", "safety_identifier")
    )
    assert {
        "input_tokens": 4,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 4},
        "output_tokens": 272,
        "output_tokens_details": {"image_tokens": 272, "text_tokens": 0},
        "total_tokens": 276,
    } == event.data["usage"]


async def test_both_clients_of_the_sdk_read_n_pictures(tmp_path: Path) -> None:
    """One completed event for each picture with its own usage; fewer partials than asked: none."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:

        def synchronous() -> list[object]:
            with openai.OpenAI(base_url=f"{running.url}/v1", api_key=TEAM_KEY) as client:
                return [
                    *client.images.generate(  # type: ignore[call-overload]
                        **CALL | {"prompt": "a small blue fox"},
                        n=2,
                        stream=True,
                        partial_images=3,
                    )
                ]

        there = await collected(running, n=2, partial_images=0)
        here = await asyncio.to_thread(synchronous)
        budget = await running.budget()

    for events in (there, here):
        pictures = set()
        for event in events:
            assert isinstance(event, openai.types.ImageGenCompletedEvent)
            assert "image_generation.completed" == event.type
            assert 272 == event.usage.output_tokens
            pictures.add(event.b64_json)
        assert 2 == len(pictures)
    assert (4 * COST_MICROUSD, 0) == budget


async def test_a_picture_does_not_wait_for_its_slower_sisters(tmp_path: Path) -> None:
    """Each is sent when it is there, whether the others ever come or not."""
    rules = [Rule("submit", "[[stuck:processing]]", nth=frozenset({1}))]
    async with (
        running_gateway(tmp_path, simulator=QUICK, rules=rules) as running,
        sdk(running) as client,
    ):
        stream = await client.images.generate(**CALL, n=2, stream=True)  # type: ignore[call-overload]
        async with aclosing(aiter(stream)) as events:
            event = await anext(events)
            [task] = running.gateway.engine.running.values()

        assert isinstance(event, openai.types.ImageGenCompletedEvent)
        assert (1, False) == (len(task.outcome.delivered), task.over)


async def test_a_stream_that_waits_is_kept_awake_by_comments(tmp_path: Path) -> None:
    """Every client skips them; what a picture costs is not known yet when the headers leave."""
    async with slow_gateway(tmp_path) as running:
        answer, body = await streamed(running)
        [event] = await collected(running, prompt="another fox")

    comments = body.split(b"event: ")[0]
    assert comments.startswith(b": keepalive\n\n")
    assert 3 <= comments.count(b": keepalive\n\n")
    assert 1 == len([*events_of(body)])
    assert isinstance(event, openai.types.ImageGenCompletedEvent)
    assert "chunked" == answer.headers["transfer-encoding"]
    assert answer.headers["x-gateway-task-id"].startswith("imgtask_")
    assert {"x-gateway-cost-usd", "x-gateway-budget-remaining-usd"}.isdisjoint(answer.headers)


async def test_what_goes_wrong_before_the_first_event_has_a_status(tmp_path: Path) -> None:
    """A wrong field, a budget, a picture that is refused soon: ordinary errors, and in JSON."""
    wrong: list[dict[str, object]] = [
        {"n": 0},
        {"stream": "yes"},
        {"partial_images": 4},
        {"max_cost_usd": 0.001},
        {"prompt": "[[fail:content_policy_violation]]"},
    ]
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        told = [await streamed(running, **fields) for fields in wrong]
        with pytest.raises(openai.BadRequestError):
            await collected(running, n=0)
        spent = await running.budget()

    assert {(400, "application/json")} == {
        (answer.status_code, answer.headers["content-type"]) for answer, _ in told
    }
    assert [
        ("integer_below_min_value", "n"),
        ("invalid_type", "stream"),
        ("integer_above_max_value", "partial_images"),
        ("cost_limit_exceeded", "max_cost_usd"),
        ("moderation_blocked", None),
    ] == [
        (error["code"], error["param"]) for error in (json.loads(body)["error"] for _, body in told)
    ]
    assert (0, 0) == spent


async def test_a_call_that_does_not_wait_has_no_stream(tmp_path: Path) -> None:
    """It is answered with its task, as ever."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        running.client.headers["prefer"] = "respond-async"
        answer, body = await streamed(running)

    assert (202, "image.task") == (answer.status_code, json.loads(body)["object"])


async def test_a_late_refusal_raises_in_the_sdk(tmp_path: Path) -> None:
    """The nested error is the last event, with the code the status would have had."""
    refused = "[[fail:content_policy_violation]]"
    async with slow_gateway(tmp_path) as running:
        with pytest.raises(openai.APIError) as failed:
            await collected(running, prompt=refused)
        answer, body = await streamed(running, prompt=refused)
        submits = (await running.simulated())["submits"]
        metrics = await running.metrics()

    assert type(failed.value) is openai.APIError
    assert ("moderation_blocked", "image_generation_user_error") == (
        failed.value.code,
        failed.value.type,
    )
    [event] = events_of(body)
    assert "error" == event.name
    assert {"type", "error"} == set(event.data)
    error = event.data["error"]
    assert isinstance(error, dict)
    assert {"message", "type", "param", "code"} <= set(error)
    # The refusal has reached the caller, so that the next call is one of its own.
    assert 200 == answer.status_code
    assert 2 == submits
    assert 2 == sum(
        value
        for name, value in metrics.items()
        if name.startswith("gateway_requests_total{") and 'code="moderation_blocked"' in name
    )


async def test_a_wait_that_is_over_is_an_error_and_the_next_call_joins(tmp_path: Path) -> None:
    """The picture goes on being made, is paid for once, and is there for whoever asks again."""
    async with slow_gateway(tmp_path, wait="400ms") as running:
        with pytest.raises(openai.APIError) as over:
            await collected(running)
        events: list[object] = []
        async with asyncio.timeout(20):
            while not events:
                with suppress(openai.APIError):
                    events = await collected(running)
        stats, budget = await running.simulated(), await running.budget()

    assert "still_running" == over.value.code
    assert isinstance(events[0], openai.types.ImageGenCompletedEvent)
    assert 1 == stats["submits"]
    assert (COST_MICROUSD, 0) == budget


async def test_a_wait_that_is_over_before_the_head_is_a_504(tmp_path: Path) -> None:
    """Which the SDK tries again by itself, and is attached."""
    async with slow_gateway(tmp_path, wait="400ms", server='heartbeat = "20s"') as running:
        answer, body = await streamed(running)
        [event] = await collected(running)
        stats = await running.simulated()

    assert (504, "true") == (answer.status_code, answer.headers["x-should-retry"])
    assert "still_running" == json.loads(body)["error"]["code"]
    assert isinstance(event, openai.types.ImageGenCompletedEvent)
    assert 1 == stats["submits"]


async def test_a_connection_that_is_cut_leaves_the_picture_to_the_next_call(
    tmp_path: Path,
) -> None:
    """Among the heartbeats, by a client that says nothing of being a retry."""
    async with slow_gateway(tmp_path) as running:
        body = CALL | {"stream": True}
        async with running.client.stream("POST", "/v1/images/generations", json=body) as answer:
            assert 200 == answer.status_code
        await _orphaned(running)
        async with sdk(running) as client:
            raw = await client.images.with_raw_response.generate(**CALL, stream=True)  # type: ignore[call-overload]
            events = [event async for event in raw.parse()]
        stats, budget = await running.simulated(), await running.budget()

    assert "true" == raw.headers["x-gateway-joined"]
    assert isinstance(events[0], openai.types.ImageGenCompletedEvent)
    assert 1 == stats["submits"]
    assert (COST_MICROUSD, 0) == budget


async def test_a_connection_that_is_cut_between_two_pictures(tmp_path: Path) -> None:
    """The next call gets both of them, and neither is made again."""
    rules = [Rule("submit", "[[latency:5]]", nth=frozenset({1}))]
    async with running_gateway(tmp_path, simulator=QUICK, rules=rules) as running:
        body = CALL | {"stream": True, "n": 2}
        async with running.client.stream("POST", "/v1/images/generations", json=body) as answer:
            await anext(answer.aiter_bytes())
        await _orphaned(running)
        events = await collected(running, n=2)
        stats = await running.simulated()

    assert 2 == len(events)
    assert 2 == stats["submits"]


async def test_a_stop_waits_for_streams(tmp_path: Path) -> None:
    """A stream that has begun gets its picture first."""
    async with slow_gateway(tmp_path) as running:
        body = CALL | {"stream": True}
        async with running.client.stream("POST", "/v1/images/generations", json=body) as answer:
            running.stop.set()
            [event] = events_of(await answer.aread())

    assert event.picture.startswith(b"\x89PNG")


async def test_a_stop_that_can_wait_no_longer_is_told(tmp_path: Path) -> None:
    """The stream ends with the error that the status would have been."""
    server = f'{EARLY}\nabandon_after = "1h"'
    async with running_gateway(
        tmp_path, simulator=SimulatorSettings(latency_median_s=60.0, seed=7), server=server
    ) as running:
        body = CALL | {"stream": True}
        async with running.client.stream("POST", "/v1/images/generations", json=body) as answer:
            running.stop.set()
            [event] = events_of(await answer.aread())

    error = event.data["error"]
    assert isinstance(error, dict)
    assert ("error", "shutting_down") == (event.name, error["code"])


@pytest.mark.parametrize("within", [False, True])
async def test_a_picture_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    """Before the first byte of it, or half-way: the event becomes an error that the SDK raises."""
    async with slow_gateway(tmp_path) as running:
        assets = running.gateway.assets
        read = assets.read

        async def broken(key: str, **options: object) -> AsyncIterator[bytes]:
            if within:
                yield await anext(aiter(read(key, **options)))  # type: ignore[arg-type]
            raise AssetUnavailableError("gone")

        monkeypatch.setattr(type(assets), "read", lambda _, key, **options: broken(key, **options))
        with pytest.raises(openai.APIError) as failed:
            await collected(running, size="1536x1024")
        monkeypatch.undo()
        answer, body = await streamed(running, size="1536x1024")
        stats = await running.simulated()

    assert "server_error" == failed.value.type
    assert "true" == answer.headers["x-gateway-joined"]
    [event] = events_of(body)
    assert event.picture.startswith(b"\x89PNG")
    assert 1 == stats["submits"]


async def test_one_of_two_that_fails(tmp_path: Path) -> None:
    """What is there is sent, as a call that does not stream would be answered."""
    rules = [Rule("submit", "[[fail:content_policy_violation]]", nth=frozenset({1}))]
    async with running_gateway(tmp_path, simulator=QUICK, rules=rules) as running:
        events = await collected(running, n=2)
        budget = await running.budget()

    assert [openai.types.ImageGenCompletedEvent] == [type(event) for event in events]
    assert (COST_MICROUSD, 0) == budget


async def _orphaned(running: Running) -> None:
    async with asyncio.timeout(60):
        while not await running.gateway.store.command("KEYS", "{t:design}:orphans:*"):  # noqa: ASYNC110 - the store sets no event
            await asyncio.sleep(0.01)
