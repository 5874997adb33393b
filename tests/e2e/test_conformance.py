"""OpenAI's Images API, case by case, over real HTTP: strict as OpenAI, lenient as clients need it.

Numbers are those of protocols/openai_images.md §15. S is a case of parity, F one of friendliness.
Edits are in cases 29 to 42, which have tests of their own.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from openai.types.image import Image as SdkImage

from gateway.background import SystemClock
from gateway.callbacks.sign import signed_headers
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.config.settings import ServerSettings
from gateway.domain.ids import TeamId
from tests.support.conformance import (
    CAPPED_KEY,
    HURRIED_KEY,
    NARROW_KEY,
    POOR_KEY,
    PROMPT,
    Bench,
    Mode,
    assert_refused,
    benches,
    image_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

IGUE = "image_generation_user_error"
MINIMAL: dict[str, object] = {"model": "gpt-image-2", "prompt": PROMPT}

Play = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One case: its number, whether it is of parity (S) or friendliness (F), and how it goes."""

    number: int
    mark: str
    play: Play


CASES: list[Case] = []


def case(number: int, mark: str = "S") -> Callable[[Play], Play]:
    """Enter a case into the table."""

    def enter(play: Play) -> Play:
        CASES.append(Case(number, mark, play))
        return play

    return enter


# Generations that succeed.


@case(1)
async def minimal(bench: Bench) -> None:
    """Model and prompt are enough."""
    answer = await bench.post(MINIMAL)
    body = answer.json()
    [item] = body["data"]
    usage = body["usage"]

    assert answer.headers["x-request-id"]
    assert {"b64_json"} == item.keys()
    assert isinstance(body["created"], int)
    assert 1_700_000_000 < body["created"] < 10_000_000_000
    assert "opaque" == body["background"]
    assert body["quality"] in ("low", "medium", "high")
    assert "png" == body["output_format"]
    assert image_of(item).size == tuple(int(edge) for edge in body["size"].split("x"))
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    for whole in ("input_tokens", "output_tokens"):
        assert usage[whole] == sum(usage[f"{whole}_details"].values())
        assert {"text_tokens", "image_tokens"} == usage[f"{whole}_details"].keys()


@case(2)
async def several(bench: Bench) -> None:
    """Three pictures, and the usage of all of them."""
    one, three = await asyncio.gather(bench.picture(), bench.picture(n=3))

    assert 3 == len(three["data"])
    assert 3 * one["usage"]["output_tokens"] == three["usage"]["output_tokens"]


@case(3)
async def nulls(bench: Bench) -> None:
    """Null is as good as leaving it out."""
    names = ("n", "size", "quality", "stream", "partial_images", "output_compression")

    assert 1 == len((await bench.picture(**dict.fromkeys(names)))["data"])


@case(4)
async def prompts(bench: Bench) -> None:
    """White space is a prompt; 32,000 characters are the most."""
    spaces, longest, longer = await asyncio.gather(
        *(bench.ask(prompt=text) for text in ("   ", "x" * 32_000, "x" * 32_001))
    )

    assert (200, 200) == (spaces.status_code, longest.status_code)
    assert_refused(
        longer,
        param="prompt",
        code="string_above_max_length",
        message="Invalid 'prompt': string too long. Expected a string with maximum length 32000,"
        " but got a string with length 32001 instead.",
    )


@case(5)
async def free_size(bench: Bench) -> None:
    """A free size is really made."""
    body = await bench.picture(size="1536x864")

    assert "1536x864" == body["size"]
    assert (1536, 864) == image_of(body["data"][0]).size


@case(6)
async def auto(bench: Bench) -> None:
    """The answer never says auto."""
    body = await bench.picture(size="auto", quality="auto", background="auto")

    assert re.fullmatch(r"\d+x\d+", body["size"])
    assert body["quality"] in ("low", "medium", "high")
    assert body["background"] in ("opaque", "transparent")


