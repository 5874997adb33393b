"""Whether a round kept the promise: one picture, one charge. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.chaos.clients import CUT_OFF, TIMED_OUT
from tests.chaos.evidence import Ended, Evidence
from tests.chaos.plan import BLOCKED, FAILED, PATIENCES_S, Plan, PlannedCall

#: Why a render may have ended although nothing was ordered for it.
UNSENT = frozenset({"deadline", "withdrawn", "rate_limited", "upstream_down"})


def differences(plan: Plan, evidence: Evidence) -> list[str]:
    """Return everything that is not as it has to be; nothing when the round is good."""
    return [
        *([f"it never came to rest: {evidence.hanging}"] if evidence.hanging else []),
        *evidence.complaints,
        *_wrong_answers(plan, evidence),
        *_wrong_orders(plan, evidence),
        *_wrong_charges(evidence),
        *_missing_pictures(evidence),
        *_wrong_books(evidence),
    ]


def _wrong_answers(plan: Plan, evidence: Evidence) -> Iterator[str]:
    for answer in evidence.answers:
        call = answer.call
        if answer.error and not _is_allowed(plan, call, answer.error):
            yield f"{call.label} ({call.play}) was told: {answer.error}"
        if not answer.error and not 1 <= len(answer.pictures) <= call.pictures:
            yield f"{call.label} got {len(answer.pictures)} pictures of {call.pictures}"
    # Of calls that are all alike, a retry may be attached to the task of another one: nobody can
    # tell which of them has lost its connection.
    given = {
        (digest, answer.call.label) for answer in evidence.answers for digest in answer.pictures
    }
    for digest, count in Counter(digest for digest, _ in given).items():
        if count > 1:
            yield f"the picture {digest[:12]} was given to {count} different calls"


def _is_allowed(plan: Plan, call: PlannedCall, error: str) -> bool:
    """Tell whether the contract has this answer for this call, in a round like this."""
    # Clients in a hurry give up by themselves; the others have three tries of half a minute, and
    # no round takes so many connections from them.
    is_in_a_hurry = call.patience_s < max(PATIENCES_S)
    allowed = {
        "400 moderation_blocked": BLOCKED in call.play,
        "502 upstream_failed": FAILED in call.play,
        "504 submit_unknown": not plan.proven,
        # It waited for its turn until its deadline: nothing was ordered, which is looked at below.
        "504 still_running": True,
        "503 ledger_unavailable": plan.touches_store,
        TIMED_OUT: is_in_a_hurry,
        CUT_OFF: is_in_a_hurry,
    }
    return allowed.get(error, False)


def _wrong_orders(plan: Plan, evidence: Evidence) -> Iterator[str]:
    """Compare what was ordered upstream with what clients have asked for."""
    asked: Counter[str] = Counter()
    for answer in evidence.answers:
        asked[answer.call.label] += answer.call.pictures
    # A failure that costs nothing may be tried again; everything else is a picture.
    paid = [order for order in evidence.orders if order.state != "failed"]
    for label, count in Counter(order.label for order in paid).items():
        if count > asked[label]:
            yield f"{label} asked for {asked[label]} pictures, and {count} were ordered"
    for key, count in Counter(order.key for order in evidence.orders).items():
        if count > 1:
            yield f"{count} orders under the one key {key}"
    known = {render.attempt for render in evidence.renders}
    for order in paid:
        if order.key not in known:
            yield f"{order.id} ({order.label}) was ordered by nobody who is known"
    if plan.proven:
        yield from _never_ordered(evidence)


def _never_ordered(evidence: Evidence) -> Iterator[str]:
    keys = {order.key for order in evidence.orders}
    for render in evidence.renders:
        if render.failure not in UNSENT and render.attempt not in keys:
            yield f"{_name(render)} ended {render.status} and was never ordered"


def _wrong_charges(evidence: Evidence) -> Iterator[str]:
    """Compare what each render was charged with what the upstream billed for it."""
    orders = {order.key: order for order in evidence.orders}
    for render in evidence.renders:
        order = orders.get(render.attempt)
        bill = order.cost_microusd if order is not None else 0
        match render.verb:
            case "":
                yield f"{_name(render)} ({render.status}) has no end in the ledger"
            case "possible_charge":
                if render.cost_microusd < bill:
                    yield f"{_name(render)} counts as {render.cost_microusd}, billed is {bill}"
            case _:
                if render.cost_microusd != bill:
                    yield f"{_name(render)} was charged {render.cost_microusd}, billed is {bill}"
                # A failure that cost nothing is queued again, and may end there.
                if order is not None and order.state != "failed" and render.upstream != order.id:
                    yield f"{_name(render)} was bound to {render.upstream}, ordered was {order.id}"


def _missing_pictures(evidence: Evidence) -> Iterator[str]:
    """Look for every picture that is paid for and not possibly charged."""
    for render in evidence.renders:
        if render.verb == "settle" and render.cost_microusd and render.status != "completed":
            yield f"{_name(render)} was paid for and is {render.status}"
    completed = Counter(render.task for render in evidence.renders if render.status == "completed")
    for task, count in completed.items():
        found = len(evidence.pictures.get(task, ()))
        if found != count:
            yield f"{task} has {count} pictures, and {found} can be fetched"
    kept = {digest for pictures in evidence.pictures.values() for digest in pictures}
    for answer in evidence.answers:
        for digest in answer.pictures:
            if digest not in kept:
                yield f"{answer.call.label} got a picture that no task has"


def _wrong_books(evidence: Evidence) -> Iterator[str]:
    if evidence.verified:
        yield f"ledger verify: {evidence.verified}"
    for refusal in evidence.refused:
        yield f"ledger adjust refused {refusal}"
    charged = sum(
        render.cost_microusd for render in evidence.renders if render.verb != "possible_charge"
    )
    orders = {order.key: order.cost_microusd for order in evidence.orders}
    possible = sum(
        orders.get(render.attempt, 0)
        for render in evidence.renders
        if render.verb == "possible_charge"
    )
    bill = evidence.bill_microusd
    if charged + possible != bill:
        yield f"charges of {charged} and {possible} of the possible ones, billed is {bill}"
    for key, (spent, held) in evidence.windows.items():
        if spent != bill:
            yield f"{key} has spent {spent} after all corrections, billed is {bill}"
        if held:
            yield f"{key} still holds {held}"


def _name(render: Ended) -> str:
    return f"{render.task}:{render.index}"
