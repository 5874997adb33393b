from __future__ import annotations

import secrets

import pytest

from gateway.access.admin_key import weak_admin_key


@pytest.mark.parametrize("make", [secrets.token_urlsafe, secrets.token_hex])
def test_random_keys_are_strong(make: object) -> None:
    """What a random source makes is taken, whatever comes out of it."""
    assert callable(make)
    assert {None} == {weak_admin_key(make(32)) for _ in range(200)}


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "characters that no HTTP header"),
        ("Zk3vQ9 pW7xT2mN8bR5cY1dL", "characters that no HTTP header"),
        ("Zk3vQ9üpW7xT2mN8bR5cY1dL", "characters that no HTTP header"),
        ("Zk3vQ9-pW7xT2mN8bR5cY1d", "too short"),
        ("ab12ab12ab12ab12ab12ab12ab12", "repeats itself"),
        ("x-01234567-Zk3vQ9pW7xT2mN8b", "along a row"),
        ("x-fedcbazy-Zk3vQ9pW7xT2mN8b", "along a row"),
        ("QWERTYUI-Zk3vQ9pW7xT2mN8bR5", "along a row"),
        ("sk-admin-change-me-please-2026", "words that stand in examples"),
        ("your-secret-master-password-k3v", "words that stand in examples"),
    ],
)
def test_weak_keys_are_refused_with_a_reason(key: str, reason: str) -> None:
    """Each kind of weakness has its own words, which never repeat the key."""
    told = weak_admin_key(key)

    assert told is not None
    assert reason in told
    assert not key or key not in told


@pytest.mark.parametrize("key", ["Zk3vQ9-pW7xT2mN8bR5cY1dL", "test-Zk3vQ9pW7xT2mN8bR5cY1dLk"])
def test_a_word_in_a_long_key_does_not_weaken_it(key: str) -> None:
    """What counts is how much is left without it."""
    assert weak_admin_key(key) is None
