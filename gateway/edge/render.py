"""Stored pictures → OpenAI's answer, without ever holding a whole picture.

The answer is JSON around long base64 strings: head, a picture in pieces, what is between two
pictures, the next one, tail. Pieces are multiples of three bytes, so that their base64 can be
joined.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

import orjson
import pybase64

from gateway.assets.interface import AssetUnavailableError
from gateway.domain.catalog import TRANSPARENT
from gateway.domain.errors import InternalError
from gateway.domain.images import ImageRequest, StoredPicture, TokenUsage
from gateway.domain.task import Render, Task
from gateway.service.task_json import usage_fields, usage_of
from gateway.tasks.live import Outcome

#: Bytes of picture per piece; 96 KiB become 128 KiB of base64.
CHUNK_BYTES = 3 * 32 * 1024

_SLOT = b'"b64_json":"'


def pictures_of(outcome: Outcome) -> tuple[StoredPicture, ...]:
    """Return the pictures of an answer in order."""
    return tuple(stored_of(render) for render in outcome.delivered)


def stored_of(render: Render) -> StoredPicture:
    """Return the picture of a render that was delivered."""
    if render.result is None or render.result.stored is None:
        raise AssertionError("only a delivered render has a picture")
    return render.result.stored


def render_answer(
    outcome: Outcome, request: ImageRequest, pieces: Sequence[AsyncGenerator[bytes]]
) -> tuple[int, AsyncIterator[bytes]]:
    """Return the length of the answer in bytes and the answer as chunks.

    `pieces` are the pictures' bytes, one stream for each. Fields are protocols/openai_images.md §4;
    size, quality and background are the resolved ones.
    """
    pictures = pictures_of(outcome)
    slots = [{"b64_json": ""} | revised for revised in _revised(outcome)]
    return streamed(around(answer_fields(outcome, request, slots)), pictures, pieces)


def render_links(
    outcome: Outcome, request: ImageRequest, urls: Sequence[str]
) -> tuple[int, AsyncIterator[bytes]]:
    """Return the length in bytes and the chunks of an answer with links in place of pictures."""
    data = [{"url": url} | revised for url, revised in zip(urls, _revised(outcome), strict=True)]
    fields = answer_fields(outcome, request, data)
    return streamed([orjson.dumps(fields)], (), ())


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
    return resumed(first, pieces)


async def resumed(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Go on with what was read of already."""
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def answer_fields(
    outcome: Outcome, request: ImageRequest, data: Sequence[Mapping[str, str]]
) -> dict[str, object]:
    """Return an answer with its pictures in `data` (protocols/openai_images.md §4)."""
    task, pictures = outcome.task, pictures_of(outcome)
    return {
        "created": task.created_ms // 1000,
        "background": background_of(request),
        "data": data,
        "output_format": pictures[0].format.value,
        "quality": task.quality,
        "size": task.size,
        **_identifier(request),
        **_usage(usage_of(outcome)),
    }


def completed_fields(task: Task, render: Render, request: ImageRequest) -> dict[str, object]:
    """Return the event of a picture, which goes into `b64_json` (protocols/openai_images.md §5).

    Its usage is that of this very picture.
    """
    return {
        "b64_json": "",
        "created_at": task.created_ms // 1000,
        "size": task.size,
        "quality": task.quality,
        "background": background_of(request),
        "output_format": stored_of(render).format.value,
        **_identifier(request),
        **_usage(None if render.result is None else render.result.usage),
    }


def background_of(request: ImageRequest) -> str:
    """Return what the background is: nothing is left out that nobody asked to leave out."""
    return TRANSPARENT if request.background == TRANSPARENT else "opaque"


def _revised(outcome: Outcome) -> list[dict[str, str]]:
    """Return what each picture was made of in truth, in the order of the pictures."""
    prompts = [outcome.revised_prompts.get(render.index) for render in outcome.delivered]
    return [{} if prompt is None else {"revised_prompt": prompt} for prompt in prompts]


def _identifier(request: ImageRequest) -> dict[str, object]:
    identifier = request.safety_identifier
    return {} if identifier is None else {"safety_identifier": identifier}


def _usage(usage: TokenUsage | None) -> dict[str, object]:
    return {} if usage is None else {"usage": usage_fields(usage)}
