"""How many polls a process manages, learned from how late they begin: pure, no clock of its own.

Nothing is held back before polls have begun late. Then each gets a turn at the pace that was kept
up, in the order in which they were wanted: plans are stretched, and what was planned is done in
time. While turns are kept the pace rises again, until polls are late or none is put off.
"""

from __future__ import annotations

#: So late a poll begins only when there are more than can be managed; a schedule's shortest
#: allowed gap is four times as long (design rule 21).
LATE_S = 0.25
#: A pace is lowered after so much of a busy span, and raised after so much of one in time.
LOWER_AFTER_S = 0.25
RAISE_AFTER_S = 1.0
#: By this factor; when turns were kept this well.
RAISE = 1.25
IN_TIME_S = 0.1
#: After so long without one that was put off, nothing is held back any more.
FREE_AFTER_S = 5.0
#: A busy span is over when nothing began for so long.
IDLE_S = 1.0
#: No pace is slower.
MIN_PER_S = 5.0


class Pace:
    """Gives turns to polls; every time is in monotonic seconds.

    `per_s` is how many polls begin in a second at most, None while there is no need to say.
    """

    def __init__(self) -> None:
        self.per_s: float | None = None
        self._next_s = 0.0
        self._since_s = 0.0
        self._last_s = float("-inf")
        self._put_off_s = float("-inf")
        self._begun = 0
        self._worst_late_s = 0.0

    def turn_s(self, wanted_s: float) -> float:
        """Return when the poll that is wanted first may begin, not before it is wanted."""
        return wanted_s if self.per_s is None else max(wanted_s, self._next_s)

    def take(self, turn_s: float, wanted_s: float) -> None:
        """Let a poll have its turn; one that could not wait for it takes another's."""
        if self.per_s is not None:
            self._next_s = max(self._next_s, turn_s) + 1.0 / self.per_s
            if turn_s > wanted_s:
                self._put_off_s = turn_s

    def begun(self, late_s: float, now_s: float) -> None:
        """Note that a poll begins so many seconds after its turn."""
        if now_s - self._last_s > IDLE_S:
            self._look_anew(now_s)
        self._last_s = now_s
        self._begun += 1
        self._worst_late_s = max(self._worst_late_s, late_s)
        span_s = now_s - self._since_s
        if self._worst_late_s > LATE_S and span_s >= LOWER_AFTER_S:
            kept_up = max(self._begun / span_s, MIN_PER_S)
            self.per_s = kept_up if self.per_s is None else min(kept_up, self.per_s)
            # Those that wait have their turns from now on, one after the other.
            self._next_s, self._put_off_s = now_s, now_s
            self._look_anew(now_s)
        elif span_s >= RAISE_AFTER_S and self.per_s is not None:
            if now_s - self._put_off_s > FREE_AFTER_S:
                self.per_s = None
            elif self._put_off_s >= self._since_s and self._worst_late_s < IN_TIME_S:
                self.per_s *= RAISE
            self._look_anew(now_s)

    def _look_anew(self, now_s: float) -> None:
        self._since_s, self._begun, self._worst_late_s = now_s, 0, 0.0
