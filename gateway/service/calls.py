"""What makes two calls the same call."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import orjson

from gateway.domain.accounts import Caller
from gateway.domain.errors import InvalidRequest
from gateway.domain.images import ImageRequest
from gateway.domain.task import Surface
from gateway.tasks.interface import Call

#: An `Idempotency-Key` may be this long.
MAX_KEY_CHARS = 255
#: A retry that says it is a later one than this says nothing.
MAX_COUNT = 100


def call_of(
    caller: Caller,
    path: str,
    request: ImageRequest,
    *,
    waiter: str,
    retry_count: str,
    idempotency_key: str,
    base_url: str,
    detached: bool = False,
    surface: Surface = Surface.OPENAI,
) -> Call:
    """Return a call's fingerprint, and which retry it says it is.

    `retry_count` is what `x-stainless-retry-count` says: OpenAI's SDKs send it with every call,
    others never (protocols/openai_images.md §9). `base_url` is where the client reaches this
    server; `detached` calls do not wait. Raises InvalidRequest for a key that is too long.
    """
    if len(idempotency_key) > MAX_KEY_CHARS:
        raise InvalidRequest(
            f"Invalid 'Idempotency-Key' header: it is longer than {MAX_KEY_CHARS} characters.",
            param=None,
            code="invalid_idempotency_key",
        )
    said = [caller.key_name, path, _said(request)]
    return Call(
        fingerprint=_digest(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)),
        waiter=waiter,
        count=_count(retry_count),
        idempotency=_digest(f"{path}\n{idempotency_key}".encode()) if idempotency_key else "",
        detached=detached,
        joins=caller.team.joins_retries,
        surface=surface,
        base_url=base_url if request.callback_url else "",
    )


def _said(request: ImageRequest) -> dict[str, object]:
    """Return what a call says, the pictures that it brings along by their digests."""
    pictures, mask = request.references.pictures, request.references.mask
    return asdict(request) | {
        "references": [each.said for each in pictures],
        "mask": None if mask is None else mask.said,
    }


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        return 0
    count = int(text[:4])
    return count if count <= MAX_COUNT else 0


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
