from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis, possible
from gateway.domain.task import Event, FailureKind, RenderState
from gateway.tasks import records
from gateway.tasks.interface import Ending
from tests.support.clock import NOON_MS
from tests.support.factories import a_task

CHARGE = Charge(7_852, {"image_output": 7_834, "text_input": 18}, ChargeBasis.CREDITS)
FINISHED = Ending(
    Event.FINISH, CHARGE, links=("https://x/y.png",), usage={"image_output": 272, "text_input": 4}
)


def pairs(flat: list[str]) -> dict[str, str]:
    """Return a flat list of names and values as a dictionary."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_a_queued_task_is_written_without_an_attempt() -> None:
    """The record has the order, the hold and the owner; an attempt only once there is one."""
    task = a_task()
    submitted = pairs(records.task_fields(task, owner="replica_1"))
    queued = pairs(
        records.task_fields(
            replace(task, render=replace(task.render, state=RenderState.QUEUED)),
            owner="replica_1",
        )
    )

    assert ("held", "replica_1") == (submitted["hold_state"], submitted["owner"])
    assert task.render.upstream_id == submitted["upstream_id"]
    assert "attempt_id" not in queued
    assert task.render.order.body == json.loads(queued["order"])


@pytest.mark.parametrize(
    ("charge", "verb"),
    [(CHARGE, "settle"), (NO_CHARGE, "release"), (possible(10), "possible_charge")],
)
def test_the_ledger_names_every_end(charge: Charge, verb: str) -> None:
    """What was charged, what was not, and what nobody knows are different lines."""
    assert verb == records.verb_of(charge)


def test_an_end_says_what_was_learned() -> None:
    """Links, usage and failure are written where there are any."""
    finished = pairs(records.ending_fields(FINISHED, NOON_MS))
    failed = pairs(
        records.ending_fields(Ending(Event.FAIL, NO_CHARGE, FailureKind.MODERATION), NOON_MS)
    )

    assert ["https://x/y.png"] == json.loads(finished["links"])
    assert {"image_output": 272, "text_input": 4} == json.loads(finished["usage"])
    assert {"ended_ms": str(NOON_MS), "basis": "nothing", "failure": "moderation"} == failed


def test_a_settlements_line_adds_up() -> None:
    """Its categories sum to the cost, and it names who asked for what."""
    entry = pairs(records.ending_entry(a_task(), FINISHED))

    assert 7_852 == sum(json.loads(entry["categories"]).values())
    assert {"image_output": 272, "text_input": 4} == json.loads(entry["tokens"])
    assert ("ci", "gpt-image-1.5", "credits") == (entry["key"], entry["model"], entry["basis"])
    assert pairs(records.hold_entry(a_task())).items() < entry.items()
    assert {"basis": "nothing", "upstream": ""}.items() < pairs(
        records.release_entry(a_task())
    ).items()


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


def test_days_and_months_are_utc() -> None:
    """Calendar names are made without anybody's time zone; January follows a December."""
    assert ("20261123", "202611") == (records.day_of(NOON_MS), records.month_of(NOON_MS))
    assert ("202610", "202512") == (records.month_before("202611"), records.month_before("202601"))
