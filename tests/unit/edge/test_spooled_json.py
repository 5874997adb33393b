"""JSON whose long strings go to disk: the rest is as it was, and the pictures are whole."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.assets.spool import Spool
from gateway.domain.errors import BodyTooLarge
from gateway.edge import spooled_json
from gateway.edge.spooled_json import MAX_URL_CHARS, DataUrl, decode_data_url, read_json

LONG = 64


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def _content(url: DataUrl) -> bytes:
    return b"".join([chunk async for chunk in url.file.chunks()])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    picture=st.binary(max_size=200),
    words=st.text(max_size=50),
    padded=st.booleans(),
    escaped=st.booleans(),
    ascii_only=st.booleans(),
    size=st.integers(1, 99),
)
async def test_pictures_are_taken_out_of_any_json(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    picture: bytes,
    words: str,
    padded: bool,
    escaped: bool,
    ascii_only: bool,
    size: int,
) -> None:
    """Cut anywhere, escaped or not, with padding or without: what was sent is what is there."""
    monkeypatch.setattr(spooled_json, "INLINE_BYTES", LONG)
    monkeypatch.setattr(spooled_json, "PICTURE_BYTES", LONG)
    encoded = base64.b64encode(picture).decode()
    url = "data:image/png;base64," + (encoded if padded else encoded.rstrip("="))
    sent = {"prompt": words, "images": [{"image_url": url}, {"image_url": words}], "n": 1}
    try:
        text = json.dumps(sent, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    body = text.replace(b"/", b"\\/") if escaped else text
    with Spool(tmp_path) as spool:
        read = await read_json(_pieces(body, size), spool, max_rest_bytes=100_000)
        rest: Any = json.loads(read.text)
        found = rest["images"][0]["image_url"]
        taken = read.strings.get(found) or await decode_data_url(found, spool)

        assert (False, "image/png", picture) == (
            taken.broken,
            taken.declared_type,
            await _content(taken),
        )
    assert 1 == rest["n"]
    if rest["prompt"] not in read.strings:
        assert words == rest["prompt"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:image/png;base64",
        "data:image/png,abc",
        "data:image/png;base64,ab%d",
        "data:image/png;base64,ab==cdef",
        "data:image/png;base64,a",
        "data:image/png;base64,abcd\\nabcd",
        "data:" + "x" * 300 + ";base64,abcd",
        "https://example.com/" + "a" * 300,
    ],
)
async def test_what_is_no_data_url(tmp_path: Path, text: str) -> None:
    """Marked as broken, also when it comes in two pieces."""
    with Spool(tmp_path) as spool:
        assert (await decode_data_url(text, spool)).broken
        sink = spooled_json._Sink(spool.open())
        for piece in (text[:25], text[25:]):
            await sink.take(piece.encode())
        assert (await sink.end()).broken


async def test_a_long_picture_is_not_in_memory(tmp_path: Path) -> None:
    """Of megabytes of base64 a word is left, and the bytes are on disk."""
    picture = os.urandom(3_000_000)
    body = orjson.dumps({"images": [{"image_url": _url(picture)}] * 2, "prompt": "x"})
    with Spool(tmp_path) as spool:
        read = await read_json(_pieces(body, 65_536), spool, max_rest_bytes=1000)
        assert len(read.text) < 300
        assert 2 == len(read.strings)
        assert [picture] * 2 == [await _content(each) for each in read.strings.values()]


async def test_too_long_a_string(tmp_path: Path) -> None:
    """Counted to its end, and kept no further than its limit."""
    body = b'{"a":"data:image/png;base64,' + b"A" * (MAX_URL_CHARS + 5_000_000) + b'"}'
    with Spool(tmp_path) as spool:
        read = await read_json(_pieces(body, 1 << 20), spool, max_rest_bytes=1000)
        [url] = read.strings.values()

        assert url.broken
        assert MAX_URL_CHARS + 5_000_022 == url.chars
        assert url.file.size_bytes <= MAX_URL_CHARS


async def test_many_small_pictures_are_not_in_memory_either(tmp_path: Path) -> None:
    """Sixteen of them leave room for everything else."""
    entries = [{"image_url": _url(os.urandom(100_000))} for _ in range(16)]
    body = orjson.dumps({"images": entries, "prompt": "x" * 900})
    with Spool(tmp_path) as spool:
        read = await read_json(_pieces(body, 65_536), spool, max_rest_bytes=4000)

        assert 16 == len(read.strings)


async def test_too_much_beside_pictures(tmp_path: Path) -> None:
    """What has to be in memory has a limit of its own."""
    with Spool(tmp_path) as spool, pytest.raises(BodyTooLarge):
        await read_json(_pieces(b"[" + b"1," * 1000, 100), spool, max_rest_bytes=1000)


@pytest.mark.parametrize("body", [b"", b'{"a', b'{"a":"\\', b'"' + b"x" * 100, b'{"a":"b"}'])
async def test_what_is_not_long_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """To the byte, also what is no JSON: whoever parses it says so."""
    monkeypatch.setattr(spooled_json, "INLINE_BYTES", 1000)
    with Spool(tmp_path) as spool:
        assert body == (await read_json(_pieces(body, 3), spool, max_rest_bytes=1000)).text


def _url(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
