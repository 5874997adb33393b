"""What time it is, as something that is passed in."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two readings that must never be mixed: the calendar, and what only moves forward."""

    def now_ms(self) -> int:
        """Return the wall-clock time in Unix milliseconds (may jump)."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back; only differences mean anything."""
        ...
