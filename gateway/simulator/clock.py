"""The two clocks the simulator reads, as values that a test can replace."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Read the time in seconds.

    ``monotonic_s`` decides when renders are due; ``wall_s`` is the Unix time that ids, ``created``
    and result paths show. A step of the wall clock therefore never finishes or delays a render.
    """

    monotonic_s: Callable[[], float]
    wall_s: Callable[[], float]


SYSTEM_CLOCK = Clock(
    monotonic_s=time.monotonic,
    wall_s=time.time,  # noqa: TID251 - this is the clock that everything else is handed
)
