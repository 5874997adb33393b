"""A JSON body whose long strings are pictures: those go to disk as the bytes come.

Everything else stays in memory and is parsed as JSON always is. A string that grows longer than
any prompt may be, and sooner one that begins like a picture, is cut out and a word that nobody can
guess stands in its place; what it held is read as a data URL of base64, which is all that a string
so long can be of use for.
"""

from __future__ import annotations

import binascii
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pybase64

from gateway.assets.spool import Spool, SpooledFile
from gateway.domain.errors import BodyTooLarge
from gateway.edge.params import too_long

#: A string of so many bytes stays in memory: any prompt does, however it is escaped.
INLINE_BYTES = 192 * 1024
#: One that begins like this only as long as this.
PICTURE, PICTURE_BYTES = b"data:image", 4 * 1024
#: OpenAI's limit of an `image_url` in characters (protocols/openai_images.md §3.2).
MAX_URL_CHARS = 20_971_520
#: The longest text of any other field: OpenAI's limit of a prompt (§2.1 there).
MAX_TEXT_CHARS = 32_000
#: What comes before the comma of a data URL.
MAX_HEAD_BYTES = 256

#: JSON up to the end of a string, over and over, as long as strings are short: most of them are.
_SHORT = re.compile(rb'(?:[^"]*+"(?:[^"\\]|\\.){0,64}+")++', re.DOTALL)
_ENDS = re.compile(rb'["\\]')
_HEAD = re.compile(r"data:(?P<type>[^;,]*)(;[^;,]*)*;base64", re.IGNORECASE)


@dataclass(slots=True)
class DataUrl:
    """A picture that a string held: its declared type and its bytes.

    `broken` says that it was no data URL of base64; `chars` is how long the string was.
    """

    file: SpooledFile
    declared_type: str = ""
    chars: int = 0
    broken: bool = False


@dataclass(frozen=True, slots=True)
class SpooledJson:
    """A body without its long strings, and those by the words that stand in their places."""

    text: bytes
    strings: dict[str, DataUrl] = field(default_factory=dict)


async def read_json(
    body: AsyncIterator[bytes], spool: Spool, *, max_rest_bytes: int
) -> SpooledJson:
    """Read a body to its end; whether it is JSON is seen later.

    Raises BodyTooLarge when what is not a long string is larger than `max_rest_bytes`, and
    AssetUnavailableError.
    """
    scanner = _Scanner(spool)
    async for chunk in body:
        await scanner.take(chunk)
        if len(scanner.rest) > max_rest_bytes:
            raise BodyTooLarge(max_rest_bytes)
    return SpooledJson(bytes(scanner.rest), scanner.strings)


def check_short(fields: Mapping[str, object], spooled: SpooledJson) -> None:
    """Raise InvalidRequest for a field whose text is so long that only a picture's may be."""
    for name, value in fields.items():
        if isinstance(value, str) and value in spooled.strings:
            raise too_long(name, MAX_TEXT_CHARS, spooled.strings[value].chars)


async def decode_data_url(text: str, spool: Spool) -> DataUrl:
    """Return the picture of a data URL that was short enough to stay in memory.

    Raises AssetUnavailableError.
    """
    sink = _Sink(spool.open())
    await sink.take(text.encode("utf-8", "surrogatepass"))
    return await sink.end()


