"""Fetch reference images as EvoLink does, and look whether they fit (protocols/evolink.md §4.6)."""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO

import aiohttp
from PIL import Image, UnidentifiedImageError

from gateway.simulator.model import MEGABYTE, ReferenceRule
from gateway.simulator.orders import Order

_TIMEOUT_S = 30.0
_AT_A_TIME = 32
_MASK_ALPHA = "Invalid mask image format - mask image missing alpha channel"
_MASK_SIZE = "Invalid mask image format - mask size does not match image size"

ReadOwn = Callable[[str], Awaitable[bytes | None]]
"""Return the content behind a link of our own, ``None`` for a foreign link; raise
``UnreachableError`` for one that is ours and leads nowhere."""


class UnreachableError(Exception):
    """Say that a link did not give a file."""


class TooLargeError(Exception):
    """Say that a file is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """Say what is wrong with a reference: the code and text that its task fails with."""

    code: str
    message: str
    param: str = "image_urls"


class ComplaintError(Exception):
    """Carry a complaint to the place that fails the task."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.message)
        self.complaint = complaint


async def download(url: str, max_bytes: int) -> bytes:
    """Return the file behind a link within 30 s.

    Raises ``UnreachableError`` for anything but a 2xx answer and ``TooLargeError`` beyond
    ``max_bytes``.
    """
    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            if not answer.ok:
                raise UnreachableError(f"the file host answered {answer.status}")
            content = bytearray()
            async for piece in answer.content.iter_any():
                content += piece
                if len(content) > max_bytes:
                    raise TooLargeError
            return bytes(content)
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as failure:
        raise UnreachableError("the file host did not answer") from failure


class Inspector:
    """Fetch and check the references of orders, some at a time."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    async def inspect(self, order: Order, read_own: ReadOwn) -> Complaint | None:
        """Return what is wrong with the references or the mask of an order, or ``None``."""
        rule = order.model.references
        if rule is None:
            return None
        try:
            async with self._turns:
                sizes = [
                    await self._size(link, rule, read_own, "image_urls")
                    for link in order.references
                ]
                if order.mask:
                    await self._check_mask(order.mask, rule, read_own, sizes[0])
        except ComplaintError as refused:
            return refused.complaint
        return None

    async def _size(
        self, link: str, rule: ReferenceRule, read_own: ReadOwn, param: str
    ) -> tuple[int, int]:
        content = await _read(link, rule, read_own, param)
        return await asyncio.to_thread(_measured, content, rule, param)

    async def _check_mask(
        self, link: str, rule: ReferenceRule, read_own: ReadOwn, size: tuple[int, int]
    ) -> None:
        content = await _read(link, rule, read_own, "mask_url")
        await asyncio.to_thread(_check_mask, content, size)


async def _read(link: str, rule: ReferenceRule, read_own: ReadOwn, param: str) -> bytes:
    try:
        inline = link.casefold().startswith("data:")
        content = _inline(link) if inline else await read_own(link)
        if content is None:
            content = await download(link, rule.max_bytes)
    except UnreachableError as failure:
        raise ComplaintError(
            Complaint("image_processing_error", f"Failed to download image: {failure}", param)
        ) from failure
    except TooLargeError as failure:
        raise _too_large(rule, param) from failure
    if len(content) > rule.max_bytes:
        raise _too_large(rule, param)
    return content


def _too_large(rule: ReferenceRule, param: str) -> ComplaintError:
    megabytes = rule.max_bytes // MEGABYTE
    return ComplaintError(
        Complaint("invalid_parameters", f"file size exceeds {megabytes}MB", param)
    )


def _inline(link: str) -> bytes:
    head, _, payload = link.partition(",")
    if not head.casefold().endswith(";base64"):
        raise UnreachableError("not a base64 data URL")
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error as mistake:
        raise UnreachableError("not base64") from mistake


def _measured(content: bytes, rule: ReferenceRule, param: str) -> tuple[int, int]:
    """Return width and height; raise ``ComplaintError`` for what is no picture or does not fit."""
    with _opened(content, param) as image:
        if (image.format or "").casefold() not in rule.formats:
            raise ComplaintError(Complaint("invalid_parameters", "unsupported file type", param))
        width, height = image.size
    low, high = rule.edge
    if not (low <= min(width, height) and max(width, height) <= high):
        raise ComplaintError(
            Complaint(
                "invalid_parameters", f"image dimensions must be between {low} and {high}", param
            )
        )
    if width * height > rule.max_area:
        raise ComplaintError(
            Complaint(
                "invalid_parameters", f"image must have at most {rule.max_area} pixels", param
            )
        )
    return width, height


def _check_mask(content: bytes, size: tuple[int, int]) -> None:
    with _opened(content, "mask_url") as mask:
        if mask.format != "PNG" or "A" not in mask.getbands():
            raise ComplaintError(Complaint("invalid_parameters", _MASK_ALPHA, "mask_url"))
        if mask.size != size:
            raise ComplaintError(Complaint("invalid_parameters", _MASK_SIZE, "mask_url"))


def _opened(content: bytes, param: str) -> Image.Image:
    """Return a picture that is known to be whole."""
    try:
        with Image.open(BytesIO(content)) as image:
            image.verify()
        return Image.open(BytesIO(content))
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as mistake:
        raise ComplaintError(
            Complaint("image_processing_error", "The image is corrupt or of an unknown type", param)
        ) from mistake
