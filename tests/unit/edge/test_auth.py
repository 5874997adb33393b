import hashlib

import pytest

from gateway.access.file_keys import FileKeys
from gateway.domain.errors import NotAuthenticated
from gateway.edge.auth import authenticate, mask
from gateway.edge.record import record_of
from tests.support.factories import KEY, a_caller, a_request

CALLER = a_caller()
KEYS = FileKeys({hashlib.sha256(KEY.encode()).digest(): CALLER})
ASK = "Ask the team that runs this gateway for a key."
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header"
    " using Bearer auth (i.e. Authorization: Bearer YOUR_KEY). "
)


@pytest.mark.parametrize(
    "authorization", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER {KEY}", f"Bearer   {KEY} "]
)
async def test_a_known_key(authorization: str) -> None:
    """The caller is returned and the team noted; the scheme's case does not matter."""
    request = a_request(authorization=authorization)

    assert CALLER is await authenticate(request, KEYS, "")
    assert record_of(request).team == "design"


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", f"Basic {KEY}", KEY])
async def test_no_key(authorization: str) -> None:
    """A call without a bearer key is told how to send one; the code is null."""
    with pytest.raises(NotAuthenticated) as refusal:
        await authenticate(a_request(authorization=authorization), KEYS, "")

    assert (refusal.value.message, refusal.value.code) == (NO_KEY + ASK, None)


async def test_no_header() -> None:
    """A call without the header is a call without a key."""
    with pytest.raises(NotAuthenticated) as refusal:
        await authenticate(a_request(), KEYS, "https://help.example")

    assert refusal.value.message == (NO_KEY + "You can find your API key at https://help.example.")


@pytest.mark.parametrize(
    ("key", "shown"),
    [("sk-1234567890abcdef5678", "sk-1234****5678"), ("sk-short", "****")],
)
async def test_a_wrong_key_is_shown_masked(key: str, shown: str) -> None:
    """An unknown key is refused with enough of it to recognise it, and no team is noted."""
    request = a_request(authorization=f"Bearer {key}")
    with pytest.raises(NotAuthenticated) as refusal:
        await authenticate(request, KEYS, "")

    expected = f"Incorrect API key provided: {shown}. {ASK}"
    assert (expected, "invalid_api_key") == (refusal.value.message, refusal.value.code)
    assert record_of(request).team == "other"


async def test_a_wrong_key_is_told_where_to_find_one() -> None:
    """The text names the operator's page when there is one."""
    with pytest.raises(NotAuthenticated, match=r"at https://help\.example\.$"):
        await authenticate(a_request(authorization="Bearer sk-nope"), KEYS, "https://help.example")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("", "****"),
        ("x" * 19, "****"),
        ("sk-1234567890abcd5678", "sk-1234****5678"),
        ("abcdefghij0123456789", "abcdefg****6789"),
    ],
)
def test_mask(key: str, shown: str) -> None:
    """A key of 20 characters or more shows seven and four of them; a shorter one none."""
    assert shown == mask(key)
