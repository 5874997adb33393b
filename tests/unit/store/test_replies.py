"""Each kind of answer is read as what it is, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.store.client import Reply
from gateway.store.replies import bytes_of, fields_of, integer_of, list_of, text_of, texts_of


@pytest.mark.parametrize(
    ("read", "reply", "told"),
    [
        (bytes_of, b"\xff", b"\xff"),
        (text_of, "größe".encode(), "größe"),
        (integer_of, 7, 7),
        (list_of, [b"a", 1, None], [b"a", 1, None]),
        (texts_of, [b"a", b"b"], ["a", "b"]),
        (texts_of, {b"a"}, ["a"]),
        (fields_of, {b"name": b"value"}, {"name": "value"}),
        (fields_of, {}, {}),
    ],
)
def test_what_is_expected(read: Callable[[Reply], object], reply: Reply, told: object) -> None:
    """It is returned in the words of Python."""
    assert told == read(reply)


@pytest.mark.parametrize(
    ("read", "reply"),
    [
        (bytes_of, None),
        (text_of, 1),
        (integer_of, b"1"),
        (list_of, {b"a"}),
        (texts_of, b"a"),
        (texts_of, [1]),
        (fields_of, [b"name", b"value"]),
        (fields_of, {b"name": 1}),
    ],
)
def test_what_is_not(read: Callable[[Reply], object], reply: Reply) -> None:
    """A script that answers something else is a defect and must not pass for an answer."""
    with pytest.raises(TypeError):
        read(reply)