class _Scanner:
    """Follows strings through JSON, which needs no more than quotes and backslashes."""

    def __init__(self, spool: Spool) -> None:
        self.rest = bytearray()
        self.strings: dict[str, DataUrl] = {}
        self._spool = spool
        self._nonce = secrets.token_hex(16)
        self._inside = False
        self._escaped = False
        #: Where in `rest` the string begins that is being read.
        self._begin = 0
        self._sink: _Sink | None = None

    async def take(self, chunk: bytes) -> None:
        position = 0
        while position < len(chunk):
            if not self._inside:
                position = self._outside(chunk, position)
                continue
            end, is_over = self._piece(chunk, position)
            await self._add(chunk[position:end])
            if is_over:
                await self._close()
            position = end + is_over

    def _outside(self, chunk: bytes, position: int) -> int:
        short = _SHORT.match(chunk, position)
        if short is not None:
            self.rest += short[0]
            position = short.end()
        quote = chunk.find(b'"', position)
        end = len(chunk) if quote < 0 else quote + 1
        self.rest += chunk[position:end]
        if quote >= 0:
            self._inside, self._begin = True, len(self.rest)
        return end

    def _piece(self, chunk: bytes, position: int) -> tuple[int, bool]:
        """Return where the string's bytes in this chunk end, and whether the string does."""
        if self._escaped:
            self._escaped = False
            position += 1
        while True:
            match = _ENDS.search(chunk, position)
            if match is None:
                return len(chunk), False
            if match[0] == b'"':
                return match.start(), True
            position = match.start() + 2
            if position > len(chunk):
                self._escaped = True
                return len(chunk), False

    async def _add(self, piece: bytes) -> None:
        if self._sink is not None:
            await self._sink.take(piece)
            return
        self.rest += piece
        length = len(self.rest) - self._begin
        is_picture = self.rest.startswith(PICTURE, self._begin)
        if length > (PICTURE_BYTES if is_picture else INLINE_BYTES):
            self._sink = _Sink(self._spool.open())
            begun = bytes(self.rest[self._begin :])
            del self.rest[self._begin :]
            await self._sink.take(begun)

    async def _close(self) -> None:
        self._inside = False
        if self._sink is not None:
            word = f"{self._nonce}.{len(self.strings)}"
            self.strings[word] = await self._sink.end()
            self._sink = None
            self.rest += word.encode()
        self.rest += b'"'


class _Sink:
    """Decodes one data URL, escaped as JSON is, into a file."""

    def __init__(self, file: SpooledFile) -> None:
        self._url = DataUrl(file)
        self._head: bytearray | None = bytearray()
        #: Base64 that is not decoded yet, and a backslash that came last.
        self._pending = bytearray()
        self._padded = False

    async def take(self, piece: bytes) -> None:
        url = self._url
        url.chars += len(piece)
        url.broken |= url.chars > MAX_URL_CHARS
        if url.broken:
            # What follows is only counted.
            return
        if self._head is not None:
            piece = self._past_head(self._head, piece)
        if piece:
            await self._decode(piece)

    def _past_head(self, head: bytearray, piece: bytes) -> bytes:
        head += piece
        before, comma, after = bytes(head).replace(b"\\/", b"/").partition(b",")
        if not comma:
            self._url.broken = len(head) > MAX_HEAD_BYTES
            return b""
        match = _HEAD.fullmatch(before.decode("latin-1"))
        if match is None or len(before) > MAX_HEAD_BYTES:
            self._url.broken = True
            return b""
        self._url.declared_type = match["type"].lower()
        self._head = None
        return after

    async def _decode(self, piece: bytes, *, last: bool = False) -> None:
        # Some encoders escape every slash.
        pending = (bytes(self._pending) + piece).replace(b"\\/", b"/")
        whole = len(pending) // 4 * 4
        if last:
            pending += b"=" * (-len(pending) % 4)
            whole = len(pending)
        elif b"\\" in pending[:whole]:
            # A backslash may be the last byte, until the one that it escapes is here.
            whole = pending.index(b"\\") // 4 * 4
        group, self._pending = pending[:whole], bytearray(pending[whole:])
        # Only the last group may be padded; and an escape of anything else is no base64.
        if (group and self._padded) or len(self._pending) > 4 + 2:
            self._url.broken = True
            return
        try:
            content = pybase64.b64decode(group, validate=True)
        except (binascii.Error, ValueError):
            self._url.broken = True
            return
        self._padded = group.endswith(b"=")
        await self._url.file.write(content)

    async def end(self) -> DataUrl:
        """Decode what is left, and finish the file."""
        if self._head is not None:
            self._url.broken = True
        elif not self._url.broken:
            await self._decode(b"", last=True)
        await self._url.file.finish()
        return self._url
