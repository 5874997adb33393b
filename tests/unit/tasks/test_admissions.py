from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.domain.errors import (
    BudgetExceeded,
    DailyQuotaExceeded,
    GatewayError,
    IdempotencyConflict,
    PictureExpired,
    RateLimited,
    StoreUnavailable,
)
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.limits import Period, Quotas
from gateway.domain.task import HeldWindow, Hold, Render, RenderState
from gateway.store.client import Reply
from gateway.tasks import records
from gateway.tasks.admissions import (
    ADMIT_WITHIN_MS,
    IN_FLIGHT_RETRY_MS,
    Asked,
    Keeping,
    anew,
    ask,
    call_fields,
    call_keys,
    call_order,
    integers,
    place_of,
)
from gateway.tasks.interface import (
    AccountChangedError,
    Admission,
    Admitted,
    Joined,
    NotJoinedError,
)
from tests.support.clock import NOON_MS
from tests.support.factories import (
    a_budget,
    a_call,
    a_render,
    a_result,
    a_task,
    a_team,
    an_admission,
)

KEEPING = Keeping(record_ms=1, answer_ms=2, listed_ms=3)
DAY, TOTAL = a_budget("day"), a_budget("grant", per=Period.TOTAL)
LIMITED = replace(
    a_team(budgets=(DAY, TOTAL)),
    quotas=Quotas(
        requests_per_minute=120, images_per_minute=60, images_per_day=100, in_flight_images=8
    ),
)


def asked(admission: Admission) -> Asked:
    """Ask for an admission at noon."""
    return ask(admission, now_ms=NOON_MS, owner="replica_1")


def windows_of(question: Asked) -> tuple[HeldWindow, ...]:
    """Return the window of each budget that noon is in."""
    return tuple(choice[0] for choice in question.choices)


def test_the_task_of_an_admission() -> None:
    """A new task is the caller's first, has a render for each image, and no windows yet."""
    call = a_call(idempotency="key", detached=True)
    task = asked(an_admission(images=3, user="9f86", call=call)).task

    assert ("task1", "design", "ci", "9f86") == (task.id, task.team, task.key_name, task.user)
    assert ("replica_1", 1, NOON_MS, True) == (
        *(task.owner, task.epoch, task.created_ms),
        task.detached,
    )
    assert (Render(0), Render(1), Render(2)) == task.renders
    assert Hold(amount_microusd=60, windows=()) == task.hold
    assert place_of(call) == task.call


def test_the_limits_of_an_admission() -> None:
    """Every budget is asked with the windows its hold may fall into, every quota with its units."""
    question = asked(an_admission(team=LIMITED, images=3, version="7"))
    order = cast("dict[str, Any]", question.order())
    day, total = order["budgets"]

    assert ("7", False, NOON_MS + ADMIT_WITHIN_MS, 3, 8) == tuple(
        order[name] for name in ("account_version", "anew", "admit_by_ms", "images", "in_flight")
    )
    assert IN_FLIGHT_RETRY_MS == order["in_flight_retry_ms"]
    assert ("team", "", 50_000_000) == (day["scope"], day["owner"], day["limit"])
    assert ["end_ms" in window for window in day["windows"]] == [True, True]
    assert ["end_ms" in window for window in total["windows"]] == [False]
    assert [(120, 1), (60, 3)] == [(rate["limit"], rate["units"]) for rate in order["rates"]]
    assert 100 == order["day"]["limit"]


def test_facts_of_a_window_tell_all_of_it() -> None:
    """Whoever takes the task over knows its windows without the settings of now."""
    question = asked(an_admission(team=LIMITED))
    order = cast("dict[str, Any]", question.order())
    told = [budget["windows"][0]["facts"] for budget in order["budgets"]]

    assert windows_of(question) == tuple(records.parse_window(json.loads(one)) for one in told)


def test_what_is_not_limited_is_not_in_the_order() -> None:
    """The script looks for a limit by its name: none is not null."""
    order = asked(an_admission()).order()

    assert not {"in_flight", "day"} & order.keys()
    assert ([], []) == (order["budgets"], order["rates"])


def test_all_keys_are_named() -> None:
    """On a cluster a script may only touch keys it was given: two days of each, a total once."""
    keys = asked(an_admission(team=LIMITED)).keys

    assert [2, 1, 2, 2] == [
        sum(kind in key for key in keys) for kind in (":day:", ":grant:", ":rate:", "images_of_day")
    ]
    assert 7 == len(set(keys)) == len(keys)


def test_an_admission_that_ran() -> None:
    """The task has the windows the script chose, and budgets and rates are what it says."""
    question = asked(an_admission(team=LIMITED))
    windows = windows_of(question)
    facts = f"[{','.join(map(records.window_facts, windows))}]".encode()
    admitted = question.understand([b"admitted", facts, [10, 60, 0, 20, 60, 5], [119, 500, 59, 9]])

    assert isinstance(admitted, Admitted)
    assert windows == admitted.task.hold.windows
    assert [("day", 10, 60, 50_000_000), ("grant", 20, 60, 50_000_005)] == [
        (state.name, state.spent_microusd, state.held_microusd, state.limit_microusd)
        for state in admitted.budgets
    ]
    assert [("requests", 119), ("input-images", 59)] == [
        (rate.resource, rate.remaining) for rate in admitted.rates
    ]


def test_a_repeated_admission_counts_no_rates() -> None:
    """What had run before is answered without what quotas are left."""
    admitted = asked(an_admission(team=LIMITED)).understand([b"admitted", b"[]", [], []])

    assert isinstance(admitted, Admitted)
    assert () == admitted.rates


