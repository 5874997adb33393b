"""Python's collector of cyclic garbage, set for a process that holds many tasks for a while.

As it comes it walks every object of every task again and again while tasks pile up; with five
thousand of them that is a stop of some tenths of a second each time, and polls are late by it.
"""

from __future__ import annotations

import gc

#: Objects made and not freed until young garbage is looked for, and how many of these looks make a
#: look at the older, and of those at all. By default 700, 10 and 10.
THRESHOLDS = (10_000, 10, 10)


def collect_seldom() -> None:
    """Look for garbage less often, and never among what is here now; once for each process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
