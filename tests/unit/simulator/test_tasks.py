import re
from dataclasses import replace
from decimal import Decimal
from random import Random

import pytest

from gateway.simulator.clock import Clock
from gateway.simulator.orders import read_order
from gateway.simulator.script import Ending, Outlook, Progress, Script
from gateway.simulator.tasks import Task, final_view, new_task, view

CLOCK = Clock(monotonic_s=lambda: 500.0, wall_s=lambda: 1_790_000_000.75)


def a_task(script: Script, **changes: object) -> Task:
    """Accept an order that takes twenty seconds."""
    body = {"model": "gpt-image-2", "quality": "low"} | changes
    return new_task(read_order(body, "a fox"), script, 20.0, clock=CLOCK, random=Random(7))


def test_ids_and_files_have_the_recorded_shapes() -> None:
    """Ids, creation time, price and result paths look as EvoLink's do."""
    task = a_task(Script(), n=2, output_format="jpeg")

    assert re.fullmatch(r"task-unified-1790000000-[a-z0-9]{8}", task.id)
    assert task.created in {1_790_000_000, 1_790_000_001}
    assert Decimal("0.720324") == task.price
    assert len(task.files) == 2
    for index, path in enumerate(task.files):
        assert re.fullmatch(rf"/[A-Z0-9]{{18}}/images/2026/09/21/[0-9a-f]{{32}}_{index}\.jpg", path)


def test_creation_time_is_sometimes_one_later_than_the_id() -> None:
    """Clients must not equate the id's number with ``created``."""
    order = read_order({"model": "gpt-image-2"}, "a fox")
    made = {
        new_task(order, Script(), 1.0, clock=CLOCK, random=Random(seed)).created
        for seed in range(20)
    }

    assert {1_790_000_000, 1_790_000_001} == made


@pytest.mark.parametrize(
    ("now_s", "status", "progress", "finished"),
    [
        (500.0, "pending", 0, False),
        (501.9, "pending", 0, False),
        (502.0, "processing", 10, False),
        (510.0, "processing", 50, False),
        (519.99, "processing", 99, False),
        (520.0, "completed", 100, True),
        (9999.0, "completed", 100, True),
    ],
)
def test_life_of_a_task(now_s: float, status: str, progress: int, finished: bool) -> None:
    """A task is queued, works with rising progress and completes when due."""
    seen = view(a_task(Script()), now_s)

    assert (status, progress, finished) == (seen.status, seen.progress, seen.finished)


@pytest.mark.parametrize(
    ("ending", "status", "progress", "charged"),
    [
        (Ending.PICTURES, "completed", 100, True),
        (Ending.NO_RESULTS, "completed", 100, True),
        (Ending.FAILED, "failed", 0, False),
        (Ending.FAILED_SILENTLY, "failed", 0, False),
        (Ending.CANCELLED, "cancelled", 0, False),
        (Ending.CANCELED, "canceled", 0, False),
    ],
)
def test_endings(ending: Ending, status: str, progress: int, charged: bool) -> None:
    """Each ending has its status, and only completed ones cost anything."""
    task = a_task(Script(ending=ending))
    seen = view(task, 520.0)

    assert (status, progress, charged) == (seen.status, seen.progress, task.charged)
    assert view(task, 519.0).status == "processing"


def test_unknown_status_until_due() -> None:
    """An undocumented status hides the work, not the end."""
    task = a_task(Script(outlook=Outlook.UNKNOWN))

    assert [view(task, now_s).status for now_s in (500.0, 519.0, 520.0)] == [
        "queued_upstream",
        "queued_upstream",
        "completed",
    ]


def test_instant_task_is_finished_at_once() -> None:
    """A latency of zero leaves nothing to wait for."""
    task = replace(a_task(Script()), due_s=500.0)

    assert view(task, 500.0).status == "completed"


def test_fewer_pictures_cost_less_than_what_is_held() -> None:
    """The reservation is for what was asked, the price for what is made."""
    task = a_task(Script(pictures=1), n=3)

    assert (1, 196) == (len(task.files), task.usage.image_output_tokens)
    assert Decimal("0.360468") == task.price
    assert Decimal("1.08018") == task.reserved


def test_more_pictures_are_held_for() -> None:
    """A task may make more than was asked; the balance covers them."""
    task = a_task(Script(pictures=3))

    assert (3, task.price) == (len(task.files), task.reserved)


@pytest.mark.parametrize(
    ("outlook", "status"), [(Outlook.PENDING, "pending"), (Outlook.PROCESSING, "processing")]
)
def test_stuck_for_ever(outlook: Outlook, status: str) -> None:
    """A stuck task never ends."""
    task = a_task(Script(outlook=outlook))

    assert {(status, False)} == {
        (view(task, now_s).status, view(task, now_s).finished) for now_s in (500.0, 1e9)
    }


@pytest.mark.parametrize(
    ("progress", "told"),
    [(Progress.RISING, 50), (Progress.FALLING, 49), (Progress.ABSENT, None)],
)
def test_progress(progress: Progress, told: int | None) -> None:
    """What is told on the way; the end is always told."""
    task = a_task(Script(progress=progress))

    assert (told, 100) == (view(task, 510.0).progress, view(task, 520.0).progress)


def test_the_end_can_be_seen_ahead() -> None:
    """Early callbacks tell it."""
    assert "completed" == final_view(a_task(Script())).status
