"""Whatever an upstream answers: the call ends, the money is booked or given back, no second order.

Submits, polls and pictures are answered with arbitrary JSON, pages, half bodies, wrong types, huge
numbers and contradictions. The last poll and the last fetch of each are proper, so that a task
whose end was never told ends all the same.
"""

from __future__ import annotations

import asyncio
import io
from itertools import count
from pathlib import Path

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from gateway.domain.money import parse_microusd
from tests.support.fuzzing import (
    JSON,
    OTHER,
    SHORT,
    Fuzzed,
    assert_level,
    damaged,
    for_minutes,
    fuzzed_gateway,
    tried_with,
    written,
)
from tests.support.hostile_upstream import (
    HostileUpstream,
    Part,
    Reply,
    hostile_upstream,
    posts_unproven,
)

EXAMPLES, PARTS_AT_ONCE = 2, 40
EXAMPLES_OF_A_ROUND = 10


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "png")
    return buffer.getvalue()


PNG = _png()
FIELDS = {
    "created": 1,
    "duration": 4,
    "id": "$ID",
    "model": "gpt-image-1.5",
    "object": "image.generation.task",
    "progress": 100,
    "result_data": [{"url": "$LINK"}],
    "results": ["$LINK"],
    "status": "completed",
    "task_info": {"can_cancel": False, "estimated_time": 1},
    "type": "image",
    "usage": {"credits_used": 0.5, "image_output_tokens": 272, "text_input_tokens": 4},
    "error": {"code": "service_error", "message": "m", "type": "task_error"},
}
CREATED = Reply(200, written({name: FIELDS[name] for name in FIELDS if name != "error"}))
# Without an id: they end a task whatever id its submit was answered with.
DONE = Reply(200, written({name: FIELDS[name] for name in ("status", "results", "usage")}))
FAILED = Reply(200, written({"status": "failed", "error": FIELDS["error"]}))
PICTURE = Reply(200, PNG, (("Content-Type", "image/png"),))

CODES = st.sampled_from(
    ["content_filter", "insufficient_quota", "KEY_DISABLED", "no_available_channel", "x", "", 400]
)
#: What a field may hold beside anything.
LIKELY: dict[str, st.SearchStrategy[object]] = {
    "status": st.sampled_from(
        ["pending", "processing", "completed", "failed", "cancelled", "Canceled", "queued", ""]
    ),
    "id": st.sampled_from(["$ID", "$ID-other", "../credits", ""]),
    "results": st.lists(st.sampled_from(["$LINK", "http://169.254.169.254/", "gs://b/k", ""])),
    "usage": st.fixed_dictionaries(
        {},
        optional={
            "credits_used": st.floats(0, 100) | st.just(-1) | st.just(1e300) | st.just("3"),
            "credits_reserved": st.floats(0, 100) | st.just(10**30),
            "image_output_tokens": st.integers(-1, 10**6) | st.just(10**20) | JSON,
            "cost": st.fixed_dictionaries({"credits": st.floats(0, 100)}) | JSON,
        },
    ),
    "error": st.fixed_dictionaries({"code": CODES, "message": st.text(max_size=30)}) | CODES,
    "progress": st.integers(-10, 1_000),
}
#: Waits that are none: real ones are honoured, and would be waited for here.
WAITS = st.sampled_from(["", "-1", "0", "nan", "soon", "1e9", "Wed, 01 Jul 2020 12:00:00 GMT", "٣"])


