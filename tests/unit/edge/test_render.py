import asyncio
import base64
import json
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.images import ImageRequest, TokenUsage
from gateway.domain.task import FailureKind, RenderState
from gateway.edge.render import (
    CHUNK_BYTES,
    completed_fields,
    pictures_of,
    render_answer,
    render_links,
    usage_fields,
)
from gateway.tasks.live import Outcome
from tests.support.clock import NOON_MS
from tests.support.factories import a_picture_in_store, a_render, a_result, an_outcome

REQUEST = ImageRequest(model="gpt-image-1.5", prompt="a cat")
USAGE = TokenUsage(text_input=18, image_output=196)


async def _pieces(picture: bytes, piece_bytes: int) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(picture), piece_bytes):
        yield picture[start : start + piece_bytes]


def _answer(
    picture: bytes,
    *,
    piece_bytes: int = CHUNK_BYTES,
    usage: TokenUsage | None = None,
    request: ImageRequest = REQUEST,
) -> tuple[int, list[bytes]]:
    async def run() -> tuple[int, list[bytes]]:
        outcome = an_outcome(size_bytes=len(picture), usage=usage)
        length, chunks = render_answer(outcome, request, [_pieces(picture, piece_bytes)])
        return length, [chunk async for chunk in chunks]

    return asyncio.run(run())


@given(
    picture=st.binary(min_size=1, max_size=64)
    | st.builds(
        lambda size, seed: random.Random(seed).randbytes(size),
        st.integers(min_value=1, max_value=5000),
        st.integers(),
    ),
    piece_bytes=st.integers(min_value=1, max_value=500).map(lambda third: 3 * third),
)
def test_pieces_join_to_the_exact_picture(picture: bytes, piece_bytes: int) -> None:
    """Whatever its size, the answer is JSON of the announced length around the exact picture."""
    length, chunks = _answer(picture, piece_bytes=piece_bytes)
    body = b"".join(chunks)
    encoded = json.loads(body)["data"][0]["b64_json"]

    assert length == len(body)
    assert base64.b64encode(picture).decode() == encoded


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_no_chunk_is_longer_than_a_piece(size: int) -> None:
    """Each piece is passed on by itself: memory does not grow with the picture."""
    picture = random.Random(size).randbytes(size)
    _, chunks = _answer(picture)

    assert 2 + -(-size // CHUNK_BYTES) == len(chunks)
    assert max(map(len, chunks)) <= CHUNK_BYTES // 3 * 4
    assert picture == base64.b64decode(b"".join(chunks[1:-1]), validate=True)


async def test_head_goes_out_before_the_picture_is_read() -> None:
    """The first chunk needs no piece, and each piece is asked for only when it is needed."""
    asked = []

    async def pieces() -> AsyncGenerator[bytes, None]:
        for number in range(2):
            asked.append(number)
            yield b"abc"

    _, chunks = render_answer(an_outcome(size_bytes=6), REQUEST, [pieces()])
    order = [(chunk[:1], list(asked)) async for chunk in chunks]

    assert order == [(b"{", []), (b"Y", [0]), (b"Y", [0, 1]), (b'"', [0, 1])]


async def test_an_answer_that_is_broken_off_closes_the_picture() -> None:
    """A client that hangs up half-way leaves no open picture behind."""
    closed = []

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"abc"
        finally:
            closed.append("closed")

    _, chunks = render_answer(an_outcome(size_bytes=300), REQUEST, [pieces()])
    async with aclosing(cast("AsyncGenerator[bytes, None]", chunks)) as opened:
        head, piece = await anext(opened), await anext(opened)

    assert (b"{", b"YWJj") == (head[:1], piece)
    assert ["closed"] == closed


def _three_with_one_missing(*usages: TokenUsage | None) -> Outcome:
    """Build a task of three pictures of 3, 4 and 5 bytes, the second of which failed."""
    first, second, third = usages or (None, None, None)
    failed = a_result(failure=FailureKind.GENERATION_FAILED, usage=second)
    return an_outcome(
        a_render(
            0,
            state=RenderState.COMPLETED,
            result=a_result(stored=a_picture_in_store(0, size_bytes=3), usage=first),
        ),
        a_render(1, state=RenderState.FAILED, result=failed),
        a_render(
            2,
            state=RenderState.COMPLETED,
            result=a_result(stored=a_picture_in_store(2, size_bytes=5), usage=third),
        ),
    )


async def test_several_pictures_come_in_order_and_those_that_failed_are_left_out() -> None:
    """Each picture is in its own slot, and the length is that of the whole answer."""
    outcome = _three_with_one_missing()
    pieces = [_pieces(b"abc", 3), _pieces(b"defgh", 3)]
    length, chunks = render_answer(outcome, REQUEST, pieces)
    body = b"".join([chunk async for chunk in chunks])

    assert length == len(body)
    assert [{"b64_json": "YWJj"}, {"b64_json": "ZGVmZ2g="}] == json.loads(body)["data"]
    assert [0, 2] == [int(picture.key.rpartition("/")[2]) for picture in pictures_of(outcome)]


@pytest.mark.parametrize(
    ("usages", "told"),
    [
        ((USAGE, None, USAGE), (36, 392)),
        # What failed and was counted all the same is part of what the call used.
        ((USAGE, USAGE, USAGE), (54, 588)),
        ((None, None, USAGE), (18, 196)),
    ],
)
async def test_usage_is_that_of_all_renders_together(
    usages: tuple[TokenUsage | None, ...], told: tuple[int, int]
) -> None:
    """OpenAI tells one usage for one call."""
    pieces = [_pieces(b"abc", 3), _pieces(b"defgh", 3)]
    _, chunks = render_answer(_three_with_one_missing(*usages), REQUEST, pieces)
    usage = json.loads(b"".join([chunk async for chunk in chunks]))["usage"]

    assert told == (usage["input_tokens"], usage["output_tokens"])


def test_fields() -> None:
    """The answer has OpenAI's fields in OpenAI's order, with the resolved values."""
    _, chunks = _answer(b"abc", usage=USAGE)

    assert json.loads(b"".join(chunks)) == {
        "created": NOON_MS // 1000,
        "background": "opaque",
        "data": [{"b64_json": "YWJj"}],
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "usage": {
            "input_tokens": 18,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 18},
            "output_tokens": 196,
            "output_tokens_details": {"image_tokens": 196, "text_tokens": 0},
            "total_tokens": 214,
        },
    }


