import hashlib

import pytest

from gateway.access.file_keys import FileKeys
from gateway.domain.accounts import ApiKey, Caller
from tests.support.factories import KEY, a_caller, a_team


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


DESIGN, OPS = a_caller(), Caller(team=a_team(name="ops"), key=ApiKey("cli"))
KEYS = FileKeys({_digest(KEY): DESIGN, _digest("sk-ops"): OPS})


@pytest.mark.parametrize(("key", "caller"), [(KEY, DESIGN), ("sk-ops", OPS)])
async def test_a_known_key(key: str, caller: Caller) -> None:
    """A key leads to its own caller, wherever it stands in the file, and a file does not change."""
    assert caller is await KEYS.find(key)
    assert caller is await KEYS.refresh(key)


@pytest.mark.parametrize("key", ["", "sk-op", "sk-opss", "SK-OPS", _digest("sk-ops").hex(), "ÿ"])
async def test_an_unknown_key(key: str) -> None:
    """A near miss is a miss, and so is the digest of a key."""
    assert await KEYS.find(key) is None


async def test_the_table_is_a_copy() -> None:
    """Changing the table later changes nothing: a reload makes a new directory."""
    table = {_digest(KEY): DESIGN}
    keys = FileKeys(table)
    table.clear()

    assert DESIGN is await keys.find(KEY)
