from decimal import Decimal
from random import Random
from typing import Any

import pytest

from gateway.simulator.clock import Clock
from gateway.simulator.orders import read_order
from gateway.simulator.script import Ending, LetterForm, Script
from gateway.simulator.settings import Shape, SimulatorSettings
from gateway.simulator.tasks import Task, new_task, view
from gateway.simulator.wire import (
    created_body,
    credits_body,
    encode,
    letter_body,
    stats_body,
    task_body,
)
from gateway.simulator.world import Account, World

CLOCK = Clock(monotonic_s=lambda: 0.0, wall_s=lambda: 1_790_000_000.0)
BASE = "http://sim.test"


def a_task(script: Script | None = None) -> Task:
    """Accept an order for one low square that takes 4.4 seconds."""
    order = read_order({"model": "gpt-image-1.5", "quality": "low"}, "a fox")
    return new_task(order, script or Script(), 4.4, clock=CLOCK, random=Random(1))


def common(task: Task, **fields: Any) -> dict[str, Any]:
    """Return the fields of every task body, and the given ones."""
    return {
        "created": task.created,
        "id": task.id,
        "model": "gpt-image-1.5",
        "object": "image.generation.task",
        "type": "image",
    } | fields


def test_encoding_is_sorted_and_exact() -> None:
    """Keys are alphabetical and amounts are written digit by digit."""
    body = {"b": Decimal("0.53268480"), "a": {"d": Decimal("1E+5"), "c": Decimal("0.0000001")}}

    assert encode(body) == b'{"a":{"c":0.0000001,"d":100000},"b":0.5326848}'


def test_encoding_refuses_what_json_lacks() -> None:
    """A body with a foreign value is a mistake of ours, not a guess."""
    with pytest.raises(TypeError):
        encode({"a": object()})


def test_created_body() -> None:
    """A submit is answered with a pending task and what it reserved."""
    task = a_task()

    assert common(
        task,
        progress=0,
        status="pending",
        task_info={"can_cancel": True, "estimated_time": 100},
        usage={
            "billing_rule": "per_call",
            "credits_reserved": Decimal("0.5332968"),
            "user_group": "default",
        },
    ) == created_body(task)


def test_processing_body() -> None:
    """A running task shows its progress and no results."""
    task = a_task()

    assert common(
        task,
        progress=50,
        status="processing",
        task_info={"can_cancel": True, "estimated_time": 100},
    ) == task_body(view(task, 2.2), BASE, Shape.LIVE)


def test_live_shape() -> None:
    """A completed body has the fields of the recorded answer."""
    task = a_task()
    link = BASE + task.files[0]

    assert common(
        task,
        duration=4,
        progress=100,
        result_data=[{"url": link}],
        results=[link],
        status="completed",
        task_info={"can_cancel": False},
        usage={
            "credits_used": Decimal("0.5332968"),
            "image_cached_input_tokens": 0,
            "image_input_tokens": 0,
            "image_output_tokens": 272,
            "text_cached_input_tokens": 0,
            "text_input_tokens": 2,
            "total_tokens": 274,
        },
    ) == task_body(view(task, 5.0), BASE, Shape.LIVE)


def test_docs_shape() -> None:
    """The documented minimum has results and no usage."""
    task = a_task()

    assert common(
        task,
        progress=100,
        results=[BASE + task.files[0]],
        status="completed",
        task_info={"can_cancel": False},
    ) == task_body(view(task, 5.0), BASE, Shape.DOCS)


def test_cost_shape() -> None:
    """The client's form adds the cost in three units."""
    body = task_body(view(a_task(), 5.0), BASE, Shape.COST)

    assert {
        "cny": Decimal("0.05332968"),
        "credits": Decimal("0.5332968"),
        "usd": Decimal("0.007843"),
    } == body["usage"]["cost"]


def test_objects_shape() -> None:
    """Results may be objects with a url."""
    task = a_task()

    assert [{"url": BASE + task.files[0]}] == task_body(view(task, 5.0), BASE, Shape.OBJECTS)[
        "results"
    ]


def test_failed_body() -> None:
    """A failed task carries its code in the body and charges nothing."""
    task = a_task(Script(ending=Ending.FAILED, failure="content_policy_violation"))

    assert common(
        task,
        error={
            "code": "content_policy_violation",
            "message": "Content policy violation.\nYour request was blocked by safety filters...",
            "type": "task_error",
        },
        progress=0,
        status="failed",
        task_info={"can_cancel": False},
    ) == task_body(view(task, 5.0), BASE, Shape.LIVE)
    assert "error" not in task_body(view(task, 1.0), BASE, Shape.LIVE)


def completed(shape: Shape) -> dict[str, Any]:
    """Return the completed body of one task in a shape."""
    return task_body(view(a_task(), 5.0), BASE, shape)