@case(7)
async def webp(bench: Bench) -> None:
    """The picture has the format that was asked."""
    body = await bench.picture(output_format="webp", output_compression=50)

    assert ("webp", "WEBP") == (body["output_format"], image_of(body["data"][0]).format)


@case(8)
async def transparent(bench: Bench) -> None:
    """A picture without a ground, of a model that leaves it out."""
    body = await bench.picture(
        model="gpt-image-2.5-flare", background="transparent", output_format="png"
    )
    picture = image_of(body["data"][0])

    assert "transparent" == body["background"]
    assert ("RGBA", 0) == (picture.mode, picture.getextrema()[3][0])


@case(9)
async def end_users(bench: Bench) -> None:
    """`user` may be anything; `safety_identifier` comes back."""
    for user in (123, "u"):
        assert 1 == len((await bench.picture(user=user))["data"])

    assert "x" == (await bench.picture(safety_identifier="x"))["safety_identifier"]


@case(10)
async def pretty(bench: Bench) -> None:
    """Node 4 sends JSON with newlines."""
    answer = await bench.post(json.dumps(MINIMAL | {"quality": "low"}, indent=2).encode())

    assert 200 == answer.status_code


@case(11)
async def chunked(bench: Bench) -> None:
    """A body without a length is read."""

    async def chunks() -> AsyncIterator[bytes]:
        for piece in (b'{"model":"gpt-image-2","qual', b'ity":"low","prompt":', b'"a fox"}'):
            yield piece

    headers = {"content-type": "application/json"}
    answer = await bench.running.client.post(
        "/v1/images/generations", content=chunks(), headers=headers
    )

    assert 200 == answer.status_code
    assert "transfer-encoding" in answer.request.headers


@case(12)
async def header_names(bench: Bench) -> None:
    """Names of headers are told apart by nobody."""
    body = json.dumps(MINIMAL | {"quality": "low"}).encode()
    key = bench.running.client.headers["authorization"]
    statuses = []
    for names in (("AUTHORIZATION", "CONTENT-TYPE"), ("authorization", "content-type")):
        headers = dict(zip(names, (key, "application/json"), strict=True))
        async with httpx.AsyncClient(base_url=bench.running.url, timeout=60) as client:
            answer = await client.post("/v1/images/generations", content=body, headers=headers)
        statuses.append(answer.status_code)

    assert [200, 200] == statuses


# Generations that are refused.


@case(13)
async def no_model(bench: Bench) -> None:
    """A model is required."""
    assert_refused(
        await bench.post({"prompt": PROMPT}),
        param="model",
        code="missing_required_parameter",
        message="Missing required parameter: 'model'.",
    )


@case(14)
async def model_types(bench: Bench) -> None:
    """A model is a string."""
    for value, name in (
        (None, "null"),
        (1.5, "a decimal number"),
        ([], "an array"),
        (7, "an integer"),
    ):
        assert_refused(
            await bench.ask(model=value),
            param="model",
            code="invalid_type",
            message=f"Invalid type for 'model': expected a string, but got {name} instead.",
        )


@case(15)
async def unknown_models(bench: Bench) -> None:
    """400 and not 404, for dead, empty and unknown names alike."""
    for name in ("dall-e-2", "", "foo"):
        assert_refused(
            await bench.ask(model=name),
            kind=IGUE,
            param="model",
            code="invalid_value",
            message=f"The model '{name}' does not exist.",
        )


@case(16, "F")
async def aliases(bench: Bench) -> None:
    """An alias of old answers as the old model did: a link, unless it is asked for base64."""
    old = {"model": "dall-e-3", "quality": "standard", "style": "vivid"}
    if bench.strict:
        assert_refused(await bench.ask(**old), kind=IGUE, param="model", code="invalid_value")
        return
    linked = (await bench.picture(**old, size="1024x1024"))["data"][0]
    inline = (await bench.picture(**old, response_format="b64_json"))["data"][0]

    assert (True, False) == ("url" in linked, "b64_json" in linked)
    assert b"\x89PNG" == (await bench.running.client.get(linked["url"])).content[:4]
    assert "PNG" == image_of(inline).format


