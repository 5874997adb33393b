"""A limit of submits a second."""

import math


class Throttle:
    """Let through a number of calls a second, in bursts of at most one second's worth."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second or 1.0)
        self._left = self._most
        self._at_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Take one call and return 0, or return in how many seconds there is one to take."""
        if self._per_second is None:
            return 0.0
        gained = (now_s - self._at_s) * self._per_second
        self._left = min(self._most, self._left + gained)
        self._at_s = now_s
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._per_second
