"""Clocks for tests: one that stands still, and an event loop whose time jumps instead of passing.

Nothing is patched: code that sleeps or waits with a timeout really does, on a real event loop; only
the loop's idle time takes no time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")

#: 2026-11-23T12:00:00Z in Unix milliseconds.
NOON_MS = 1_795_435_200_000


class FixedClock:
    """Implements `Clock`; moves only when it is told to, both readings by the same amount."""

    def __init__(self, *, now_ms: int = NOON_MS, monotonic_s: float = 1000.0) -> None:
        self._now_ms = now_ms
        self._monotonic_s = monotonic_s

    def now_ms(self) -> int:
        """Return the wall-clock time it was set to, in Unix milliseconds."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Return the monotonic time it was set to, in seconds."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        self._now_ms += round(seconds * 1000)
        self._monotonic_s += seconds


class LoopClock:
    """Implements `Clock` on the time of the running event loop, which starts at zero."""

    def now_ms(self) -> int:
        """Return `NOON_MS` plus the loop's time."""
        return NOON_MS + round(self.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        """Return the loop's time in seconds."""
        return asyncio.get_running_loop().time()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer instead of sleeping until it is due."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return seconds since the loop was made, as far as its timers know."""
        return self._jumping.now_s


def in_virtual_time(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine on a fresh `VirtualTimeLoop` and return its result.

    Raises RuntimeError when it waits for something that no timer and no task will ever bring.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Report what is ready now; when nothing is, let the time until the next timer be over."""
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("everything waits and no timer is set")
        self.now_s += timeout
        return []
