"""Who looks ahead in a class of renders of which little is known.

A belief delays nobody: as long as it is all there is, renders are asked about from the first second
on, at the longest gaps that are allowed. Of thousands that begin at once, this would be thousands
of polls a second, all to learn the same. So some go ahead, and the others are first asked about
when these have told how long it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.domain.clock import Clock

#: So many may go ahead at once, and then so many more in each second.
SCOUTS, SCOUTS_PER_SECOND = 64, 2.0
#: Nobody waits longer than this for what scouts tell: from here on gaps are long by themselves.
WAIT_MAX_S = 60.0


@dataclass(slots=True, eq=False)
class Scouts:
    """Scouts of one class, and what is called once they have told enough."""

    clock: Clock
    _left: float = SCOUTS
    _at_s: float | None = None
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    def may_go(self) -> bool:
        """Tell whether one more may go ahead, and count it."""
        now_s = self.clock.monotonic_s()
        since_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        self._left = min(self._left + since_s * SCOUTS_PER_SECOND, SCOUTS)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait(self, call: Callable[[], None]) -> None:
        """Have this called when scouts have told enough."""
        self._waiting.append(call)

    def tell(self) -> None:
        """Call whoever waits, in the order in which they came."""
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()
