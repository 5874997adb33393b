"""A stored picture → OpenAI's answer, without ever holding the whole picture.

The answer is JSON around one long base64 string: head, the picture in pieces, tail. Pieces are
multiples of three bytes, so that their base64 can be joined.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import orjson
import pybase64

from gateway.domain.images import ImageRequest, TokenUsage
from gateway.domain.task import Task
from gateway.tasks.live import Delivered

#: Bytes of picture per piece; 192 KiB become 256 KiB of base64.
CHUNK_BYTES = 3 * 64 * 1024

_SLOT = "b64_json"


def render_answer(
    delivered: Delivered, task: Task, request: ImageRequest, pieces: AsyncGenerator[bytes]
) -> tuple[int, AsyncIterator[bytes]]:
    """Return the length of the answer in bytes and the answer as chunks.

    Fields are protocols/openai_images.md §4; size, quality and background are the resolved ones.
    """
    head, tail = _around(delivered, task, request)
    encoded_bytes = 4 * -(-delivered.picture.size_bytes // 3)
    return len(head) + encoded_bytes + len(tail), _chunks(head, pieces, tail)


async def _chunks(head: bytes, pieces: AsyncGenerator[bytes], tail: bytes) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        yield head
        async for piece in pieces:
            yield pybase64.b64encode(piece)
        yield tail


def _around(delivered: Delivered, task: Task, request: ImageRequest) -> tuple[bytes, bytes]:
    answer: dict[str, object] = {
        "created": task.created_ms // 1000,
        "background": "opaque",
        "data": [{_SLOT: ""}],
        "output_format": delivered.picture.format.value,
        "quality": task.quality,
        "size": task.size,
    }
    if request.safety_identifier is not None:
        answer["safety_identifier"] = request.safety_identifier
    if delivered.usage is not None:
        answer["usage"] = usage_fields(delivered.usage)
    body = orjson.dumps(answer)
    # Keys and all values before the slot are our own, so the first match is the slot.
    cut = body.index(f'"{_SLOT}":"'.encode()) + len(f'"{_SLOT}":"')
    return body[:cut], body[cut:]


def usage_fields(usage: TokenUsage) -> dict[str, object]:
    """Return OpenAI's usage object from the upstream's counts (protocols/evolink.md §16)."""
    image_input = usage.image_input + usage.image_cached_input
    text_input = usage.text_input + usage.text_cached_input
    return {
        "input_tokens": usage.input_total,
        "input_tokens_details": {"image_tokens": image_input, "text_tokens": text_input},
        "output_tokens": usage.output_total,
        "output_tokens_details": {
            "image_tokens": usage.image_output,
            "text_tokens": usage.text_output,
        },
        "total_tokens": usage.input_total + usage.output_total,
    }