def test_result_data_may_be_an_object() -> None:
    """Instead of a list there is one object."""
    body = completed(Shape.DATA_OBJECT)

    assert {"url": body["results"][0]} == body["result_data"]


def test_result_data_may_be_all_there_is() -> None:
    """The links are in no other place."""
    body = completed(Shape.DATA_ONLY)

    assert "results" not in body
    assert body["result_data"][0]["url"].startswith("http")


def test_result_data_may_have_other_names() -> None:
    """The client's older type names the link image_url."""
    body = completed(Shape.IMAGE_URLS)

    assert [{"image_url": body["results"][0], "result_id": "result_0", "tags": ""}] == body[
        "result_data"
    ]


def test_mock_shape() -> None:
    """First-party mocks have another object and a cost alone."""
    body = completed(Shape.MOCK)

    assert ("task", {"cost"}) == (body["object"], set(body["usage"]))
    assert Decimal("0.007843") == body["usage"]["cost"]["usd"]


def test_cached_shape() -> None:
    """Some input is told as cached too; the charge and the total stay."""
    usage = completed(Shape.CACHED)["usage"]

    assert (1, 2, 274) == (
        usage["text_cached_input_tokens"],
        usage["text_input_tokens"],
        usage["total_tokens"],
    )
    assert Decimal("0.5332968") == usage["credits_used"]


def test_bare_and_empty_shapes() -> None:
    """Only three fields are promised."""
    live = completed(Shape.LIVE)
    needed = {name: live[name] for name in ("id", "status", "results")}

    assert needed == completed(Shape.BARE)
    assert dict.fromkeys(live) | needed == completed(Shape.NULLS)
    assert {"id": live["id"], "status": "pending"} == created_body(a_task(), Shape.BARE)


def test_extra_fields() -> None:
    """There may be more than any document says."""
    extra = completed(Shape.EXTRA)

    assert {"billing", "request_id"} == set(extra) - set(completed(Shape.LIVE))


def test_quickstart_shape() -> None:
    """In 2025 credits were told a thousandfold."""
    usage = created_body(a_task(), Shape.QUICKSTART)["usage"]

    assert (Decimal("533.2968"), Decimal("0.5332968")) == (
        usage["credits_reserved"],
        usage["estimated_cost"],
    )


@pytest.mark.parametrize("ending", [Ending.FAILED_SILENTLY, Ending.CANCELLED, Ending.CANCELED])
def test_endings_without_an_error(ending: Ending) -> None:
    """Some tasks end badly and do not say why."""
    body = task_body(view(a_task(Script(ending=ending)), 5.0), BASE, Shape.LIVE)

    assert set(common(a_task())) | {"progress", "status", "task_info"} == set(body)


def test_links_of_another_base() -> None:
    """A script may lead the links elsewhere."""
    body = task_body(view(a_task(Script(links="gs://bucket")), 5.0), BASE, Shape.LIVE)

    assert body["results"][0].startswith("gs://bucket/")


@pytest.mark.parametrize(
    ("form", "changed"),
    [
        (LetterForm.TASK, set()),
        (LetterForm.COMPLETED, set()),
        (LetterForm.FORGED, {"results", "result_data"}),
        (LetterForm.FOREIGN, {"id"}),
    ],
)
def test_letters(form: LetterForm, changed: set[str]) -> None:
    """A callback says what a poll says, or lies about one thing."""
    body = completed(Shape.LIVE)
    letter = letter_body(body, form)

    assert changed == {name for name in body if body[name] != letter[name]}


def test_trimmed_letter_of_a_failure() -> None:
    """Without results there are three fields."""
    task = a_task(Script(ending=Ending.FAILED, failure="service_error"))
    body = task_body(view(task, 5.0), BASE, Shape.LIVE)

    assert {"id", "status", "model"} == set(letter_body(body, LetterForm.TRIMMED))


def test_completed_without_results() -> None:
    """An empty completion still reports what it charged."""
    body = task_body(view(a_task(Script(ending=Ending.NO_RESULTS)), 5.0), BASE, Shape.LIVE)

    assert ([], [], Decimal("0.5332968")) == (
        body["results"],
        body["result_data"],
        body["usage"]["credits_used"],
    )


def test_credits_body() -> None:
    """Credits have four decimals on the account page."""
    account = Account(remaining=Decimal("99.4667032"), used=Decimal("0.53335"))
    figures = {"remaining_credits": Decimal("99.4667"), "used_credits": Decimal("0.5334")}

    assert {
        "data": {"token": figures | {"unlimited_credits": False}, "user": figures},
        "message": "",
        "success": True,
    } == credits_body(account)


def test_stats_body() -> None:
    """Stats have the six documented names, and more of our own."""
    body = stats_body(World(SimulatorSettings(), CLOCK).stats())

    assert {
        "submits",
        "renders_completed",
        "polls",
        "callbacks_sent",
        "credits_used",
        "files",
    } <= set(body)
    assert {0} == set(body.values())