async def test_links_in_place_of_pictures() -> None:
    """The same answer with `url` for each picture, and no picture is read."""
    urls = ["http://x/v1/assets/a.png", "http://x/v1/assets/b.png"]
    length, chunks = render_links(_three_with_one_missing(), REQUEST, urls)
    body = b"".join([chunk async for chunk in chunks])

    assert length == len(body)
    assert [{"url": url} for url in urls] == json.loads(body)["data"]
    assert ["created", "background", "data", "output_format", "quality", "size"] == list(
        json.loads(body)
    )


@pytest.mark.parametrize(
    ("usage", "told"),
    [(None, None), (USAGE, {"input_tokens": 18, "output_tokens": 196, "total_tokens": 214})],
)
def test_the_event_of_a_picture(usage: TokenUsage | None, told: dict[str, int] | None) -> None:
    """Fields and their order are protocols/openai_images.md §5, the usage its own."""
    outcome = _three_with_one_missing(USAGE, USAGE, usage)
    request = ImageRequest(model="m", prompt="p", safety_identifier="u")
    fields = completed_fields(outcome.task, outcome.delivered[1], request)
    used = fields.pop("usage", None)

    assert {
        "b64_json": "",
        "created_at": NOON_MS // 1000,
        "size": "1024x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "png",
        "safety_identifier": "u",
    } == fields
    assert isinstance(used, dict) == (told is not None)
    assert told is None or told.items() <= used.items()  # type: ignore[union-attr]


def test_order_of_fields() -> None:
    """Keys come as they were seen on OpenAI's wire (protocols/openai_images.md §4)."""
    _, chunks = _answer(b"abc", usage=USAGE)

    assert list(json.loads(b"".join(chunks))) == [
        *("created", "background", "data", "output_format", "quality", "size", "usage"),
    ]


def test_usage_is_left_out_when_the_upstream_told_none() -> None:
    """No usage is better than an invented one."""
    _, chunks = _answer(b"abc")

    assert "usage" not in json.loads(b"".join(chunks))


@pytest.mark.parametrize("identifier", ["user-1", "", '","b64_json":"', "b64_json"])
def test_safety_identifier_is_echoed(identifier: str) -> None:
    """What the client sent comes back and cannot be taken for the picture's place."""
    request = ImageRequest(model="m", prompt="p", safety_identifier=identifier)
    _, chunks = _answer(b"abc", request=request)
    answer = json.loads(b"".join(chunks))

    assert (identifier, [{"b64_json": "YWJj"}]) == (answer["safety_identifier"], answer["data"])


def test_safety_identifier_is_left_out_when_there_was_none() -> None:
    """What the client did not send is not there, rather than null."""
    _, chunks = _answer(b"abc")

    assert "safety_identifier" not in json.loads(b"".join(chunks))


def test_usage_fields_fold_cached_tokens_in() -> None:
    """OpenAI's shape knows text and image; cached tokens count as what they are."""
    usage = TokenUsage(
        text_input=1,
        text_cached_input=10,
        image_input=100,
        image_cached_input=1000,
        image_output=10_000,
        text_output=100_000,
    )

    assert usage_fields(usage) == {
        "input_tokens": 1111,
        "input_tokens_details": {"image_tokens": 1100, "text_tokens": 11},
        "output_tokens": 110_000,
        "output_tokens_details": {"image_tokens": 10_000, "text_tokens": 100_000},
        "total_tokens": 111_111,
    }


def test_pieces_can_be_joined() -> None:
    """Pieces are whole groups of three bytes, or their base64 would have padding inside."""
    assert CHUNK_BYTES % 3 == 0