@st.composite
def tasks(draw: st.DrawFn) -> bytes:
    """Draw a task that may contradict itself."""
    names = draw(st.sets(st.sampled_from(sorted(FIELDS)))) | {"id", "status"}
    task = {name: FIELDS[name] for name in names}
    for name in draw(st.sets(st.sampled_from(sorted(LIKELY)), max_size=3)):
        task[name] = draw(LIKELY[name] | JSON)
    return written(task)


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Draw an error in one of its forms, or nearly."""
    error = {"code": draw(CODES | JSON), "message": draw(st.text(max_size=20) | JSON)}
    forms = [{"error": error}, error, {"success": False, **error}, {"error": error["message"]}]
    return written(draw(st.sampled_from(forms)))


def replies(bodies: st.SearchStrategy[bytes], statuses: list[int]) -> st.SearchStrategy[Reply]:
    """Draw answers with these bodies or anything else."""
    whole = bodies | tasks() | envelopes() | JSON.map(written)
    return st.builds(
        Reply,
        status=st.sampled_from(statuses),
        body=whole | damaged(whole) | OTHER,
        headers=st.sampled_from([(), (("Content-Type", "text/html"),)])
        | WAITS.map(lambda wait: (("Retry-After", wait.encode().decode("latin-1")),)),
        missing=st.sampled_from([0, 0, 0, 0, 1, 1_000]),
        resets=st.sampled_from([False] * 9 + [True]),
    )


# A 429 to a submit slows everybody down, which is what it is for: another test's matter.
SUBMITS = st.just(CREATED) | replies(
    tasks(), [200, 200, 200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 409, 413, 500, 502, 503]
)
POLLS = replies(tasks(), [200, 200, 200, 200, 202, 301, 400, 401, 404, 429, 500, 503])
FETCHES = replies(st.just(PNG), [200, 200, 206, 302, 403, 404, 410, 429, 500])

PARTS = st.builds(
    lambda submit, polls, fetches, last: Part(submit, [*polls, last], [*fetches, PICTURE]),
    SUBMITS,
    st.lists(POLLS, max_size=3),
    st.lists(FETCHES, max_size=2),
    st.sampled_from([DONE, FAILED]),
)


class Stage:
    """Has calls made, each with a part of its own, and judges how they end."""

    def __init__(self, gateway: Fuzzed, upstream: HostileUpstream) -> None:
        self._gateway = gateway
        self._upstream = upstream
        self._names = count()
        self._tasks: list[str] = []

    async def play(self, parts: list[Part]) -> None:
        """Make a call for each part; raise AssertionError for whatever went wrong."""
        named = {f"part{next(self._names)}": part for part in parts}
        self._upstream.parts = named
        answers = await asyncio.gather(*(self._call(name) for name in named))
        await self._gateway.settle()
        self._tasks += [answer.headers["x-gateway-task-id"] for answer in answers]
        wrong = [
            (problems, repr(part)[:2_000])
            for part, answer in zip(parts, answers, strict=True)
            if (problems := [*_told_wrong(answer), *posts_unproven(part)])
        ]

        assert [] == wrong

    async def assert_booked(self) -> None:
        """The budget has what the tasks cost, and what was put right later; nothing is held."""
        client = self._gateway.client
        costs = [
            parse_microusd((await client.get(f"/v1/images/tasks/{task}")).json()["cost_usd"])
            for task in self._tasks
        ]
        for _ in range(20):
            spent = await self._gateway.settle()
            total = (await client.get("/v1/usage")).json()["total"]
            if spent == total["cost"]["microusd"]:
                break
            # Something was put right between the two.
            await asyncio.sleep(0.2)

        assert spent == total["cost"]["microusd"] > 0
        assert sum(costs) == spent - total["adjusted"]["microusd"]

    async def _call(self, name: str) -> httpx.Response:
        body = {"model": "gpt-image-1.5", "prompt": name, "quality": "low", "size": "1024x1024"}
        return await self._gateway.client.post("/v1/images/generations", json=body)


def _told_wrong(answer: httpx.Response) -> list[str]:
    if answer.status_code == 200:
        return [] if len(answer.json()["data"]) == 1 else ["no picture"]
    if answer.status_code in (400, 502, 503, 504):
        error = answer.json()["error"]
        # What the safety system refused is told with when it did.
        fields = {"moderation_details"} if error["code"] == "moderation_blocked" else set()
        if {"message", "type", "param", "code"} | fields == error.keys():
            return []
    return [f"{answer.status_code} {answer.text[:200]}"]


async def play(stage: Stage, tried: settings) -> None:
    """Play parts until hypothesis has had enough."""
    await tried_with(
        st.lists(PARTS, min_size=PARTS_AT_ONCE // 2, max_size=PARTS_AT_ONCE), stage.play, tried
    )


async def test_any_answer_ends_the_call_and_settles_the_money(tmp_path: Path) -> None:
    """Each call ends as a picture or in the envelope; nothing stays open or held."""
    async with (
        hostile_upstream() as upstream,
        fuzzed_gateway(tmp_path, upstream.url) as gateway,
    ):
        stage = Stage(gateway, upstream)
        await play(stage, settings(SHORT, max_examples=EXAMPLES))
        await stage.assert_booked()


@pytest.mark.fuzz
@pytest.mark.timeout(900)
async def test_memory_does_not_grow_however_long_answers_are_tried(tmp_path: Path) -> None:
    """Other answers each round; what the process keeps levels off."""
    async with (
        hostile_upstream() as upstream,
        fuzzed_gateway(tmp_path, upstream.url) as gateway,
    ):
        stage = Stage(gateway, upstream)
        tried = settings(SHORT, derandomize=False, max_examples=EXAMPLES_OF_A_ROUND)
        memory = await for_minutes(gateway, lambda: play(stage, tried))
        await stage.assert_booked()

    assert_level(memory)
