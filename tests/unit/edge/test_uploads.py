"""Forms as they come: in any pieces, whole or broken."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.assets.spool import Spool
from gateway.domain.errors import InvalidRequest
from gateway.edge.uploads import MAX_FIELD_BYTES, MAX_PARTS, Form, boundary_of, read_form
from tests.support.uploads import Part, a_file, a_form, a_part

BOUNDARY = "x-boundary-x"


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
    yield b""


async def _read(
    folder: Path, body: bytes, *, size: int = 1000, max_file_bytes: int = 1_000_000
) -> tuple[Form, list[bytes]]:
    with Spool(folder) as spool:
        form = await read_form(_pieces(body, size), BOUNDARY, spool, max_file_bytes=max_file_bytes)
        files = [b"".join([chunk async for chunk in each.file.chunks()]) for each in form.files]
    return form, files


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
async def test_a_form_in_pieces(tmp_path: Path, size: int) -> None:
    """Fields and files are the same, however the bytes are cut."""
    picture = b"\r\n--x-boundary-" + bytes(range(256)) + b"\r\n--x-boundary\r\n"
    body = a_form([a_part("prompt", "füchse"), a_file(picture, "image[]"), a_part("n", "2")])
    form, files = await _read(tmp_path, body, size=size)

    assert {"prompt": "füchse", "n": "2"} == form.fields
    assert [picture] == files
    told = [(each.field, each.declared_type, each.named) for each in form.files]
    assert [("image[]", "image/png", True)] == told


async def test_a_picture_without_a_file_name_is_a_file(tmp_path: Path) -> None:
    """Its bytes are no text, whatever else is missing."""
    form, files = await _read(tmp_path, a_form([a_part("image", b"\xff\xd8")]))

    assert ({}, [b"\xff\xd8"]) == (form.fields, files)
    assert not form.files[0].named


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b;c"', "a b;c"),
        ("application/json", None),
        ("", None),
    ],
)
def test_boundaries(content_type: str, boundary: str | None) -> None:
    """With quotes or without; what is no form has none."""
    assert boundary == boundary_of(content_type)


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", 'multipart/form-data; boundary=""', "multipart/form-data; boundary=ü"],
)
def test_a_form_without_a_boundary(content_type: str) -> None:
    """Refused before anything is read."""
    with pytest.raises(InvalidRequest, match="boundary"):
        boundary_of(content_type)


def _many(count: int) -> list[Part]:
    return [a_part(f"f{number}", "x") for number in range(count)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        a_form([a_file(b"x")])[:-20],
        a_form(_many(MAX_PARTS + 1)),
        a_form([a_part("prompt", "x" * (MAX_FIELD_BYTES + 1))]),
        a_form([a_part(f"f{number}", "x" * MAX_FIELD_BYTES) for number in range(5)]),
        a_form([a_part("prompt", b"\xff\xfe")]),
        a_form([("X-Header: " + "x" * 9000, b"")]),
        a_form([("\r\n".join(f"X-{number}: 1" for number in range(17)), b"")]),
        a_form([a_file(bytes(1_000_001))]),
        b"--x-boundary-x\r\nno colon\r\n\r\n\r\n--x-boundary-x--",
    ],
    ids=range(11),
)
async def test_what_is_no_form_or_too_much_of_one(tmp_path: Path, body: bytes) -> None:
    """A 400 that says why, and no file left open or named."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no path
    with pytest.raises(InvalidRequest):
        await _read(tmp_path, body)

    assert before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no path
    assert [] == [*tmp_path.iterdir()]


_BYTES = st.binary(max_size=200) | st.sampled_from(
    [b"\r\n", b"--", b"\r\n--x-boundary-x", b"--x-boundary-x\r\n", b"\r\n--x-boundary-x--", b"\n"]
)
_HEADERS = st.sampled_from(
    [
        'Content-Disposition: form-data; name="image"; filename="a"',
        'Content-Disposition: form-data; name="n"',
        "Content-Disposition: form-data",
        "Content-Type: image/png",
        'Content-Disposition: form-data; name="a\\"b"; filename*=utf-8\'\'x',
        " folded",
        "Content-Length: 3",
        "",
    ]
)
_FORMS = st.lists(
    st.tuples(st.lists(_HEADERS, max_size=4), st.lists(_BYTES, max_size=4)), max_size=6
).map(lambda parts: a_form(("\r\n".join(headers), b"".join(content)) for headers, content in parts))


async def _survives(folder: Path, body: bytes, size: int) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no path
    try:
        form, files = await _read(folder, body, size=size, max_file_bytes=500)
    except InvalidRequest:
        pass
    else:
        assert sum(map(len, files)) + sum(map(len, form.fields.values())) <= len(body)
    assert before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no path
    assert [] == [*folder.iterdir()]


_WRONG = _FORMS.flatmap(
    lambda form: st.tuples(
        st.just(form), st.integers(0, len(form)), st.integers(0, 40), st.binary(max_size=6)
    ).map(lambda cut: cut[0][: cut[1]] + cut[3] + cut[0][cut[1] + cut[2] :])
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=_FORMS | _WRONG | st.binary(max_size=300), size=st.integers(1, 200))
async def test_any_bytes_at_all(tmp_path: Path, body: bytes, size: int) -> None:
    """Read or refused with a 400: nothing else is raised, nothing hangs, nothing is left."""
    await _survives(tmp_path, body, size)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@settings(
    max_examples=50_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=_FORMS | _WRONG | st.binary(max_size=3000), size=st.integers(1, 2000))
async def test_any_bytes_for_minutes(tmp_path: Path, body: bytes, size: int) -> None:
    """The same, with many more of them."""
    await _survives(tmp_path, body, size)