@case(17)
async def response_formats(bench: Bench) -> None:
    """OpenAI knows no `response_format` any more; clients do."""
    for value in ("b64_json", "url", None):
        answer = await bench.ask(response_format=value)
        if bench.strict:
            assert_refused(
                answer,
                param="response_format",
                code="unknown_parameter",
                message="Unknown parameter: 'response_format'.",
            )
        else:
            name = value or "b64_json"
            assert name in answer.json()["data"][0], answer.text


@case(18)
async def unknown_fields(bench: Bench) -> None:
    """What is not a field of generations is named."""
    dead = {"style": "vivid", "input_fidelity": "high"} if bench.strict else {}
    for name, value in ({"mask": 42, "images": [], "bogus": 1} | dead).items():
        assert_refused(
            await bench.ask(**{name: value}),
            param=name,
            code="unknown_parameter",
            message=f"Unknown parameter: '{name}'.",
        )


def _not_an_integer(name: str, got: str) -> tuple[str, str]:
    return (
        "invalid_type",
        f"Invalid type for '{name}': expected an integer, but got {got} instead.",
    )


def _below(name: str, least: int, value: int) -> tuple[str, str]:
    return (
        "integer_below_min_value",
        (
            f"Invalid '{name}': integer below minimum value."
            f" Expected a value >= {least}, but got {value} instead."
        ),
    )


def _above(name: str, most: int, value: int) -> tuple[str, str]:
    return (
        "integer_above_max_value",
        (
            f"Invalid '{name}': integer above maximum value."
            f" Expected a value <= {most}, but got {value} instead."
        ),
    )


async def _assert_integers(
    bench: Bench, rows: tuple[tuple[str, object, tuple[str, str]], ...]
) -> None:
    for name, value, (code, message) in rows:
        assert_refused(await bench.ask(**{name: value}), param=name, code=code, message=message)


@case(19)
async def counts(bench: Bench) -> None:
    """One to ten pictures."""
    await _assert_integers(
        bench,
        (
            ("n", 0, _below("n", 1, 0)),
            ("n", 11, _above("n", 10, 11)),
            ("n", -1, _below("n", 1, -1)),
            ("n", 1.5, _not_an_integer("n", "a decimal number")),
            ("n", "2", _not_an_integer("n", "a string")),
            ("n", True, _not_an_integer("n", "a boolean")),
        ),
    )


@case(20)
async def other_integers(bench: Bench) -> None:
    """Per cent, and partial pictures."""
    await _assert_integers(
        bench,
        (
            ("output_compression", 101, _above("output_compression", 100, 101)),
            ("output_compression", -1, _below("output_compression", 0, -1)),
            ("output_compression", "50", _not_an_integer("output_compression", "a string")),
            ("partial_images", 4, _above("partial_images", 3, 4)),
            ("partial_images", -1, _below("partial_images", 0, -1)),
        ),
    )


@case(21)
async def qualities(bench: Bench) -> None:
    """The words of dall-e are none any more; lenient reads them as what they became."""
    words = "'low', 'medium', 'high', and 'auto'"
    for value in ("", "ultra", *(["hd", "standard"] if bench.strict else [])):
        assert_refused(
            await bench.ask(quality=value),
            param="quality",
            code="invalid_value",
            message=f"Invalid value: '{value}'. Supported values are: {words}.",
        )
    assert_refused(
        await bench.ask(quality=1),
        param="quality",
        code="invalid_type",
        message="Invalid type for 'quality': expected one of 'low', 'medium', 'high', or 'auto',"
        " but got an integer instead.",
    )
    if not bench.strict:
        assert "high" == (await bench.picture(quality="hd"))["quality"]


