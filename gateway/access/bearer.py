"""What a key of ours looks like: ``gw-<team>-<43 base64url characters>``.

The last part is 256 random bits. The team in it tells which slot of the store to ask, so that no
index over all keys is needed.
"""

from __future__ import annotations

import base64
import hashlib

from gateway.domain.ids import TeamId
from gateway.domain.keys import KEY

#: Bytes of randomness in a key.
SECRET_BYTES = 32


def make_key(team: TeamId, random_bytes: bytes) -> str:
    """Return a key of this team made of 32 random bytes; ValueError for any other number."""
    if len(random_bytes) != SECRET_BYTES:
        raise ValueError(f"a key is made of {SECRET_BYTES} random bytes")
    secret = base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode()
    return f"gw-{team}-{secret}"


def team_in(key: str) -> TeamId | None:
    """Return the team that a key of ours names, None for any other text."""
    match = KEY.fullmatch(key)
    return TeamId(match[1]) if match is not None else None


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key, the only form of it that is kept."""
    return hashlib.sha256(key.encode()).digest()
