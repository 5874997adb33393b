from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.domain.images import Output, PictureFormat, TokenUsage
from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis, possible
from gateway.domain.task import (
    Event,
    FailureKind,
    HeldWindow,
    Hold,
    Render,
    RenderState,
    Surface,
    Task,
)
from gateway.tasks import records
from gateway.tasks.interface import Ending
from tests.support.clock import NOON_MS
from tests.support.factories import a_picture_in_store, a_render, a_result, a_task

CHARGE = Charge(7_852, {"image_output": 7_834, "text_input": 18}, ChargeBasis.CREDITS)
USAGE = TokenUsage(text_input=4, image_output=272)
FINISHED = Ending(Event.FINISH, CHARGE, links=("https://x/y.png",), usage=USAGE)
CALL = {"waiter": "req_1", "waiting": "1", "count": "2"}
WINDOW = HeldWindow(
    key="{t:design}:budget:team::month:1793491200000",
    scope="team",
    owner="",
    name="month",
    per="month",
    limit_microusd=2**53 + 1,
    starts_at_ms=1_793_491_200_000,
    resets_at_ms=1_796_083_200_000,
)
TOTAL = replace(WINDOW, key="{t:design}:budget:team::total:0", name="total", resets_at_ms=None)


def pairs(flat: list[str]) -> dict[str, str]:
    """Return a flat list of names and values as a dictionary."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def read(task: Task, **changes: str) -> Task:
    """Write a task down and read it, with what scripts add to a record, or with fields changed."""
    fields = pairs(records.task_fields(task, owner=task.owner, call=CALL))
    facts = ",".join(map(records.window_facts, task.hold.windows))
    return records.parse_task(task.team, task.id, fields | {"held": f"[{facts}]"} | changes)


def test_a_queued_task_is_written_without_an_attempt() -> None:
    """The record has order, hold, owner and waiter; an attempt only once there is one."""
    task = a_task(a_render(0), Render(1))
    written = pairs(records.task_fields(task, owner="replica_1", call=CALL))

    assert ("replica_1", "1", "2", "2") == tuple(
        written[name] for name in ("owner", "epoch", "renders", "open")
    )
    assert CALL.items() < written.items()
    assert ("submitted", "10000", "task-unified-1", "1", str(NOON_MS)) == tuple(
        written[f"0:{name}"] for name in ("state", "hold", "upstream_id", "tries", "submitted_ms")
    )
    assert {"1:state": "queued", "1:hold": "10000"} == {
        name: value for name, value in written.items() if name.startswith("1:")
    }
    assert task.order.body == json.loads(written["order"])


RENDERS = [
    Render(0),
    a_render(0, state=RenderState.SUBMITTING, upstream_id=""),
    a_render(0),
    a_render(0, state=RenderState.UNKNOWN, upstream_id=""),
    a_render(0, state=RenderState.COMPLETED, result=a_result(usage=USAGE)),
    a_render(0, state=RenderState.COMPLETED, result=a_result(stored=a_picture_in_store())),
    a_render(0, state=RenderState.COMPLETED, result=a_result(lost=True)),
    a_render(0, state=RenderState.FAILED, result=a_result(failure=FailureKind.MODERATION)),
    a_render(0, state=RenderState.UNKNOWN, result=a_result(failure=FailureKind.SUBMIT_UNKNOWN)),
]


@pytest.mark.parametrize("first", RENDERS)
@pytest.mark.parametrize("second", [RENDERS[0], RENDERS[4], RENDERS[5]])
def test_what_is_written_can_be_read(first: Render, second: Render) -> None:
    """A task is the same after a round trip, whatever its renders have come to."""
    stored = None if second.result is None else second.result.stored
    if stored is not None:
        second = replace(second, result=a_result(stored=a_picture_in_store(1)))
    task = replace(
        a_task(first, replace(second, index=1)),
        user="9f86",
        hold=Hold(10_000, (WINDOW, TOTAL)),
        detached=True,
        references=2,
        callback_url="https://client.example/done",
        surface=Surface.EVOLINK,
        base_url="http://gateway:8080/",
        owner="",
        epoch=7,
        output=Output(PictureFormat.WEBP, 50),
        trace=f"00-{'a' * 32}-{'b' * 16}-01 vendor=x",
    )

    assert task == read(task)


@pytest.mark.parametrize(
    ("renders", "unfinished", "unstored"),
    [
        ((RENDERS[0],), "1", "0"),
        ((RENDERS[2], replace(RENDERS[4], index=1)), "1", "1"),
        ((RENDERS[5], replace(RENDERS[6], index=1), replace(RENDERS[7], index=2)), "0", "0"),
    ],
)
def test_a_record_knows_how_much_is_to_be_done(
    renders: tuple[Render, ...], unfinished: str, unstored: str
) -> None:
    """Holds that are open, and pictures that are to be stored yet."""
    written = pairs(records.task_fields(a_task(*renders), owner="replica_1", call={}))

    assert (unfinished, unstored) == (written["open"], written["unstored"])


def test_what_scripts_have_added_is_read() -> None:
    """That its team has cancelled it, and when its last render ended."""
    added = read(a_task(), cancelled="1", ended_ms=str(NOON_MS))

    assert replace(a_task(), cancelled=True, ended_ms=NOON_MS) == added


def test_a_callback_is_something_to_be_done() -> None:
    """A task is seen to until its client's callback was written down, as with a picture."""
    task = replace(a_task(RENDERS[5]), callback_url="https://client.example/done")
    written = pairs(records.task_fields(task, owner="replica_1", call={}))

    assert ("0", "1") == (written["open"], written["unstored"])