@case(22)
async def sizes(bench: Bench) -> None:
    """A size is two numbers, divisible by 16."""
    for value, message in (
        ("bogus", "Invalid size 'bogus'. Expected WIDTHxHEIGHT, for example '1824x1024'."),
        ("0x0", "Invalid size '0x0'. Expected WIDTHxHEIGHT, for example '1824x1024'."),
        ("9x9", "Invalid size '9x9'. Width and height must both be divisible by 16."),
    ):
        assert_refused(
            await bench.ask(size=value),
            kind=IGUE,
            param="size",
            code="invalid_value",
            message=message,
        )
    assert_refused(await bench.ask(size=123), param="size", code="invalid_type")


@case(23)
async def bounds_of_sizes(bench: Bench) -> None:
    """Too few pixels, and too long an edge."""
    assert_refused(
        await bench.ask(size="256x256"),
        kind=IGUE,
        param="size",
        code="invalid_value",
        message="Requested resolution is below the current minimum pixel budget.",
    )
    assert_refused(await bench.ask(size="4096x1024"), kind=IGUE, param="size", code="invalid_value")


@case(24)
async def stream_types(bench: Bench) -> None:
    """`stream` is true or false."""
    assert_refused(
        await bench.ask(stream="yes"),
        param="stream",
        code="invalid_type",
        message="Invalid type for 'stream': expected a boolean, but got a string instead.",
    )


@case(25)
async def png_compression(bench: Bench) -> None:
    """PNG is compressed by nobody."""
    assert_refused(
        await bench.ask(output_format="png", output_compression=80),
        kind=IGUE,
        param=None,
        code="invalid_png_output_compression",
        message="Compression less than 100 is not supported for PNG output format",
    )

    assert 1 == len((await bench.picture(output_format="png", output_compression=100))["data"])


@case(26)
async def two_faults(bench: Bench) -> None:
    """The first in OpenAI's order is told."""
    assert_refused(await bench.ask(prompt="", n=0), param="prompt", code="empty_string")
    assert_refused(await bench.ask(bogus=1, n=0), param="bogus", code="unknown_parameter")
    assert_refused(
        await bench.ask(model="foo", bogus=1), kind=IGUE, param="model", code="invalid_value"
    )


@case(27)
async def no_prompt(bench: Bench) -> None:
    """A prompt is a string with something in it."""
    assert_refused(
        await bench.post({"model": "gpt-image-2"}),
        param="prompt",
        code="missing_required_parameter",
        message="Missing required parameter: 'prompt'.",
    )
    assert_refused(
        await bench.ask(prompt=None),
        param="prompt",
        code="invalid_type",
        message="Invalid type for 'prompt': expected a string, but got null instead.",
    )
    assert_refused(
        await bench.ask(prompt=""),
        param="prompt",
        code="empty_string",
        message="Invalid 'prompt': empty string. Expected a string with minimum length 1,"
        " but got an empty string instead.",
    )


@case(28)
async def malformed(bench: Bench) -> None:
    """What is no JSON is 400 in the envelope, never 422 and never a framework's own."""
    for body in (b"{", b"", b'{"model":}', b"\xff"):
        answer = await bench.post(body)
        assert_refused(answer, param=None, code=answer.json()["error"]["code"])


# Streams.


