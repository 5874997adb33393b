"""Forms of every kind that nearly are forms, and ways in which bodies come over a wire.

What is drawn is what clients, proxies and attackers write: boundaries, headers of parts, lengths
that are no lengths, ends that never come. Most of it is one step away from a form that is right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from hypothesis import strategies as st

from tests.support.fuzzing import OTHER, damaged
from tests.support.uploads import a_bomb, a_large_picture, a_picture

CRLF = b"\r\n"

#: Contents of files: pictures, what looks like one, and what is none.
PICTURES = [a_picture(), a_picture("JPEG"), a_picture("WEBP"), a_picture(alpha=True)]
FILES = [
    *PICTURES,
    a_picture()[:30],
    a_picture("JPEG")[:-10],
    a_bomb(),
    a_large_picture(200_000),
    a_picture() + bytes(400_000),
    b"",
    b"\x00" * 4_000,
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"--x-boundary-x\r\n",
    b"\r\n--x-boundary-x--\r\n",
]

#: Names of fields: right ones, wrong ones, and what breaks headers.
NAMES = [
    *(b"image", b"image[]", b"mask", b"markup", b"images", b"model", b"prompt", b"n", b"size"),
    *(b"", b"image[0]", b"IMAGE", b"a" * 300, b"a" * 9_000, b"\x00", b'a\\"b', b"\xff\xfe", b"a;b"),
    *(b"user", b"stream", b"output_format", b"output_compression", b"n\r\n", b"svg[model]"),
]

VALUES = [
    *(
        b"1",
        b"2",
        b"0",
        b"abc",
        b"",
        b"null",
        b"low",
        b"1024x1024",
        b"true",
        b"webp",
        b"50",
        b"\xff",
    ),
    *(b"\x00", b"x" * 40_000, b"x" * 300_000, "é".encode() * 40, b"99999999999999999999", b"1.5"),
]

#: Headers beside the one that names the part.
JUNK = [
    *(b"Content-Type: image/png", b"Content-Type: text/plain; charset=utf-16", b"Content-Type:"),
    *(
        b"Content-Transfer-Encoding: base64",
        b"Content-Length: 5",
        b"X: " + b"y" * 9_000,
        b"nocolon",
    ),
    *(
        b": empty",
        b"X-Folded: a\r\n b",
        b"\x00: \x00",
        b"Content-Type: multipart/mixed; boundary=x",
    ),
    b'Content-Disposition: form-data; name="image"',
]

DISPOSITIONS = [
    b'form-data; name="%s"',
    b'form-data; name="%s"; filename="a.png"',
    b'form-data; name="%s"; filename="../../etc/passwd"',
    b"form-data; name=\"%s\"; filename*=UTF-8''%%e2%%82%%ac.png",
    b'form-data; name="%s"; filename="' + b"f" * 5_000 + b'"',
    b'form-data; filename="a.png"',
    b"form-data; name=%s",
    b'attachment; name="%s"',
    b'form-data; name="%s',
    b"",
]

BOUNDARIES = [
    *(b"x-boundary-x", b"-", b"x", b"----WebKitFormBoundaryAAAAAAAA", b"b" * 70, b"b" * 2_000),
    *(b"a b", b"a'()+_,-./:=?", b"x-boundary-x--", b"x-boundary-xx"),
]

#: What the Content-Type may be; a %s stands for the boundary.
TYPES = [
    *[b"multipart/form-data; boundary=%s"] * 24,
    b'multipart/form-data; boundary="%s"',
    b"Multipart/Form-Data; charset=utf-8; boundary=%s",
    b"multipart/form-data",
    b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=%s; boundary=other",
    b"multipart/mixed; boundary=%s",
    b"application/x-www-form-urlencoded",
    b"application/json",
    b"\xff",
    b"",
]

FIELDS = ((b"model", b"gpt-image-1.5"), (b"prompt", b"blue"), (b"quality", b"low"))


class Framing(StrEnum):
    """How a body says where it ends."""

    LENGTH = "length"
    CHUNKS = "chunks"
    TINY_CHUNKS = "tiny chunks"
    #: The next ones are no HTTP, or less of it than is said.
    SHORT = "fewer bytes than come"
    LONG = "more bytes than come"
    BROKEN_CHUNKS = "a chunk that is none"
    UNENDED_CHUNKS = "no last chunk"
    BOTH = "a length and chunks"
    NO_NUMBER = "a length that is none"


#: Framings after which a server may say in its own words that this is no HTTP.
NO_HTTP = frozenset({Framing.SHORT, Framing.BROKEN_CHUNKS, Framing.BOTH, Framing.NO_NUMBER})
#: Framings whose end never comes.
ENDLESS = frozenset({Framing.LONG, Framing.UNENDED_CHUNKS})
#: What comes of a body whose end does not.
ENDLESS_BYTES = 8 * 1024


class Manner(StrEnum):
    """How a client sends."""

    AT_ONCE = "at once"
    IN_PIECES = "in pieces"
    DRIPPING = "byte by byte at first"
    ASKING = "after 100 Continue"
    CLOSING = "closing its half then"
    LEAVING = "gone before the end"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call: its path, its Content-Type, its body, and how that goes over the wire."""

    path: str
    content_type: bytes
    body: bytes = field(repr=False)
    framing: Framing = Framing.LENGTH
    manner: Manner = Manner.AT_ONCE

    def head(self, key: str) -> bytes:
        """Return the request's first lines, up to the empty one."""
        lines = [
            f"POST {self.path} HTTP/1.1".encode(),
            b"Host: x",
            f"Authorization: Bearer {key}".encode(),
            *([b"Content-Type: " + self.content_type] if self.content_type else []),
            *([b"Expect: 100-continue"] if self.manner is Manner.ASKING else []),
            *self._lengths(),
        ]
        return CRLF.join([*lines, b"", b""])

    def _lengths(self) -> list[bytes]:
        size, chunked = len(self.body), b"Transfer-Encoding: chunked"
        match self.framing:
            case Framing.LENGTH:
                return [b"Content-Length: %d" % size]
            case Framing.SHORT:
                return [b"Content-Length: %d" % (size // 2)]
            case Framing.LONG:
                return [b"Content-Length: %d" % (size + 1_000)]
            case Framing.BOTH:
                return [b"Content-Length: %d" % size, chunked]
            case Framing.NO_NUMBER:
                return [b"Content-Length: -5"]
        return [chunked]

    def sent(self) -> bytes:
        """Return the body as it goes over the wire."""
        match self.framing:
            case Framing.CHUNKS | Framing.BOTH:
                return _chunked(self.body, 4_000) + b"0\r\n\r\n"
            case Framing.TINY_CHUNKS:
                return (
                    _chunked(self.body[:2_000], 1) + _chunked(self.body[2_000:], 977) + b"0\r\n\r\n"
                )
            case Framing.UNENDED_CHUNKS:
                return _chunked(self.body, 4_000)
            case Framing.BROKEN_CHUNKS:
                return _chunked(self.body, 4_000) + b"zz\r\n\r\n"
        return self.body


def _chunked(body: bytes, size: int) -> bytes:
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def _part(disposition: bytes, content: bytes, *headers: bytes) -> bytes:
    lines = [*([b"Content-Disposition: " + disposition] if disposition else []), *headers]
    return CRLF.join([*lines, b"", content])


def _good_part(name: bytes, content: bytes, *, is_file: bool) -> bytes:
    ending = b'; filename="a.png"' if is_file else b""
    return _part(b'form-data; name="' + name + b'"' + ending, content)


@st.composite
def _odd_part(draw: st.DrawFn) -> bytes:
    disposition = draw(st.sampled_from(DISPOSITIONS))
    if b"%s" in disposition:
        disposition = disposition % draw(st.sampled_from(NAMES) | st.binary(max_size=6))
    content = draw(st.sampled_from(VALUES) | st.sampled_from(FILES) | st.binary(max_size=40))
    headers = draw(st.lists(st.sampled_from(JUNK), max_size=20))
    return _part(disposition, content, *headers)


@st.composite
def _parts(draw: st.DrawFn) -> list[bytes]:
    """Draw the parts of a form that is right, with some left out and others put in."""
    parts = [_good_part(*named, is_file=False) for named in FIELDS]
    files = st.sampled_from(PICTURES if draw(st.integers(0, 2)) else FILES)
    pictures = draw(st.lists(files, max_size=3))
    name = draw(st.sampled_from([b"image", b"image[]"]))
    parts += [_good_part(name, content, is_file=True) for content in pictures or PICTURES[:1]]
    if draw(st.integers(0, 3)) == 0:
        parts += [_good_part(b"mask", draw(st.sampled_from(FILES)), is_file=True)]
    if draw(st.integers(0, 2)) == 0:
        parts += draw(st.lists(_odd_part(), max_size=3))
    if draw(st.integers(0, 9)) == 0:
        parts += [_good_part(b"user", b"u", is_file=False)] * draw(
            st.sampled_from([20, 130, 2_000])
        )
    if draw(st.integers(0, 9)) == 0:
        # A form within a form.
        inner = b"--in\r\n" + draw(_odd_part()) + b"\r\n--in--\r\n"
        parts += [
            _part(b'form-data; name="image"', inner, b"Content-Type: multipart/mixed; boundary=in")
        ]
    if draw(st.integers(0, 4)) == 0:
        return draw(st.permutations(parts[:12]))
    return parts


@st.composite
def _forms(draw: st.DrawFn, boundary: bytes) -> bytes:
    line = draw(st.sampled_from([CRLF] * 19 + [b"\n"]))
    opening = b"--" + boundary + line
    body = b"".join(opening + part + line for part in draw(_parts()))
    body = draw(st.sampled_from([b""] * 30 + [b"\r\n", b"preamble\r\n"])) + body
    end = draw(
        st.sampled_from([b"--" + boundary + b"--\r\n"] * 40 + [b"", b"--" + boundary, b"--"])
    )
    return body + end + draw(st.sampled_from([b""] * 30 + [b"\r\n", b"x" * 5_000, opening]))


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """Draw a call that is nearly right."""
    boundary = draw(st.sampled_from([BOUNDARIES[0]] * 20 + BOUNDARIES))
    told = draw(st.sampled_from([boundary] * 60 + BOUNDARIES))
    content_type = draw(st.sampled_from(TYPES))
    form = _forms(boundary)
    # Of equal strategies hypothesis would make one.
    body = draw(draw(st.sampled_from([form] * 8 + [damaged(form), OTHER])))
    framing = draw(st.sampled_from([Framing.LENGTH] * 16 + [Framing.CHUNKS] * 8 + [*Framing]))
    return Attempt(
        path=draw(st.sampled_from(["/v1/images/edits"] * 3 + ["/v1/images/quotes"])),
        content_type=content_type % told if b"%s" in content_type else content_type,
        # The more has come, the longer a server waits for the rest.
        body=body[:ENDLESS_BYTES] if framing in ENDLESS else body,
        framing=framing,
        manner=draw(st.sampled_from([Manner.AT_ONCE] * 6 + [*Manner])),
    )