def test_a_task_that_is_over_has_no_order_any_more() -> None:
    """The prompt is not kept for longer than it is needed."""
    task = a_task(RENDERS[5])
    fields = pairs(records.task_fields(task, owner="replica_1", call={})) | {"held": "[]"}
    del fields["order"]

    assert {} == records.parse_task(task.team, task.id, fields).order.body


def test_fields_of_a_newer_gateway_are_passed_over() -> None:
    """A record of the same schema, or of the next one, with more in it can be read (rule 23)."""
    for schema in (records.SCHEMA, records.SCHEMA + 1):
        more = {"schema": str(schema), "colour": "blue", "0:colour": "red"}
        assert a_task() == read(a_task(), **more)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "3"},
        {"schema": ""},
        {"renders": "2"},
        {"0:state": "dancing"},
        {"0:hold": "much"},
        {"0:cost": "5"},
        {"held": "{"},
        {"held": '[{"key":"k"}]'},
        {"operation": "dance"},
    ],
)
def test_what_cannot_be_read_says_so(changes: dict[str, str]) -> None:
    """A record of a later schema, or one that is damaged, is one error; nothing is guessed."""
    with pytest.raises(records.UnreadableTaskError):
        read(a_task(), **changes)


@pytest.mark.parametrize("window", [WINDOW, TOTAL])
def test_windows_keep_their_numbers(window: HeldWindow) -> None:
    """Amounts beyond a double survive being written, and a total has no end."""
    assert window == records.parse_window(json.loads(records.window_facts(window)))


def test_notes_of_pictures() -> None:
    """A note says format and size; there is none of what is not stored or never will be."""
    picture = a_picture_in_store(size_bytes=123)

    assert "png 123" == records.stored_note(picture)
    assert picture == records.parse_stored(picture.key, "png 123")
    assert None is records.parse_stored("k", "") is records.parse_stored("k", records.LOST)


@pytest.mark.parametrize(
    ("charge", "verb"),
    [(CHARGE, "settle"), (NO_CHARGE, "release"), (possible(10), "possible_charge")],
)
def test_the_ledger_names_every_end(charge: Charge, verb: str) -> None:
    """What was charged, what was not, and what nobody knows are different lines."""
    assert verb == records.verb_of(charge)


def test_an_end_says_what_was_learned() -> None:
    """Links, usage and failure are written where there are any."""
    finished = records.ending_fields(FINISHED)
    failed = records.ending_fields(Ending(Event.FAIL, NO_CHARGE, FailureKind.MODERATION))

    assert ["https://x/y.png"] == json.loads(finished["links"])
    assert USAGE == TokenUsage(**json.loads(finished["usage"]))
    assert {"basis": "nothing", "failure": "moderation"} == failed


