"""One simulated task: its life is a function of the clock, so it needs no worker.

Everything that will happen to a task is decided when it is submitted. Reading it at a moment gives
pending, then processing with a rising progress, then its ending (protocols/evolink.md §4.1).
"""

import string
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

from gateway.simulator.clock import Clock
from gateway.simulator.markers import Ending, Script
from gateway.simulator.orders import Order
from gateway.simulator.pricing import Usage, charge

PREFIX = "task-unified-"

_PENDING_SHARE = 0.1
"""Part of a render's time that it spends queued."""
_ID_ALPHABET = string.ascii_lowercase + string.digits
_FOLDER_ALPHABET = string.ascii_uppercase + string.digits
_EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}
_ENDED_AS = {
    Ending.PICTURES: ("completed", 100),
    Ending.NO_RESULTS: ("completed", 100),
    Ending.FAILED: ("failed", 0),
    Ending.FAILED_SILENTLY: ("failed", 0),
    Ending.CANCELLED: ("cancelled", 0),
    Ending.CANCELED: ("canceled", 0),
}
_CHARGED = frozenset({Ending.PICTURES, Ending.NO_RESULTS})


@dataclass(frozen=True, slots=True)
class Task:
    """Hold one accepted submit and its destiny; seconds are those of the monotonic clock."""

    id: str
    created: int
    """Unix seconds; the id's number or one more, as recorded (§3)."""
    order: Order
    script: Script
    usage: Usage
    price: Decimal
    """Exact credits: held from the submit on, booked when it ends well."""
    submitted_s: float
    due_s: float
    seed: int
    files: tuple[str, ...]
    """URL paths of the results, one per picture."""

    @property
    def charged(self) -> bool:
        """Tell whether the ending costs anything; failures and cancellations are refunded."""
        return self.script.ending in _CHARGED

    @property
    def duration_s(self) -> float:
        """Return how long the render takes."""
        return self.due_s - self.submitted_s


@dataclass(frozen=True, slots=True)
class View:
    """Show a task at one moment."""

    task: Task
    status: str
    progress: int
    """Percent; 0 on failures, as in the documented example (§4.6)."""
    finished: bool


def new_task(
    order: Order, script: Script, latency_s: float, *, clock: Clock, random: Random
) -> Task:
    """Accept an order now, to be due after ``latency_s``; ``random`` is the task's own."""
    now_s, unix_s = clock.monotonic_s(), clock.wall_s()
    usage = order.usage
    suffix = "".join(random.choices(_ID_ALPHABET, k=8))
    return Task(
        id=f"{PREFIX}{int(unix_s)}-{suffix}",
        created=int(unix_s) + random.randint(0, 1),
        order=order,
        script=script,
        usage=usage,
        price=charge(order.model.prices, usage),
        submitted_s=now_s,
        due_s=now_s + latency_s,
        seed=random.getrandbits(64),
        files=_files(order, unix_s + latency_s, random),
    )


def view(task: Task, now_s: float) -> View:
    """Return the state of ``task`` at ``now_s``."""
    if now_s >= task.due_s:
        status, progress = _ENDED_AS[task.script.ending]
        return View(task, status, progress, finished=True)
    share = (now_s - task.submitted_s) / task.duration_s
    if share < _PENDING_SHARE:
        status, progress = "pending", 0
    else:
        status, progress = "processing", min(99, int(100 * share))
    if task.script.unknown_status:
        status = "queued_upstream"
    return View(task, status, progress, finished=False)


def _files(order: Order, unix_s: float, random: Random) -> tuple[str, ...]:
    """Name the result files in the recorded shape (§11)."""
    folder = "".join(random.choices(_FOLDER_ALPHABET, k=18))
    day = datetime.fromtimestamp(unix_s, UTC).strftime("%Y/%m/%d")
    name = f"{random.getrandbits(128):032x}"
    extension = _EXTENSIONS[order.output_format]
    return tuple(
        f"/{folder}/images/{day}/{name}_{index}.{extension}" for index in range(order.pictures)
    )
