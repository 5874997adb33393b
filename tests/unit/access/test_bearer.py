from __future__ import annotations

import hashlib

import pytest

from gateway.access.bearer import digest_of, make_key, team_in
from gateway.domain.ids import TeamId

KEY = make_key(TeamId("design-2_x"), bytes(range(32)))


def test_a_key_names_its_team() -> None:
    """The team is read back, also when its name holds the signs that part a key."""
    assert KEY.startswith("gw-design-2_x-")
    assert "design-2_x" == team_in(KEY)
    assert "a" == team_in(make_key(TeamId("a"), b"\xff" * 32))


@pytest.mark.parametrize("text", ["", "gw-design-short", "sk-" + KEY[3:], KEY + "A", KEY.upper()])
def test_other_texts_name_none(text: str) -> None:
    """What was not made here leads to no team."""
    assert team_in(text) is None


def test_a_key_is_256_random_bits() -> None:
    """43 characters of base64url hold every bit; fewer bytes are refused."""
    assert 43 == len(KEY.removeprefix("gw-design-2_x-"))
    with pytest.raises(ValueError, match="32 random bytes"):
        make_key(TeamId("a"), b"short")


def test_only_the_digest_is_kept() -> None:
    """SHA-256 of the whole key."""
    assert hashlib.sha256(KEY.encode()).digest() == digest_of(KEY)