def test_a_settlements_line_adds_up() -> None:
    """Its categories sum to the cost, and it names who asked for what."""
    task = a_task(a_render(0), a_render(1))
    entry = pairs(records.ending_entry(task, task.renders[1], FINISHED))

    assert 7_852 == sum(json.loads(entry["categories"]).values())
    assert {"image_output": 272, "text_input": 4}.items() < json.loads(entry["tokens"]).items()
    assert ("ci", "gpt-image-1.5", "credits") == (entry["key"], entry["model"], entry["basis"])
    assert ("1", "task-unified-2", "1") == (entry["render"], entry["upstream"], entry["images"])
    assert str(NOON_MS) == entry["created_ms"]


def test_each_line_is_an_operation_of_its_own() -> None:
    """Hold, raise and end of each render have names by which a reader sees a repetition."""
    task = a_task(a_render(0), a_render(1))
    names = [
        name
        for index in (0, 1)
        for name in (
            pairs(records.hold_entry(task, index))["op"],
            pairs(records.raise_entry(task, index))["op"],
            records.ending_op(task, index),
        )
    ]

    assert 6 == len(set(names))
    assert records.ending_op(task, 1) == pairs(records.release_entry(task, 1))["op"]


def test_the_line_of_what_was_given_up() -> None:
    """It brought nothing, cost nothing, and nobody upstream has heard of it."""
    entry = pairs(records.release_entry(a_task(), 0))

    assert {"basis": "nothing", "upstream": "", "images": "0"}.items() < entry.items()


def test_rollups_are_by_key_model_provider_and_measure() -> None:
    """A day's sums get the cost, its categories, the tokens and the picture."""
    flat = records.rollups(a_task(), FINISHED)
    sums = {
        tuple(json.loads(str(name))): value
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }

    where = ("ci", "gpt-image-1.5", "evolink")
    assert {
        (*where, "cost"): 7_852,
        (*where, "images"): 1,
        (*where, "cost:image_output"): 7_834,
        (*where, "cost:text_input"): 18,
        (*where, "tokens:image_output"): 272,
        (*where, "tokens:text_input"): 4,
    } == sums
    assert [] == records.rollups(a_task(), Ending(Event.FAIL, NO_CHARGE))
    lost = records.rollups(a_task(), Ending(Event.LOSE, possible(10)))
    assert ["cost", "possible", "cost:image_output"] == [
        json.loads(str(name))[3] for name in lost[::2]
    ]


def test_sums_go_to_team_key_and_user() -> None:
    """A call without an end user adds to two sums, one with a user to three."""
    task = a_task()

    assert ["team|", "key|ci"] == records.sum_owners(replace(task, user=""))
    assert ["team|", "key|ci", "user|9f86"] == records.sum_owners(replace(task, user="9f86"))


def test_buckets_are_quarters_of_an_hour() -> None:
    """A bucket begins at :00, :15, :30 or :45."""
    assert NOON_MS == records.bucket_of(NOON_MS) == records.bucket_of(NOON_MS + 899_999)
    assert NOON_MS + 900_000 == records.bucket_of(NOON_MS + 900_000)


@pytest.mark.parametrize(
    ("render", "before", "event"),
    [
        (a_render(state=RenderState.COMPLETED), RenderState.SUBMITTED, Event.FINISH),
        (
            a_render(state=RenderState.FAILED, upstream_id="up-1"),
            RenderState.SUBMITTED,
            Event.FAIL,
        ),
        (Render(state=RenderState.FAILED), RenderState.QUEUED, Event.EXPIRE),
        (a_render(state=RenderState.LOST), RenderState.SUBMITTED, Event.LOSE),
        (a_render(state=RenderState.UNKNOWN), RenderState.UNKNOWN, Event.WRITE_OFF),
    ],
    ids=["finished", "failed", "expired", "lost", "written off"],
)
def test_an_end_can_be_told_again(render: Render, before: RenderState, event: Event) -> None:
    """With what the cost was made of, and by an event that leads there once more."""
    ended = replace(render, result=records.result_of(FINISHED))
    again, ending = records.ended_by(ended)

    assert (before, None) == (again.state, again.result)
    assert render.state is again.after(event).state
    assert replace(FINISHED, event=event) == ending


def test_a_cost_of_unknown_make_is_the_picture() -> None:
    """A record does not tell what a cost was made of."""
    ended = a_render(state=RenderState.COMPLETED, result=a_result(lost=True))
    assert ended.result is not None
    _, ending = records.ended_by(replace(ended, result=replace(ended.result, cost_microusd=7)))

    assert {"image_output": 7} == ending.charge.by_category
