"""Whatever bytes a client sends for a picture: an answer in the envelope, and exact books."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from tests.support.fuzzing import (
    JSON,
    OTHER,
    SHORT,
    Fuzzed,
    assert_level,
    damaged,
    for_minutes,
    fuzzed_gateway,
    serving_upstream_at_once,
    tried_with,
    written,
)

#: Rounds of this many bodies at a time.
EXAMPLES, BODIES_AT_ONCE = 20, 20
EXAMPLES_OF_A_ROUND = 50

#: Values that the field may well take, so that some calls get through to the upstream.
LIKELY: dict[str, list[object]] = {
    "n": [1, 2, 1.0, None],
    "size": ["1024x1024", "1536x1024", "auto", None, "1:1"],
    "quality": ["low", "medium", "auto", None, "standard"],
    "background": ["opaque", "auto", "transparent", None],
    "output_format": ["png", "jpeg", "webp", None],
    "output_compression": [100, 50, None],
    "moderation": ["low", "auto", None],
    "stream": [False, True, None],
    "partial_images": [0, 2, None],
    "user": ["u", 123],
    "safety_identifier": ["s", None],
    "response_format": ["b64_json", "url", None],
    "style": ["vivid", None],
    "input_fidelity": ["high", None],
    "max_cost_usd": ["1", 0.5, 0, None],
    "callback_url": ["http://127.0.0.1:1/", None],
    "image_urls": [[], None],
    "images": [[]],
    "mask": [None],
}

FIELDS = st.sampled_from(sorted(LIKELY)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(LIKELY[name]) | JSON)
)
NAMES = st.sampled_from(["model", "prompt", "n ", "N", "", "response_format\u0000"]) | st.text(
    max_size=8
)


@st.composite
def calls(draw: st.DrawFn) -> bytes:
    """Draw a call that is nearly right."""
    call: dict[str, object] = {
        "model": "gpt-image-1.5",
        "prompt": "a fox",
        "quality": "low",
        "size": "1024x1024",
    }
    call |= dict(draw(st.lists(FIELDS, max_size=4)))
    if draw(st.integers(0, 3)) == 0:
        call[draw(NAMES)] = draw(JSON)
    if draw(st.integers(0, 7)) == 0:
        del call[draw(st.sampled_from(sorted(call)))]
    return written(call)


BODIES = calls() | damaged(calls()) | JSON.map(written) | OTHER


class Teller:
    """Sends bodies, judges the answers, and counts the pictures."""

    def __init__(self, gateway: Fuzzed) -> None:
        self._client = gateway.client
        self.pictures = 0

    async def send(self, bodies: list[bytes]) -> None:
        """Send some at once; raise AssertionError for an answer that no client understands."""
        headers = {"content-type": "application/json"}
        path = "/v1/images/generations"
        answers = await asyncio.gather(
            *(self._client.post(path, content=body, headers=headers) for body in bodies)
        )
        for answer in answers:
            self._judge(answer)

    def _judge(self, answer: httpx.Response) -> None:
        if answer.status_code == 200:
            self.pictures += _pictures_in(answer)
            return
        assert answer.status_code in (400, 403, 413, 422), answer.text
        assert {"message", "type", "param", "code"} == answer.json()["error"].keys()


def _pictures_in(answer: httpx.Response) -> int:
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("\n\n")
        return answer.text.count("event: image_generation.completed\n")
    return len(answer.json()["data"])


async def play(teller: Teller, tried: settings) -> None:
    """Try bodies until hypothesis has had enough."""

    async def send(bodies: list[bytes]) -> None:
        await teller.send(bodies)

    await tried_with(st.lists(BODIES, min_size=1, max_size=BODIES_AT_ONCE), send, tried)


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """Simulate an upstream that draws nothing and is done at once."""
    async with serving_upstream_at_once() as url:
        yield url


async def assert_exact(gateway: Fuzzed, upstream: str, pictures: int) -> None:
    """Each picture was submitted once and is paid for, and nothing else was."""
    spent = await gateway.settle()
    async with httpx.AsyncClient(base_url=upstream, timeout=30) as simulator:
        stats = (await simulator.get("/_sim/stats")).json()
        tasks = (await simulator.get("/_sim/tasks")).json()["tasks"]
    keys = {task["idempotency_key"] for task in tasks}

    assert pictures == stats["submits"] == stats["renders_completed"] == len(keys) > 0
    assert stats["cost_microusd"] == spent


async def test_any_body_is_answered_and_any_picture_is_paid_for_once(
    tmp_path: Path, upstream: str
) -> None:
    """Arbitrary, damaged, deep and huge JSON: no 5xx, and the books are the upstream's."""
    async with fuzzed_gateway(tmp_path, upstream) as gateway:
        teller = Teller(gateway)
        await play(teller, settings(SHORT, max_examples=EXAMPLES))

        await assert_exact(gateway, upstream, teller.pictures)


@pytest.mark.fuzz
@pytest.mark.timeout(900)
async def test_memory_does_not_grow_however_long_bodies_are_tried(
    tmp_path: Path, upstream: str
) -> None:
    """Other bodies each round; what the process keeps levels off."""
    async with fuzzed_gateway(tmp_path, upstream) as gateway:
        teller = Teller(gateway)
        tried = settings(SHORT, derandomize=False, max_examples=EXAMPLES_OF_A_ROUND)
        memory = await for_minutes(gateway, lambda: play(teller, tried))
        await assert_exact(gateway, upstream, teller.pictures)

    assert_level(memory)
