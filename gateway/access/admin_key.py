"""The key of the admin API, and which ones are refused before anything is served."""

from __future__ import annotations

import re

#: At the very least what a random hexadecimal text of 96 bits has.
MIN_CHARS = 24

#: Fewer different characters are a pattern, not a random text.
MIN_DISTINCT_CHARS = 8

#: What a bearer header carries unharmed.
_HEADER_SAFE = re.compile(r"[!-~]+")

#: Words that stand in examples, documentation and lists of defaults.
_DEFAULT_WORDS = (
    "admin",
    "change",
    "default",
    "example",
    "gateway",
    "letmein",
    "master",
    "password",
    "placeholder",
    "qwerty",
    "replace",
    "sample",
    "secret",
    "test",
    "your",
)

#: As much of a row, or of its reverse, is no accident.
_RUN_CHARS = 8
_ROWS = ("0123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "asdfghjkl")


def weak_admin_key(text: str) -> str | None:
    """Return why a key must not open the admin API, None when it may.

    The reason never repeats the key.
    """
    if _HEADER_SAFE.fullmatch(text) is None:
        return "the key has characters that no HTTP header carries; expected ASCII, no spaces"
    if len(text) < MIN_CHARS:
        return f"the key is too short; expected {MIN_CHARS} characters or more"
    if len(set(text)) < MIN_DISTINCT_CHARS:
        return f"the key repeats itself; expected {MIN_DISTINCT_CHARS} different characters or more"
    lowered = text.lower()
    starts = range(len(text) - _RUN_CHARS + 1)
    if any(lowered[at : at + _RUN_CHARS] in row for row in _both_ways() for at in starts):
        return "the key runs along a row of letters or digits; expected a random one"
    remainder = re.sub("|".join(_DEFAULT_WORDS), "", lowered)
    if remainder != lowered and len(remainder) < MIN_CHARS:
        return "the key is made of words that stand in examples; expected a random one"
    return None


def _both_ways() -> list[str]:
    """Return the rows that fingers run along, in both directions and round their ends."""
    rows = [row + row for row in _ROWS]
    return rows + [row[::-1] for row in rows]
