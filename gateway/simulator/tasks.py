"""One simulated task: its life is a function of the clock, so it needs no worker.

Everything that will happen to a task is decided when it is submitted, or when its references have
been looked at. Reading it at a moment gives pending, then processing with a rising progress, then
its ending (protocols/evolink.md §4.1).
"""

import math
import string
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

from gateway.simulator.clock import Clock
from gateway.simulator.orders import Order
from gateway.simulator.pricing import Usage
from gateway.simulator.script import Ending, Outlook, Progress, Script

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
_STUCK = frozenset({Outlook.PENDING, Outlook.PROCESSING})


@dataclass(frozen=True, slots=True)
class Origin:
    """Keep what a submit said beside its order, for the simulator's own list of tasks."""

    prompt_sha256: str = ""
    """Hex digest of the prompt as it was sent, markers included."""
    idempotency_key: str = ""
    base_url: str = ""
    """Base of our own links, as the submit's client knows us."""


@dataclass(frozen=True, slots=True)
class Task:
    """Hold one accepted submit and its destiny; seconds are those of the monotonic clock."""

    id: str
    created: int
    """Unix seconds; the id's number or one more, as recorded (§3)."""
    order: Order
    script: Script
    usage: Usage
    reserved: Decimal
    """Exact credits held from the submit on: the price of all pictures that were asked."""
    price: Decimal
    """Exact credits booked when it ends well: the price of the pictures that are made."""
    submitted_s: float
    due_s: float
    """Infinite for a task that never ends, or whose references are being looked at."""
    seed: int
    files: tuple[str, ...]
    """URL paths of the results, one per picture."""
    origin: Origin = Origin()
    noticed_s: float | None = None
    """When a poll first read the ending."""

    @property
    def charged(self) -> bool:
        """Tell whether the ending costs anything; failures and cancellations are refunded."""
        return self.script.ending in _CHARGED

    @property
    def duration_s(self) -> float:
        """Return how long the render takes."""
        return self.due_s - self.submitted_s

    @property
    def model(self) -> str:
        """Return the model that answers name."""
        return self.script.model or self.order.model.name


@dataclass(frozen=True, slots=True)
class View:
    """Show a task at one moment."""

    task: Task
    status: str
    progress: int | None
    """Percent; 0 on failures, as in the documented example (§4.6); ``None``: not told."""
    finished: bool


def new_task(
    order: Order,
    script: Script,
    latency_s: float,
    *,
    clock: Clock,
    random: Random,
    origin: Origin | None = None,
) -> Task:
    """Accept an order now, to be due after ``latency_s``; ``random`` is the task's own."""
    now_s, unix_s = clock.monotonic_s(), clock.wall_s()
    made = order.pictures if script.pictures is None else script.pictures
    suffix = "".join(random.choices(_ID_ALPHABET, k=8))
    return Task(
        id=f"{PREFIX}{int(unix_s)}-{suffix}",
        created=int(unix_s) + random.randint(0, 1),
        order=order,
        script=script,
        usage=order.usage_of(made),
        reserved=order.price_of(max(made, order.pictures)),
        price=order.price_of(made),
        submitted_s=now_s,
        due_s=math.inf if script.outlook in _STUCK else now_s + latency_s,
        seed=random.getrandbits(64),
        files=_files(order, made, unix_s + latency_s, random),
        origin=origin or Origin(),
    )


def view(task: Task, now_s: float) -> View:
    """Return the state of ``task`` at ``now_s``."""
    if now_s >= task.due_s:
        return final_view(task)
    share = (now_s - task.submitted_s) / task.duration_s
    status = "pending" if share < _PENDING_SHARE else "processing"
    progress = 0 if status == "pending" else min(99, int(100 * share))
    match task.script.outlook:
        case Outlook.UNKNOWN:
            status = "queued_upstream"
        case Outlook.PROCESSING:
            status, progress = "processing", 99
        case _:
            pass
    return View(task, status, _told(task, progress), finished=False)


def final_view(task: Task) -> View:
    """Return the state of ``task`` once it is due."""
    status, progress = _ENDED_AS[task.script.ending]
    return View(task, status, progress, finished=True)


def _told(task: Task, progress: int) -> int | None:
    match task.script.progress:
        case Progress.FALLING:
            return 99 - progress
        case Progress.ABSENT:
            return None
        case _:
            return progress


def _files(order: Order, pictures: int, unix_s: float, random: Random) -> tuple[str, ...]:
    """Name the result files in the recorded shape (§11)."""
    folder = "".join(random.choices(_FOLDER_ALPHABET, k=18))
    day = datetime.fromtimestamp(unix_s, UTC).strftime("%Y/%m/%d")
    name = f"{random.getrandbits(128):032x}"
    extension = _EXTENSIONS[order.output_format]
    return tuple(f"/{folder}/images/{day}/{name}_{index}.{extension}" for index in range(pictures))
