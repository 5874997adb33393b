"""Task ids as EvoLink writes them, and back: the same id in another form, nothing is remembered.

``task-unified-<Unix seconds>-<letters and digits>`` (protocols/evolink.md §3). Theirs end in 8
characters; ours in the 25 that the 128 bits of a task's id take in base 36.
"""

from __future__ import annotations

import re

from gateway.domain.ids import ID_BYTES, TaskId, make_task_id

#: What EvoLink demands of every task id (protocols/evolink.md §4.7).
PREFIX = "task-unified-"

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_WIDTH = 25
_FORM = re.compile(rf"{PREFIX}[0-9]{{1,11}}-([0-9a-z]{{{_WIDTH}}})")


def unified_id(task: TaskId, created_ms: int) -> str:
    """Return a task's id in EvoLink's form. Raises ValueError for an id that is not of our making.

    `created_ms` is when the task was created, Unix milliseconds.
    """
    number = int(task.removeprefix(make_task_id(b"")), 16)
    digits = ""
    for _ in range(_WIDTH):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"{PREFIX}{created_ms // 1000}-{digits}"


def task_id_of(unified: str) -> TaskId | None:
    """Return the task id in a text of that form; None for a text that carries none.

    The seconds are not part of it: whoever reads the task compares its `unified_id`.
    """
    match = _FORM.fullmatch(unified)
    number = int(match[1], len(_DIGITS)) if match else -1
    if not 0 <= number < 1 << (8 * ID_BYTES):
        return None
    return make_task_id(number.to_bytes(ID_BYTES, "big"))
