"""A process that kills or pauses itself at a given point of a picture's way: for tests of crashes.

Nothing of it exists unless the environment variable is set, and no configuration can set it.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable

#: Such as ``kill:submitting`` or ``pause:posted:3``: what happens where, and at which arrival.
FAULT_ENV = "GATEWAY_TEST_FAULT"

_SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP}


def fault_point(spec: str) -> Callable[[str], None]:
    """Return what happens at each point. Raises ValueError for a fault that does not exist."""
    if not spec:
        return lambda _: None
    what, _, where = spec.partition(":")
    point, _, time = where.partition(":")
    if what not in _SIGNALS or not (time or "1").isdecimal():
        raise ValueError(f"{FAULT_ENV} is such as kill:submitting or pause:posted:3")
    seen: Counter[str] = Counter()

    def reached(name: str) -> None:
        seen[name] += 1
        if name == point and seen[name] == int(time or "1"):
            os.kill(os.getpid(), _SIGNALS[what])

    return reached
