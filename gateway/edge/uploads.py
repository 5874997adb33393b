"""`multipart/form-data` → fields in memory and files on disk, as the bytes come.

What stock clients send is protocols/openai_images.md §3.1. Names of files are nobody's business
here: they are not read, and whatever they hold goes nowhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from gateway.assets.spool import Spool, SpooledFile
from gateway.domain.errors import InvalidRequest

#: Fields and files of one form; OpenAI knows fewer than thirty names, and 18 files.
MAX_PARTS = 128
#: Of one field that is no file, in bytes: a prompt of 32,000 characters has at most 128,000.
MAX_FIELD_BYTES = 256 * 1024
#: Of all of them.
MAX_FIELDS_BYTES = 1024 * 1024
#: Fields that are files also when they come without a file name.
FILE_FIELDS = frozenset({"image", "image[]", "mask", "markup"})
#: Headers of one part, and bytes of each: litellm sends whole paths as file names.
MAX_HEADERS = 16
MAX_HEADER_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a form: the field it came in, the type it was said to have, its bytes.

    `named` says that it had a file name; browsers send one without where no file was chosen.
    """

    field: str
    declared_type: str
    file: SpooledFile
    named: bool


@dataclass(frozen=True, slots=True)
class Form:
    """What a form holds, in the order it came."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[Upload] = field(default_factory=list)


def boundary_of(content_type: str) -> str | None:
    """Return the boundary of a form, which may be quoted; None when it is no form.

    Raises InvalidRequest for a form without a boundary.
    """
    kind: str
    options: dict[str, str]
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        return None
    boundary = options.get("boundary", "")
    if not boundary or "\n" in boundary or not boundary.isascii():
        raise _broken("there is no boundary in the Content-Type header")
    return boundary


async def read_form(
    body: AsyncIterator[bytes], boundary: str, spool: Spool, *, max_file_bytes: int
) -> Form:
    """Read a form to its end.

    Raises InvalidRequest for what is no form or more of one than anybody needs, and
    AssetUnavailableError when the disk does not take it.
    """
    reading = _Reading(spool, max_file_bytes)
    try:
        with PushMultipartParser(
            boundary,
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
            max_segment_count=MAX_PARTS,
        ) as parser:
            async for chunk in body:
                # What comes after the end (an epilogue) is read and dropped.
                if not chunk or parser.closed:
                    continue
                for event in parser.parse(chunk):
                    await reading.take(event)
    except ParserLimitReached as error:
        raise _broken(f"{_first_lower(error)}") from None
    except MultipartError as error:
        raise _broken(_first_lower(error)) from None
    return reading.form


class _Reading:
    """A form as far as it has been read."""

    def __init__(self, spool: Spool, max_file_bytes: int) -> None:
        self.form = Form()
        self._spool = spool
        self._max_file_bytes = max_file_bytes
        self._fields_bytes = 0
        self._name = ""
        self._text: bytearray | None = None
        self._upload: Upload | None = None

    async def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """Take in one event of the parser."""
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is None:
            await self._end()
        elif self._upload is not None:
            await self._add_to_file(self._upload, bytes(event))
        elif self._text is not None:
            self._add_to_field(self._text, event)

    def _begin(self, part: MultipartSegment) -> None:
        self._name = part.name or ""
        if part.filename is None and self._name not in FILE_FIELDS:
            self._text = bytearray()
            return
        self._upload = Upload(
            self._name, part.content_type or "", self._spool.open(), bool(part.filename)
        )

    async def _add_to_file(self, upload: Upload, content: bytes) -> None:
        if upload.file.size_bytes + len(content) > self._max_file_bytes:
            raise too_large(upload.field, self._max_file_bytes)
        await upload.file.write(content)

    def _add_to_field(self, text: bytearray, content: bytes | bytearray) -> None:
        self._fields_bytes += len(content)
        if len(text) + len(content) > MAX_FIELD_BYTES or self._fields_bytes > MAX_FIELDS_BYTES:
            raise _broken(f"the field '{self._name[:100]}' is too long")
        text += content

    async def _end(self) -> None:
        if self._upload is not None:
            await self._upload.file.finish()
            self.form.files.append(self._upload)
        elif self._text is not None:
            try:
                self.form.fields[self._name] = self._text.decode()
            except UnicodeDecodeError:
                raise _broken(f"the field '{self._name[:100]}' is not UTF-8") from None
        self._upload = self._text = None


def too_large(param: str, limit_bytes: int) -> InvalidRequest:
    """Return the refusal of a file that is larger than a reference may be."""
    return InvalidRequest(
        f"Invalid file '{param}': the file is larger than {limit_bytes // 1_000_000} MB.",
        param=param,
        code="file_too_large",
    )


def _broken(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"We could not parse the multipart form of your request: {reason}.", param=None, code=None
    )


def _first_lower(error: Exception) -> str:
    text = str(error.args[0]) if error.args else type(error).__name__
    return text[:1].lower() + text[1:]
