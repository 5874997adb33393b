"""What a key of ours looks like: ``gw-<team>-<43 base64url characters>``.

The last part is 256 random bits. The team in it tells which slot of the store to ask, so that no
index over all keys is needed.
"""

from __future__ import annotations

import base64
import hashlib
import re

from gateway.domain.ids import TeamId

#: Bytes of randomness in a key.
SECRET_BYTES = 32

_KEY = re.compile(r"gw-([a-z0-9][a-z0-9_-]{0,62})-([A-Za-z0-9_-]{43})")

#: Characters of the random part that may be shown: enough to tell keys apart, 24 of 256 bits.
_SHOWN_CHARS = 4


def make_key(team: TeamId, random_bytes: bytes) -> str:
    """Return a key of this team made of 32 random bytes; ValueError for any other number."""
    if len(random_bytes) != SECRET_BYTES:
        raise ValueError(f"a key is made of {SECRET_BYTES} random bytes")
    secret = base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()
    return f"gw-{team}-{secret}"


def team_in(key: str) -> TeamId | None:
    """Return the team that a key of ours names, None for any other text."""
    match = _KEY.fullmatch(key)
    return TeamId(match[1]) if match is not None else None


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key, the only form of it that is kept."""
    return hashlib.sha256(key.encode()).digest()


def shown(key: str) -> str:
    """Return as much of a key of ours as may be shown: ``gw-design-AbC4…``."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError("only keys made here have a part that may be shown")
    return f"{key[: match.start(2) + _SHOWN_CHARS]}…"
