"""How a key of ours is recognised in any text, and told only as far as it may be."""

from __future__ import annotations

import re

#: A key: ``gw-<team>-<43 base64url characters>``, the last part 256 random bits.
KEY = re.compile(r"gw-([a-z0-9][a-z0-9_-]{0,62})-([A-Za-z0-9_-]{43})")

#: Characters of the random part that may be shown: enough to tell keys apart, 24 of 256 bits.
_SHOWN_CHARS = 4


def shown(key: str) -> str:
    """Return as much of a key of ours as may be shown: ``gw-design-AbC4…``."""
    match = KEY.fullmatch(key)
    if match is None:
        raise ValueError("only keys made here have a part that may be shown")
    return _shown(match)


def without_keys(text: str) -> str:
    """Return a text that somebody sent, with every key of ours in it only as far as it is shown."""
    return KEY.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    return f"gw-{match[1]}-{match[2][:_SHOWN_CHARS]}…"