def _events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a stream; comments are none."""
    frames = [frame for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    lines = [frame.split("\n") for frame in frames]
    assert all(2 == len(pair) for pair in lines), frames
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in lines
    ]


@case(43)
async def stream(bench: Bench) -> None:
    """Some partial pictures, one that is complete, and the end."""
    answer = await bench.ask(stream=True, partial_images=2)
    events = _events(answer.text)
    names = [name for name, _ in events]
    complete = events[-1][1]

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ["image_generation.completed"] == names[-1:]
    assert set(names[:-1]) <= {"image_generation.partial_image"}
    assert len(names) <= 3
    assert list(range(len(names) - 1)) == [data["partial_image_index"] for _, data in events[:-1]]
    assert {
        *("type", "b64_json", "created_at", "size", "quality", "background"),
        *("output_format", "usage"),
    } <= complete.keys()
    assert all(name == data["type"] for name, data in events)
    assert "[DONE]" not in answer.text
    assert "PNG" == image_of(complete).format


@case(44)
async def stream_without_partials(bench: Bench) -> None:
    """No partial pictures are asked for, and none come."""
    events = _events((await bench.ask(stream=True, partial_images=0)).text)

    assert ["image_generation.completed"] == [name for name, _ in events]


@case(45)
async def stream_of_a_fault(bench: Bench) -> None:
    """A fault that is found before the first event is an ordinary answer."""
    assert_refused(await bench.ask(stream=True, n=0), param="n", code="integer_below_min_value")


@case(46)
async def stream_that_fails(bench: Bench) -> None:
    """A failure in the middle is an event with a nested error, and the stock client raises it."""
    failing = f"{PROMPT} [[latency:1]][[fail:content_policy_violation]]"
    async with bench.sdk(max_retries=0) as client:

        async def read() -> None:
            events = await client.images.generate(
                model="gpt-image-2", prompt=failing, quality="low", stream=True
            )
            async for _ in events:
                pass

        with pytest.raises(openai.APIError) as raised:
            await read()
    answer = await bench.ask(prompt=failing, stream=True)
    [(name, data)] = _events(answer.text)

    assert (200, "error", "error") == (answer.status_code, name, data["type"])
    assert {"message", "type", "param", "code"} <= data["error"].keys()
    assert "moderation_blocked" == raised.value.code


@case(47)
async def heartbeats(bench: Bench) -> None:
    """Comments keep a slow stream awake, and clients see none of them."""
    text = (await bench.ask(prompt=f"{PROMPT} [[latency:2]]", stream=True)).text
    comments = [line for line in text.split("\n") if line.startswith(":")]

    assert comments
    assert ["image_generation.completed"] == [name for name, _ in _events(text)]


# Models, keys, headers and retries.


@case(48)
async def models(bench: Bench) -> None:
    """The list and each of its models; a slash in a name is one however it is written."""
    get = bench.running.client.get
    listed = (await get("/v1/models")).json()
    shown = [
        (await get(f"/v1/models/{name}")).json()
        for name in ("gpt-image-2", "vendor%2Ffox", "vendor/fox")
    ]
    unknown = await get("/v1/models/foo")

    assert "list" == listed["object"]
    assert "gpt-image-2" in {model["id"] for model in listed["data"]}
    for model in [*listed["data"], *shown]:
        assert {"id", "object", "created", "owned_by"} <= model.keys()
        assert ("model", int) == (model["object"], type(model["created"]))
    assert_refused(
        unknown,
        status=404,
        param="model",
        code="model_not_found",
        message="The model 'foo' does not exist",
    )


@case(49)
async def keys(bench: Bench) -> None:
    """A wrong key is shown masked; without one there is no code."""
    wrong = await bench.post(MINIMAL, authorization="Bearer sk-1234567890abcdef5678")
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=bench.running.url) as client:
        none = await client.post("/v1/images/generations", content=b"{}", headers=headers)

    assert_refused(wrong, status=401, param=None, code="invalid_api_key")
    assert wrong.json()["error"]["message"].startswith(
        "Incorrect API key provided: sk-1234****5678"
    )
    assert_refused(none, status=401, param=None, code=None)
    assert none.json()["error"]["message"].startswith("You didn't provide an API key.")


@case(50)
async def unknown_paths(bench: Bench) -> None:
    """OpenAI says nothing at all; lenient says where to go."""
    for method, path in (("POST", "/v1/images/variations"), ("GET", "/v1/nope")):
        answer = await bench.running.client.request(method, path)
        assert answer.headers["x-request-id"]
        if bench.strict:
            assert (404, b"") == (answer.status_code, answer.content)
            assert "nosniff" == answer.headers["x-content-type-options"]
        else:
            assert 404 == answer.status_code
            assert {"message", "type", "param", "code"} == answer.json()["error"].keys()


@case(51)
async def rate_limits(bench: Bench) -> None:
    """Images per minute are told as OpenAI tells them, and the stock client waits as told."""
    authorization = f"Bearer {HURRIED_KEY}"
    body = MINIMAL | {"quality": "low"}
    first = await bench.post(body, authorization=authorization)
    second = await bench.post(body, authorization=authorization)
    headers = second.headers

    assert 200 == first.status_code
    assert_refused(second, status=429, kind="input-images", param=None, code="rate_limit_exceeded")
    assert 1 <= int(headers["retry-after"]) <= 60
    assert int(headers["retry-after"]) == -(-int(headers["retry-after-ms"]) // 1000)
    assert "1" == headers["x-ratelimit-limit-input-images"]
    assert "0" == headers["x-ratelimit-remaining-input-images"]
    assert re.fullmatch(
        r"(\d+m)?(\d+(\.\d+)?s)|\d+ms|0s", headers["x-ratelimit-reset-input-images"]
    )


@case(51)
async def waits_as_told(bench: Bench) -> None:
    """The stock client comes back twice after a 429, and says so."""
    slow = MINIMAL | {"quality": "low", "prompt": f"{PROMPT} [[latency:60]]"}
    authorization = f"Bearer {NARROW_KEY}"
    first = await bench.post(slow, authorization=authorization, prefer="respond-async")
    error, counts = await _attempts(bench, NARROW_KEY)

    assert 202 == first.status_code
    assert isinstance(error, openai.RateLimitError)
    assert "input-images" == error.type
    assert ["0", "1", "2"] == counts


async def _attempts(bench: Bench, key: str) -> tuple[openai.APIStatusError, list[str]]:
    """Return what the stock client raises, and the retry counts of its attempts."""
    counts: list[str] = []

    async def note(request: httpx.Request) -> None:
        counts.append(request.headers["x-stainless-retry-count"])

    async with (
        httpx.AsyncClient(event_hooks={"request": [note]}) as http_client,
        bench.sdk(key, http_client=http_client) as client,
    ):
        with pytest.raises(openai.APIStatusError) as raised:
            await client.images.generate(model="gpt-image-2", prompt=PROMPT, quality="low")
    return raised.value, counts


@case(52)
async def quotas(bench: Bench) -> None:
    """Without money the stock client tries once."""
    error, counts = await _attempts(bench, POOR_KEY)

    assert isinstance(error, openai.RateLimitError)
    assert ("insufficient_quota", "insufficient_quota") == (error.type, error.code)
    assert "false" == error.response.headers["x-should-retry"]
    assert ["0"] == counts


@case(53)
async def hard_limits(bench: Bench) -> None:
    """A hard limit is 400 and tried once; ours is the cap of one call."""
    error, counts = await _attempts(bench, CAPPED_KEY)

    assert isinstance(error, openai.BadRequestError)
    assert "cost_limit_exceeded" == error.code
    assert ["0"] == counts


@case(54)
async def moderation(bench: Bench) -> None:
    """What is blocked says at which stage; the stock client can read it."""
    for marker, stage in (
        ("[[submit:moderation_blocked]]", "input"),
        ("[[fail:content_policy_violation]]", "unknown"),
    ):
        async with bench.sdk() as client:
            with pytest.raises(openai.BadRequestError) as raised:
                await client.images.generate(model="gpt-image-2", prompt=f"{PROMPT} {marker}")
        error = raised.value
        assert isinstance(error.body, dict)

        assert (IGUE, "moderation_blocked") == (error.type, error.code)
        details = error.body["moderation_details"]
        assert stage == details["moderation_stage"]
        assert isinstance(details["categories"], list)


@case(55)
async def failures(bench: Bench) -> None:
    """A failure of ours names the request; what was perhaps charged is tried once only."""
    async with bench.sdk() as client:
        with pytest.raises(openai.InternalServerError) as raised:
            await client.images.generate(
                model="gpt-image-2", prompt=f"{PROMPT} [[empty-results]]", quality="low"
            )
    error = raised.value

    assert (502, "server_error") == (error.status_code, error.type)
    assert error.request_id
    assert "false" == error.response.headers["x-should-retry"]


@case(56)
async def retries_join(bench: Bench) -> None:
    """A retry of a call that runs is attached to it."""
    before = await bench.submits()
    body = MINIMAL | {"quality": "low", "prompt": f"{PROMPT} of case 56 [[latency:2]]"}
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.post(body, x_stainless_retry_count="0"))
        async with asyncio.timeout(20):
            while await bench.submits() == before:  # noqa: ASYNC110 - it is the upstream that knows
                await asyncio.sleep(0.05)
        second = await bench.post(body, x_stainless_retry_count="1")

    assert first.result().json()["data"] == second.json()["data"]
    assert "true" == second.headers["x-gateway-joined"]
    assert 1 == await bench.submits() - before


@case(57)
async def twins(bench: Bench) -> None:
    """Two calls that are alike and no retries are two pictures."""
    before = await bench.submits()
    body = MINIMAL | {"quality": "low", "prompt": f"{PROMPT} of case 57"}
    answers = await asyncio.gather(
        *(bench.post(body, x_stainless_retry_count="0") for _ in range(2))
    )

    assert [200, 200] == [answer.status_code for answer in answers]
    assert 2 == await bench.submits() - before


@case(58)
async def long_renders(bench: Bench) -> None:
    """Headers come before Node gives up; what comes after that is test_long_waits.py."""
    assert ServerSettings().wait_ms < 300_000
    assert bench.running.gateway.front.images.wait_s < 300


@case(59)
async def media_types(bench: Bench) -> None:
    """JSON says that it is; the SDK reads base64, and links of those who read links only."""
    answer = await bench.post(MINIMAL | {"quality": "low"})
    async with bench.sdk() as client:
        read = await client.images.generate(model="gpt-image-2", prompt=PROMPT, quality="low")
    assert read.data is not None
    [item] = read.data

    assert "application/json" == answer.headers["content-type"].partition(";")[0]
    assert isinstance(item, SdkImage)
    assert item.b64_json
    if not bench.strict:
        linked = (await bench.picture(model="dall-e-3", quality="standard"))["data"][0]
        assert linked["url"].startswith(bench.running.url)


@case(60)
async def webhooks(bench: Bench) -> None:
    """The stock client unwraps what is delivered, to the byte, and the vector on record."""
    await bench.ask(callback_url=f"{bench.receiver.url}/{bench.mode}")
    async with asyncio.timeout(30):
        while not (told := [x for x in bench.receiver.requests if bench.mode in x.target]):  # noqa: ASYNC110 - the receiver serves both
            await asyncio.sleep(0.05)
    secrets = TeamSecrets(bench.running.gateway.store, SystemClock(), token_bytes)
    secret = (await secrets.of_team(TeamId("design"))).current
    async with bench.sdk() as client:
        event = client.webhooks.unwrap(told[0].body, told[0].headers, secret=secret)
    vector = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    signed = signed_headers([vector], delivery="wh_1", at_ms=1_700_000_000_000, body=b"{}")

    assert "image.task.completed" == event.type
    assert "v1,LJiFYOCCmqvwqPA/12DErpJSht34gJjQQCEObEGzG2w=" == signed["webhook-signature"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[Mode, Bench]]:
    """Serve one gateway of each mode for the whole table."""
    async with benches(tmp_path_factory.mktemp("conformance")) as running:
        yield running


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    "one", [pytest.param(one, id=f"{one.number}{one.mark}-{one.play.__name__}") for one in CASES]
)
async def test_case(served: dict[Mode, Bench], one: Case, mode: Mode) -> None:
    """The case holds in this mode."""
    await one.play(served[mode])
