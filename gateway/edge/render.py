"""Stored pictures → OpenAI's answer, without ever holding a whole picture.

The answer is JSON around long base64 strings: head, a picture in pieces, what is between two
pictures, the next one, tail. Pieces are multiples of three bytes, so that their base64 can be
joined.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import orjson
import pybase64

from gateway.assets.interface import AssetUnavailableError
from gateway.domain.errors import InternalError
from gateway.domain.images import ImageRequest, StoredPicture
from gateway.service.task_json import usage_fields, usage_of
from gateway.tasks.live import Outcome

#: Bytes of picture per piece; 192 KiB become 256 KiB of base64.
CHUNK_BYTES = 3 * 64 * 1024

_SLOT = b'"b64_json":"'


def pictures_of(outcome: Outcome) -> tuple[StoredPicture, ...]:
    """Return the pictures of an answer in order."""
    return tuple(
        render.result.stored
        for render in outcome.delivered
        if render.result is not None and render.result.stored is not None
    )


def render_answer(
    outcome: Outcome, request: ImageRequest, pieces: Sequence[AsyncGenerator[bytes]]
) -> tuple[int, AsyncIterator[bytes]]:
    """Return the length of the answer in bytes and the answer as chunks.

    `pieces` are the pictures' bytes, one stream for each. Fields are protocols/openai_images.md §4;
    size, quality and background are the resolved ones.
    """
    return streamed(around(_answer(outcome, request)), pictures_of(outcome), pieces)


def streamed(
    parts: Sequence[bytes],
    pictures: Sequence[StoredPicture],
    pieces: Sequence[AsyncGenerator[bytes]],
) -> tuple[int, AsyncIterator[bytes]]:
    """Return the length in bytes of the parts with the pictures between them, and its chunks."""
    encoded_bytes = sum(4 * -(-picture.size_bytes // 3) for picture in pictures)
    return sum(map(len, parts)) + encoded_bytes, _chunks(parts, pieces)


async def _chunks(
    parts: Sequence[bytes], pictures: Sequence[AsyncGenerator[bytes]]
) -> AsyncIterator[bytes]:
    for before, pieces in zip(parts, pictures, strict=False):
        yield before
        async with aclosing(pieces):
            async for piece in pieces:
                yield pybase64.b64encode(piece)
    yield parts[-1]


def around(body: dict[str, object]) -> list[bytes]:
    """Return a body as JSON, cut at every empty `b64_json`, where the pictures go."""
    # Inside of a JSON text the quotes would be escaped, so that every match is a slot.
    *heads, tail = orjson.dumps(body).split(_SLOT)
    return [*(head + _SLOT for head in heads), tail]


async def opened(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Read the first piece now: a picture that cannot be read must still become an error.

    Raises InternalError.
    """
    try:
        first = await anext(pieces)
    except (AssetUnavailableError, StopAsyncIteration) as error:
        raise InternalError from error
    return _resumed(first, pieces)


async def _resumed(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _answer(outcome: Outcome, request: ImageRequest) -> dict[str, object]:
    task, pictures = outcome.task, pictures_of(outcome)
    answer: dict[str, object] = {
        "created": task.created_ms // 1000,
        "background": "opaque" if request.background == "auto" else request.background,
        "data": [{"b64_json": ""} for _ in pictures],
        "output_format": pictures[0].format.value,
        "quality": task.quality,
        "size": task.size,
    }
    if request.safety_identifier is not None:
        answer["safety_identifier"] = request.safety_identifier
    usage = usage_of(outcome)
    if usage is not None:
        answer["usage"] = usage_fields(usage)
    return answer
