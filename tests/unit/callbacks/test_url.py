from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from gateway.callbacks.url import check_callback_url
from gateway.domain.destinations import parse_allowed
from gateway.domain.errors import InvalidRequest
from gateway.network.guard import Guard
from tests.support.receiver import Names

NAMES = Names(
    {
        "hooks.example": [["93.184.215.14", "2606:4700::1111"]],
        "inside.example": [["10.0.0.1"]],
        "hooks.internal": [["10.0.0.1"]],
    }
)
GUARD = Guard([parse_allowed("hooks.internal")], lookup=NAMES)


def failing_with(error: OSError) -> Guard:
    """Return a guard whose lookups fail so."""

    async def fail(_: str) -> Sequence[str]:
        raise error

    return Guard(lookup=fail)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/done?token=a%20b",
        "https://93.184.215.14:8443/",
        "http://hooks.internal/",
        "https://hooks.example/" + "x" * (2048 - 22),
    ],
)
async def test_a_good_url_is_returned_as_it_was_given(url: str) -> None:
    """Public hosts by https, allowed ones by either scheme, up to 2048 characters."""
    assert url == await check_callback_url(url, GUARD)


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        (7, "invalid_type", "a string"),
        (None, "invalid_type", "a string"),
        ("https://hooks.example/" + "x" * 2027, "string_above_max_length", "2048 characters"),
        ("", "invalid_value", "https://"),
        ("http://hooks.example/", "invalid_value", "https://"),
        ("https://127.0.0.1/", "invalid_value", "public Internet"),
        ("https://[::ffff:10.0.0.1]/", "invalid_value", "public Internet"),
        ("https://inside.example/", "invalid_value", "public Internet"),
        ("https://2130706433/", "invalid_value", "neither a name nor an address"),
        ("https://user:hunter2@hooks.example/", "invalid_value", "user name"),
    ],
)
async def test_a_bad_url_is_told_by_its_field(url: object, code: str, words: str) -> None:
    """The refusal names callback_url and what is wrong, and repeats neither URL nor address."""
    with pytest.raises(InvalidRequest, match=r"^Invalid 'callback_url': ") as caught:
        await check_callback_url(url, GUARD)

    assert ("callback_url", code) == (caught.value.param, caught.value.code)
    assert words in caught.value.message
    assert "hunter2" not in caught.value.message
    assert "10.0" not in caught.value.message


async def test_a_host_that_does_not_exist_is_refused_as_one_inside() -> None:
    """The two cannot be told apart, so that names of the network inside cannot be found out."""
    unknown = failing_with(socket.gaierror(socket.EAI_NONAME, "no such name"))
    with pytest.raises(InvalidRequest) as missing:
        await check_callback_url("https://gone.example/", unknown)
    with pytest.raises(InvalidRequest) as inside:
        await check_callback_url("https://inside.example/", GUARD)

    assert inside.value.message == missing.value.message


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "later"), OSError("broken")])
async def test_a_lookup_that_fails_refuses_nobody(error: OSError) -> None:
    """A name server that is down for a moment fails no call: each attempt looks again."""
    url = "https://hooks.example/"

    assert url == await check_callback_url(url, failing_with(error))
