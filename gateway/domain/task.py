"""A task, its renders, and the one table that says how a render may move.

Rule 1: every transition of a render is a row of `TRANSITIONS`. The scripts in the store are
handed the states that an event may leave from out of this table; they know none themselves.
Rule 2: an event that is not allowed raises and changes nothing.

Some events are *decisions* (only the current owner may take them: its epoch must match) and some
are *facts* (they happened, whoever reports them): a known upstream id is never dropped because
somebody else owns the task by now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.domain.errors import BudgetState
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.pricing import Charge

#: Version of the stored record; readers keep fields they do not know (design rule 23).
SCHEMA = 1


class RenderState(StrEnum):
    """Where one submission stands."""

    #: Paid for by the hold, not yet on its way.
    QUEUED = "queued"
    #: Somebody won the right to post it; nobody else may, and nobody may conclude it was not sent.
    SUBMITTING = "submitting"
    #: The upstream gave it an id.
    SUBMITTED = "submitted"
    #: It is done and its results are known.
    COMPLETED = "completed"
    #: It ended without a picture, and why is known.
    FAILED = "failed"
    #: It was sent and no answer told what became of it; never generated again.
    UNKNOWN = "unknown"
    #: The upstream no longer knows it, or it was followed for too long.
    LOST = "lost"


class Event(StrEnum):
    """What can happen to a render."""

    BEGIN = "begin"
    SUBMIT = "submit"
    NOT_SENT = "not_sent"
    REJECT = "reject"
    LOSE_TRACK = "lose_track"
    FINISH = "finish"
    FAIL = "fail"
    LOSE = "lose"
    EXPIRE = "expire"


TRANSITIONS: dict[Event, dict[RenderState, RenderState]] = {
    Event.BEGIN: {RenderState.QUEUED: RenderState.SUBMITTING},
    Event.SUBMIT: {
        RenderState.SUBMITTING: RenderState.SUBMITTED,
        RenderState.UNKNOWN: RenderState.SUBMITTED,
    },
    Event.NOT_SENT: {RenderState.SUBMITTING: RenderState.QUEUED},
    Event.REJECT: {RenderState.SUBMITTING: RenderState.FAILED},
    Event.LOSE_TRACK: {RenderState.SUBMITTING: RenderState.UNKNOWN},
    Event.FINISH: {RenderState.SUBMITTED: RenderState.COMPLETED},
    Event.FAIL: {RenderState.SUBMITTED: RenderState.FAILED},
    Event.LOSE: {RenderState.SUBMITTED: RenderState.LOST},
    Event.EXPIRE: {RenderState.QUEUED: RenderState.FAILED},
}

#: Events that stay true when somebody else owns the task by now.
FACTS = frozenset({Event.SUBMIT, Event.NOT_SENT})

#: States that nothing leaves by itself (a late fact may still lift UNKNOWN).
TERMINAL = frozenset(
    {RenderState.COMPLETED, RenderState.FAILED, RenderState.UNKNOWN, RenderState.LOST}
)


class IllegalTransitionError(Exception):
    """An event met a state it may not leave from."""

    def __init__(self, state: RenderState, event: Event) -> None:
        super().__init__(f"a {state} render cannot {event}")
        self.state = state
        self.event = event


def advance(state: RenderState, event: Event) -> RenderState:
    """Return the state after the event; IllegalTransitionError when the table has no such row."""
    following = TRANSITIONS[event].get(state)
    if following is None:
        raise IllegalTransitionError(state, event)
    return following


class FailureKind(StrEnum):
    """Why a render has no picture, as far as anybody may be told."""

    MODERATION = "moderation"
    INVALID_REQUEST = "invalid_request"
    BAD_REFERENCE = "bad_reference"
    #: The upstream refuses our key.
    AUTH = "auth"
    #: Our account there is empty.
    INSUFFICIENT_FUNDS = "insufficient_funds"
    RATE_LIMITED = "rate_limited"
    #: Not reachable, or it has no capacity for this model.
    UPSTREAM_DOWN = "upstream_down"
    #: It took the task and failed to make the picture.
    GENERATION_FAILED = "generation_failed"
    #: It says the task was cancelled; nobody here did that.
    CANCELLED = "cancelled"
    #: The submit's answer never came.
    SUBMIT_UNKNOWN = "submit_unknown"
    #: The picture or its task cannot be found any more.
    RESULT_LOST = "result_lost"
    #: It waited longer than the deadline to be submitted.
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class SubmitOrder:
    """Exactly what is sent upstream, journaled before it leaves: body, key and account."""

    provider: str
    account: str
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class HeldWindow:
    """One budget window a hold was taken from: the store's key, and the budget as it was then."""

    key: str
    scope: str
    owner: str
    name: str
    per: str
    limit_microusd: int
    starts_at_ms: int
    resets_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for a task; the id is the task's."""

    amount_microusd: int
    windows: tuple[HeldWindow, ...]


@dataclass(frozen=True, slots=True)
class Render:
    """One submission of a task. `attempt_id` names the current try and is its idempotency key."""

    order: SubmitOrder
    state: RenderState = RenderState.QUEUED
    attempt_id: str = ""
    upstream_id: str = ""

    def after(self, event: Event, *, attempt_id: str = "", upstream_id: str = "") -> Render:
        """Return the render after an event, with what the event tells."""
        return replace(
            self,
            state=advance(self.state, event),
            attempt_id=attempt_id or self.attempt_id,
            upstream_id=upstream_id or self.upstream_id,
        )


@dataclass(frozen=True, slots=True)
class Task:
    """One client call, from admission to settled result.

    `size` and `quality` are the resolved ones that were priced and sent. `epoch` counts owners.
    `user` is the end user's hash, empty when the call named none.
    """

    id: TaskId
    team: TeamId
    key_name: str
    user: str
    model: str
    size: str
    quality: str
    created_ms: int
    owner: str
    epoch: int
    hold: Hold
    render: Render


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a task's money ended: what was charged and the budgets after it."""

    charge: Charge
    budgets: tuple[BudgetState, ...]
