from __future__ import annotations

import base64
import json
import random
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.render import CHUNK_BYTES
from gateway.edge.sse import HEARTBEAT, EventLines
from tests.support.clock import in_virtual_time

KIND = "image_generation.completed"
FIELDS = {"b64_json": "", "size": "1024x1024"}
ERROR = {"message": "It\nbroke.", "type": "server_error", "param": None, "code": None}


async def _pieces(
    picture: bytes, piece_bytes: int = CHUNK_BYTES, *, breaks_at: int | None = None
) -> AsyncGenerator[bytes]:
    for start in range(0, len(picture), piece_bytes):
        if breaks_at is not None and start >= breaks_at:
            raise OSError("broken")
        yield picture[start : start + piece_bytes]


async def _event(picture: bytes, **fields: str) -> list[bytes]:
    lines = EventLines()
    return [chunk async for chunk in lines.picture(KIND, FIELDS | fields, _pieces(picture))]


async def test_a_picture() -> None:
    """A name, its JSON in one line with the kind in it, and an empty line."""
    assert (
        b"event: image_generation.completed\n"
        b'data: {"type":"image_generation.completed","b64_json":"YWJj","size":"1024x1024"}\n\n'
    ) == b"".join(await _event(b"abc"))


@given(st.text())
def test_what_a_client_sent_stays_within_its_line(identifier: str) -> None:
    """Whatever is echoed can neither end the line nor be taken for the picture's place."""
    body = b"".join(in_virtual_time(_event(b"abc", safety_identifier=identifier)))
    name, data = body.decode().removesuffix("\n\n").split("\n", 1)

    assert f"event: {KIND}" == name
    assert not {"\n", "\r"} & set(data)
    assert {"type": KIND, **FIELDS, "b64_json": "YWJj", "safety_identifier": identifier} == (
        json.loads(data.removeprefix("data: "))
    )


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
async def test_no_chunk_is_longer_than_a_piece(size: int) -> None:
    """Each piece is passed on by itself: memory does not grow with the picture."""
    picture = random.Random(size).randbytes(size)
    chunks = await _event(picture)

    assert 2 + -(-size // CHUNK_BYTES) == len(chunks)
    assert max(map(len, chunks)) <= CHUNK_BYTES // 3 * 4
    assert picture == base64.b64decode(b"".join(chunks[1:-1]), validate=True)


def test_an_error() -> None:
    """Nested, or clients take it for a picture; a line break in its text is none in the stream."""
    assert (
        b"event: error\n"
        b'data: {"type":"error","error":{"message":"It\\nbroke.","type":"server_error",'
        b'"param":null,"code":null}}\n\n'
    ) == EventLines().error(ERROR)


@pytest.mark.parametrize("breaks_at", [0, 6])
async def test_a_picture_that_broke_off_becomes_the_error(breaks_at: int) -> None:
    """For who reads names the later one counts, for who reads kinds the later key."""
    lines, body = EventLines(), bytearray()

    async def write() -> None:
        async for chunk in lines.picture(KIND, FIELDS, _pieces(b"abcdef+", 3, breaks_at=breaks_at)):
            body.extend(chunk)

    with pytest.raises(OSError, match="broken"):
        await write()
    body += lines.error(ERROR)
    block = body.decode().removesuffix("\n\n").split("\n")

    assert [f"event: {KIND}", "event: error"] == [block[0], block[2]]
    told = json.loads(block[1].removeprefix("data: "))
    assert ("error", ERROR) == (told["type"], told["error"])
    # What is written after it is an event of its own again.
    assert lines.error(ERROR) == EventLines().error(ERROR)


async def test_an_error_after_a_whole_picture() -> None:
    """It is an event of its own."""
    lines = EventLines()
    async for _ in lines.picture(KIND, FIELDS, _pieces(b"abc")):
        pass

    assert EventLines().error(ERROR) == lines.error(ERROR)


def test_a_heartbeat_is_a_comment() -> None:
    """Which clients skip; an event would be delivered as a bogus picture."""
    assert HEARTBEAT.startswith(b":")
    assert HEARTBEAT.endswith(b"\n\n")
