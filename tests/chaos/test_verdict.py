"""A round that broke the promise is never called good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.clients import CUT_OFF, HUNG, TIMED_OUT, Answer
from tests.chaos.evidence import Ended, Evidence, Order
from tests.chaos.plan import BLOCKED, FAILED, Act, Moment, Plan, PlannedCall
from tests.chaos.verdict import differences

MONTH = "{t:design}:budget:team::month:0"
CALL = PlannedCall("c1", 0.0, "", copies=1, pictures=1, keyed=False, patience_s=30.0)
LOST = replace(CALL, label="c2")
PLAN = Plan(7, 1, False, False, False, 0.2, "/readyz", (), (), (CALL, LOST))
MADE = Ended("t1", 0, "completed", "", "k1", "up1", "settle", 7_852)
UNKNOWN = Ended("t2", 0, "unknown", "submit_unknown", "k2", "", "possible_charge", 10_000)
ORDERS = (
    Order("up1", "c1", "k1", "completed", 7_852),
    Order("up2", "c2", "k2", "completed", 7_852),
)
GOOD = Evidence(
    answers=(Answer(CALL, pictures=("p1",)), Answer(LOST, error="504 submit_unknown")),
    orders=ORDERS,
    renders=(MADE, UNKNOWN),
    pictures={"t1": ("p1",)},
    windows={MONTH: (15_704, 0)},
    refused=(),
    verified="",
    hanging="",
    complaints=(),
)


def test_a_good_round() -> None:
    """Nothing differs."""
    assert [] == differences(PLAN, GOOD)


def test_an_order_that_never_arrived_is_a_possible_charge_too() -> None:
    """What was possibly charged is corrected to nothing then."""
    evidence = replace(GOOD, orders=ORDERS[:1], windows={MONTH: (7_852, 0)})

    assert [] == differences(PLAN, evidence)


@pytest.mark.parametrize(
    ("tampered", "told"),
    [
        ({"hanging": "unfinished t1"}, "never came to rest"),
        ({"complaints": ("a replica has a defect",)}, "defect"),
        ({"verified": "spent is 1"}, "ledger verify"),
        ({"refused": ("t2",)}, "adjust refused"),
        ({"windows": {MONTH: (15_703, 0)}}, "has spent 15703"),
        ({"windows": {MONTH: (15_704, 1)}}, "still holds 1"),
        ({"pictures": {}}, "0 can be fetched"),
        ({"pictures": {"t1": ("p2",)}}, "a picture that no task has"),
        ({"orders": (*ORDERS, replace(ORDERS[0], id="up3", key="k3"))}, "and 2 were ordered"),
        ({"orders": (*ORDERS, replace(ORDERS[0], id="up3"))}, "2 orders under the one key"),
        ({"orders": (ORDERS[0], replace(ORDERS[1], key="k9"))}, "ordered by nobody"),
        ({"renders": (replace(MADE, verb=""), UNKNOWN)}, "no end in the ledger"),
        ({"renders": (replace(MADE, cost_microusd=7_851), UNKNOWN)}, "charged 7851"),
        ({"renders": (replace(MADE, upstream="up2"), UNKNOWN)}, "bound to up2"),
        ({"renders": (replace(MADE, status="failed"), UNKNOWN)}, "paid for and is failed"),
        ({"renders": (MADE, replace(UNKNOWN, cost_microusd=7_851))}, "counts as 7851"),
        ({"renders": (MADE, replace(UNKNOWN, verb="release", cost_microusd=0))}, "charged 0"),
        ({"answers": (GOOD.answers[0], Answer(LOST, pictures=("p1",)))}, "2 different calls"),
        ({"answers": (Answer(CALL, pictures=()), GOOD.answers[1])}, "got 0 pictures"),
    ],
)
def test_what_differs(tampered: dict[str, object], told: str) -> None:
    """Each thing that is not as it has to be is told."""
    found = differences(PLAN, replace(GOOD, **tampered))  # type: ignore[arg-type]

    assert any(told in difference for difference in found), found


@pytest.mark.parametrize(
    ("error", "call", "plan", "allowed"),
    [
        ("504 submit_unknown", CALL, PLAN, True),
        ("504 submit_unknown", CALL, replace(PLAN, proven=True), False),
        ("504 still_running", CALL, PLAN, True),
        ("400 moderation_blocked", replace(CALL, play=BLOCKED), PLAN, True),
        ("400 moderation_blocked", CALL, PLAN, False),
        ("502 upstream_failed", replace(CALL, play=FAILED), PLAN, True),
        ("502 upstream_failed", CALL, PLAN, False),
        ("503 ledger_unavailable", CALL, PLAN, False),
        ("503 ledger_unavailable", CALL, replace(PLAN, moments=(Moment(0, Act.STALL),)), True),
        ("500 None", CALL, PLAN, False),
        (TIMED_OUT, CALL, PLAN, False),
        (TIMED_OUT, replace(CALL, patience_s=2.5), PLAN, True),
        (CUT_OFF, CALL, PLAN, False),
        (CUT_OFF, replace(CALL, patience_s=2.5), PLAN, True),
        (HUNG, replace(CALL, patience_s=2.5), PLAN, False),
    ],
)
def test_what_clients_may_be_told(
    error: str, call: PlannedCall, plan: Plan, *, allowed: bool
) -> None:
    """The contract's errors where they belong, and no other."""
    evidence = replace(GOOD, answers=(*GOOD.answers, Answer(call, error=error)))
    found = [one for one in differences(plan, evidence) if "was told" in one]

    assert allowed is not bool(found)


def test_proven_keys_order_every_picture() -> None:
    """Where the upstream proves keys, what was admitted was ordered, unless its time was up."""
    plan, orders = replace(PLAN, proven=True), ORDERS[:1]
    waited = replace(UNKNOWN, failure="deadline", verb="release", cost_microusd=0)
    answers = (GOOD.answers[0], Answer(LOST, error="504 still_running"))
    evidence = replace(GOOD, orders=orders, answers=answers, windows={MONTH: (7_852, 0)})

    assert [] == differences(plan, replace(evidence, renders=(MADE, waited)))
    assert any("never ordered" in one for one in differences(plan, evidence))