def test_a_call_that_was_attached() -> None:
    """It became no task, and is told which one it waits for, and whose trace that is in."""
    understand = asked(an_admission()).understand

    assert Joined(TaskId("task0")) == understand([b"joined", b"task0", b""])
    assert Joined(TaskId("task0"), "00-a-b-01") == understand([b"joined", b"task0", b"00-a-b-01"])


def test_over_budget() -> None:
    """The refusal names the budget as the script saw it, topped up, and the price of all images."""
    question = asked(an_admission(team=LIMITED, images=3))
    facts = records.window_facts(windows_of(question)[1]).encode()
    with pytest.raises(BudgetExceeded) as refusal:
        question.understand([b"over_budget", 2, facts, 10, 60, 240])

    budget = refusal.value.budget
    assert ("grant", 10, 60, 240, None) == (
        *(budget.name, budget.spent_microusd, budget.held_microusd),
        *(budget.limit_microusd, budget.resets_at_ms),
    )
    assert 180 == refusal.value.price_microusd


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (
            [b"too_fast", 1, 500],
            *(RateLimited, "Rate limit reached on requests per min: Limit 120."),
        ),
        ([b"too_fast", 2, 500], RateLimited, "Rate limit reached on images per min: Limit 60."),
        (
            [b"in_flight", 8],
            *(RateLimited, "Rate limit reached on images in progress at once: Limit 8."),
        ),
        (
            [b"day_used", 99, NOON_MS],
            *(DailyQuotaExceeded, "quota of 100 images per day: 99 are used."),
        ),
        ([b"conflict"], IdempotencyConflict, ""),
        ([b"expired"], PictureExpired, ""),
        ([b"late"], StoreUnavailable, ""),
        ([b"given_up"], StoreUnavailable, ""),
        ([b"no_window"], StoreUnavailable, ""),
        (None, StoreUnavailable, ""),
    ],
)
def test_refusals(reply: Reply, error: type[GatewayError], message: str) -> None:
    """Each refusal of the script is an error of ours; what is not known wrote nothing."""
    with pytest.raises(error) as refusal:
        asked(an_admission(team=LIMITED)).understand(reply)

    assert message in refusal.value.message


@pytest.mark.parametrize(
    ("reply", "wait_ms"), [([b"too_fast", 1, 1_234], 1_234), ([b"in_flight", 8], 1_000)]
)
def test_what_comes_too_fast_is_told_how_long_to_wait(reply: Reply, wait_ms: int) -> None:
    """The wait is what the script has reckoned, and a second for what ends when it ends."""
    with pytest.raises(RateLimited) as refusal:
        asked(an_admission(team=LIMITED)).understand(reply)

    assert wait_ms == refusal.value.retry_after_ms


def test_a_changed_account() -> None:
    """The caller is to be read anew: that is no refusal of the call."""
    with pytest.raises(AccountChangedError):
        asked(an_admission()).understand([b"stale"])


def test_a_call_that_may_only_join() -> None:
    """There is no money for a task of its own: it is told that there is none to join."""
    admission = replace(an_admission(), only_join=True)
    with pytest.raises(NotJoinedError):
        asked(admission).understand([b"not_joined"])

    assert [True, False] == [
        asked(wanted).order()["only_join"] for wanted in (admission, an_admission())
    ]


def test_a_task_that_is_written_anew() -> None:
    """No limit is asked; each budget goes back to the window its hold was taken from."""
    question = asked(an_admission(team=LIMITED))
    windows = windows_of(question)
    made = a_render(1, state=RenderState.COMPLETED, result=a_result())
    task = replace(a_task(a_render(0), made, a_render(2)), hold=Hold(60, windows))
    order = cast("dict[str, Any]", anew(task))

    assert (True, 2, [], "") == tuple(
        order[name] for name in ("anew", "images", "rates", "account_version")
    )
    assert [[window.key] for window in windows] == [
        [one["key"] for one in budget["windows"]] for budget in order["budgets"]
    ]
    assert not {"in_flight", "day", "call"} & order.keys()


def test_a_call_as_the_scripts_read_it() -> None:
    """Which retry it is, who waits, how long answers are kept, and where the records are."""
    call = a_call("req_7", count=2, idempotency="key", joins=False)

    assert call_order(TeamId("design"), call, KEEPING, replica="replica_1", patience_ms=500) == {
        "replica": "replica_1",
        "count": 2,
        "waiter": "req_7",
        "detached": False,
        "join": False,
        "body": "f" * 32,
        "keyed": True,
        "patience_ms": 500,
        "keep_ms": 2,
        "place_ms": 3,
        "prefix": "{t:design}:task:",
    }


@pytest.mark.parametrize(
    ("idempotency", "fields"), [("", {}), ("k", {"keyed": "{t:design}:idempotency:k"})]
)
def test_a_record_knows_who_waits_for_it(idempotency: str, fields: dict[str, str]) -> None:
    """And where its Idempotency-Key is, when the call had one."""
    call = a_call("req_7", count=2, idempotency=idempotency)

    assert call_fields(TeamId("design"), call, replica="replica_1") == {
        "waiter": "req_7",
        "waiting": "1",
        "at": "replica_1",
        "count": "2",
        **fields,
    }


def test_retries_are_looked_for_by_fingerprint_and_key() -> None:
    """The same call under another Idempotency-Key, or under none, is in another place."""
    team = TeamId("design")
    places = {place_of(a_call(idempotency=key)) for key in ("", "one", "two")}

    assert 3 == len(places)
    assert call_keys(team, "f00d") == [
        "{t:design}:calls:f00d",
        "{t:design}:orphans:f00d",
        "{t:design}:refusals:f00d",
    ]


def test_integers() -> None:
    """A script that answers something else where integers are meant is a defect."""
    assert [1, 2] == integers([1, 2])
    with pytest.raises(TypeError):
        integers([1, b"2"])
