"""`Range` headers: which bytes a client asks for (RFC 9110 §14)."""

from __future__ import annotations

import re

from gateway.assets.interface import ByteSpan

_ONE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class RangeNotSatisfiableError(Exception):
    """None of the bytes that were asked for exists."""


def span_of(header: str, size_bytes: int) -> ByteSpan | None:
    """Return the bytes that a `Range` header asks for, or None for all of them.

    What is not one well-formed range of bytes is ignored, as §14.2 allows. Raises
    RangeNotSatisfiableError.
    """
    match = _ONE.fullmatch(header)
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        first, end = max(size_bytes - int(match[2]), 0), size_bytes
    else:
        first = int(match[1])
        end = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
        if match[2] and int(match[2]) < first:
            return None
    if first >= end:
        raise RangeNotSatisfiableError
    return ByteSpan(first, end)
