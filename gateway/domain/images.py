"""What a picture is asked for with, and what comes back."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Self

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class Operation(StrEnum):
    """What is done: a picture from words, or from words and pictures."""

    GENERATION = "generation"
    EDIT = "edit"


class PictureFormat(StrEnum):
    """The file formats we recognise by their magic numbers; values as OpenAI names them."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        """Return the IANA media type."""
        return f"image/{self.value}"


@dataclass(frozen=True, slots=True)
class Output:
    """What a picture is delivered as, whatever the upstream makes.

    `compression` is the quality of jpeg and webp in percent; 100 leaves a picture of the right
    format as it came, to the byte.
    """

    format: PictureFormat = PictureFormat.PNG
    compression: int = 100

    def is_met_by(self, made: PictureFormat) -> bool:
        """Tell whether a picture of this format is delivered as it came."""
        if made is not self.format:
            return False
        return made is PictureFormat.PNG or self.compression == 100  # noqa: PLR2004 - per cent


#: What a call that says nothing of it gets.
PLAIN_PNG = Output()


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture in the asset store: its key, size in bytes and recognised format."""

    key: str
    size_bytes: int
    format: PictureFormat


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"1024x1536"``; ValueError for anything else."""
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError("expected WIDTHxHEIGHT in pixels, for example 1024x1024")
        return cls(int(match[1]), int(match[2]))

    @property
    def pixels(self) -> int:
        """The area."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class KeptReference:
    """A picture to edit that is in the asset store, by the SHA-256 of its bytes in hexadecimal.

    `url` is where it was fetched from, empty for one that the call brought along. `place` tells
    the copies apart that calls of a team have of the same bytes; older gateways had one for all.
    """

    digest: str
    format: PictureFormat
    size_bytes: int
    url: str = field(default="", repr=False, compare=False)
    place: str = field(default="", compare=False)

    @property
    def said(self) -> str:
        """What the call said: a link may give other bytes each time and is the same link."""
        return self.url or self.digest


@dataclass(frozen=True, slots=True)
class LinkedReference:
    """A picture to edit behind a link, which the upstream fetches by itself."""

    url: str = field(repr=False)

    @property
    def said(self) -> str:
        """What the call said."""
        return self.url


Reference = KeptReference | LinkedReference


@dataclass(frozen=True, slots=True)
class References:
    """What an edit is made from, in the order it was given; `mask` is where it may be changed."""

    pictures: tuple[Reference, ...] = ()
    mask: Reference | None = None

    @property
    def all(self) -> tuple[Reference, ...]:
        """The pictures, and the mask after them."""
        return self.pictures if self.mask is None else (*self.pictures, self.mask)

    @property
    def kept(self) -> tuple[KeptReference, ...]:
        """Those that are in the asset store, each once."""
        return tuple(dict.fromkeys(one for one in self.all if isinstance(one, KeptReference)))


#: What a picture from words alone is made from.
NO_REFERENCES = References()


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One call as the client wrote it, checked field by field; None where it said nothing.

    `auto` is still `auto` here: `service/images.py` resolves it before anything is priced.
    `response_format` is what the answer has, `url` or `b64_json`; `stream` asks for events, with so
    many `partial_images` before each picture.
    `max_cost_microusd` is the most the whole call may cost; `callback_url` wants to hear its end.
    """

    model: str
    prompt: str
    n: int = 1
    size: str = "auto"
    quality: str = "auto"
    background: str = "auto"
    output_format: str = "png"
    output_compression: int = 100
    moderation: str = "auto"
    response_format: str = "b64_json"
    stream: bool = False
    partial_images: int = 0
    user: str | None = None
    safety_identifier: str | None = None
    max_cost_microusd: int | None = None
    callback_url: str | None = None
    references: References = NO_REFERENCES


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture a render is asked for, with nothing left to guess: what is priced and sent.

    `references` is how many pictures it is made from, `masked` whether a mask says where.
    `background` and `output_format` are what is best asked for; what is delivered may be converted.
    """

    operation: Operation
    prompt: str
    size: Size
    quality: str
    references: int = 0
    masked: bool = False
    background: str = "auto"
    output_format: str = "png"


def remembered(operation: Operation, *, size: str, quality: str, references: int) -> Picture:
    """Return a picture as the record of its task has it: all but the prompt, which is dropped.

    It is enough to tell what was made by a flat price (`pricing.final`). ValueError for a size
    that is none.
    """
    return Picture(operation, "", Size.parse(size), quality, references)


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one render by price category (protocols/evolink.md §4.4).

    Whether cached counts are inside the uncached ones is unknown; they are kept apart.
    """

    text_input: int = 0
    text_cached_input: int = 0
    image_input: int = 0
    image_cached_input: int = 0
    image_output: int = 0
    text_output: int = 0

    def plus(self, other: TokenUsage) -> TokenUsage:
        """Return the tokens of two renders together."""
        mine, others = asdict(self), asdict(other)
        return TokenUsage(**{category: mine[category] + others[category] for category in mine})

    @property
    def input_total(self) -> int:
        """All tokens that went in."""
        return self.text_input + self.text_cached_input + self.image_input + self.image_cached_input

    @property
    def output_total(self) -> int:
        """All tokens that came out."""
        return self.image_output + self.text_output
