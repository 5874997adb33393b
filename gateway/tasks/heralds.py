"""Whether an upstream's callbacks come before polls find ends by themselves.

Only what was seen here and lately counts: callbacks depend on the way from the upstream to us,
which may break at any moment. Where they are trusted, polls are few (`latencies.py`).
"""

from __future__ import annotations

from collections import deque

#: So many of the newest ends are looked at, at least so many must have been seen, and this share
#: of them must have been announced.
LOOKED_AT, PROVEN_BY, TRUSTED_FROM = 32, 8, 0.9


class Heralds:
    """Remembers how the newest ends of each provider were noticed."""

    def __init__(self) -> None:
        self._announced: dict[str, deque[bool]] = {}

    def note(self, provider: str, *, announced: bool) -> None:
        """Note how an end was noticed; a callback that was not true counts as one that failed."""
        self._announced.setdefault(provider, deque(maxlen=LOOKED_AT)).append(announced)

    def trusted(self, provider: str) -> bool:
        """Tell whether ends of this provider can be expected to be announced."""
        seen = self._announced.get(provider, ())
        return len(seen) >= PROVEN_BY and sum(seen) >= TRUSTED_FROM * len(seen)
