"""A task, its renders, and the one table that says how a render may move.

Rule 1: every transition of a render is a row of `TRANSITIONS`. The scripts in the store are
handed the states that an event may leave from out of this table; they know none themselves.
Rule 2: an event that is not allowed raises and changes nothing.

Some events are *decisions* (only the current owner may take them: its epoch must match) and some
are *facts* (they happened, whoever reports them): a known upstream id is never dropped because
somebody else owns the task by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import (
    NO_REFERENCES,
    PLAIN_PNG,
    Operation,
    Output,
    References,
    StoredPicture,
    TokenUsage,
)
from gateway.domain.pricing import ChargeBasis

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
    #: It was sent and no answer told what became of it; never generated again. It stays unknown
    #: when it is written off; a late fact may still lift it until then.
    UNKNOWN = "unknown"
    #: The upstream no longer knows it, or it was followed for too long.
    LOST = "lost"


class Event(StrEnum):
    """What can happen to a render."""

    BEGIN = "begin"
    SUBMIT = "submit"
    NOT_SENT = "not_sent"
    LOSE_TRACK = "lose_track"
    RETRY = "retry"
    REJECT = "reject"
    WRITE_OFF = "write_off"
    FINISH = "finish"
    FAIL = "fail"
    LOSE = "lose"
    EXPIRE = "expire"


TRANSITIONS: dict[Event, dict[RenderState, RenderState]] = {
    # These move a render on; its hold stays as it is.
    Event.BEGIN: {RenderState.QUEUED: RenderState.SUBMITTING},
    Event.SUBMIT: {
        RenderState.SUBMITTING: RenderState.SUBMITTED,
        RenderState.UNKNOWN: RenderState.SUBMITTED,
    },
    Event.NOT_SENT: {RenderState.SUBMITTING: RenderState.QUEUED},
    Event.LOSE_TRACK: {RenderState.SUBMITTING: RenderState.UNKNOWN},
    Event.RETRY: {RenderState.SUBMITTED: RenderState.QUEUED},
    # These end it, and its hold with it.
    Event.REJECT: {RenderState.SUBMITTING: RenderState.FAILED},
    Event.WRITE_OFF: {
        RenderState.SUBMITTING: RenderState.UNKNOWN,
        RenderState.UNKNOWN: RenderState.UNKNOWN,
    },
    Event.FINISH: {RenderState.SUBMITTED: RenderState.COMPLETED},
    Event.FAIL: {RenderState.SUBMITTED: RenderState.FAILED},
    Event.LOSE: {RenderState.SUBMITTED: RenderState.LOST},
    Event.EXPIRE: {RenderState.QUEUED: RenderState.FAILED},
}

#: How far a state is within one try. Queued comes last: back from a submit that was none, or
#: waiting for the next try.
PROGRESS: dict[RenderState, int] = {
    RenderState.SUBMITTING: 0,
    RenderState.UNKNOWN: 1,
    RenderState.SUBMITTED: 2,
    RenderState.QUEUED: 3,
    RenderState.COMPLETED: 4,
    RenderState.FAILED: 4,
    RenderState.LOST: 4,
}
#: And beyond all of them: its money is settled. One try is one more than this.
SETTLED_PROGRESS = 9

#: Events that stay true when somebody else owns the task by now.
FACTS = frozenset({Event.SUBMIT, Event.NOT_SENT})


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
    #: More words than the model takes: some count tokens, which only they can.
    PROMPT_TOO_LONG = "prompt_too_long"
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
    #: Its team cancelled it, or nobody waited for it any more, before it was submitted.
    WITHDRAWN = "withdrawn"


#: Reasons that lie between the upstream and us: true of that moment, not of the request. As long
#: as nothing was submitted, a retry is a new call; every other ending is final and is replayed.
PASSING_FAILURES = frozenset(
    {
        FailureKind.AUTH,
        FailureKind.INSUFFICIENT_FUNDS,
        FailureKind.RATE_LIMITED,
        FailureKind.UPSTREAM_DOWN,
        FailureKind.DEADLINE,
        FailureKind.WITHDRAWN,
    }
)

#: Failures of a task that was taken, which another try may cure when they cost nothing.
CURABLE_FAILURES = frozenset(
    {FailureKind.RATE_LIMITED, FailureKind.UPSTREAM_DOWN, FailureKind.GENERATION_FAILED}
)


class Surface(StrEnum):
    """Whose API a call came in by; values are kept in records."""

    OPENAI = "openai"
    EVOLINK = "evolink"


@dataclass(frozen=True, slots=True)
class SubmitOrder:
    """Exactly what is sent upstream, journaled before it leaves: body, key and account.

    Links to `references` are not in the body: they are found when a render is submitted, and
    journaled with its attempt (`Render.urls`).
    """

    provider: str
    account: str
    body: dict[str, object]
    references: References = NO_REFERENCES

    @property
    def prompt(self) -> str | None:
        """The words of the picture; None where they are known to nobody any more."""
        prompt = self.body.get("prompt", "")
        return prompt if isinstance(prompt, str) else None

    def without_prompt(self) -> SubmitOrder:
        """Return the order as it is written down where no prompt may be; it cannot be sent."""
        return replace(self, body=self.body | {"prompt": None})


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
    """Money set aside for each render of a task, and the windows it was taken from."""

    amount_microusd: int
    windows: tuple[HeldWindow, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """How a render ended: what it cost, and either its links or why there are none.

    `stored` is the picture in the asset store once it is there; `lost` says that it never will be.
    `by_category` is what the cost is made of, empty where it was read from a record.
    """

    cost_microusd: int
    basis: ChargeBasis
    failure: FailureKind | None = None
    links: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    stored: StoredPicture | None = None
    lost: bool = False
    by_category: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def settled(self) -> bool:
        """Tell whether nothing more will come: a picture in the store, or none for ever."""
        return self.failure is not None or self.stored is not None or self.lost


def progress_of(state: RenderState, tries: int, *, settled: bool) -> int:
    """Return how far a render has come: grows with every event, and with every new try."""
    within = SETTLED_PROGRESS if settled else PROGRESS[state]
    return (SETTLED_PROGRESS + 1) * tries + within


@dataclass(frozen=True, slots=True)
class Render:
    """One picture of a task, and the submission that makes it.

    `attempt_id` names the current try and is its idempotency key; `tries` counts submissions that
    were begun; `submitted_ms` is when the upstream took it (Unix ms, 0 before).
    `raised_microusd` is held beyond the task's hold. `urls` are the links to the references that
    this try sends, the mask's last.
    """

    index: int = 0
    state: RenderState = RenderState.QUEUED
    attempt_id: str = ""
    upstream_id: str = ""
    tries: int = 0
    submitted_ms: int = 0
    raised_microusd: int = 0
    result: Result | None = None
    urls: tuple[str, ...] = field(default=(), repr=False)

    def after(self, event: Event, *, attempt_id: str = "", upstream_id: str = "") -> Render:
        """Return the render after an event, with what the event tells."""
        return replace(
            self,
            state=advance(self.state, event),
            attempt_id=attempt_id or self.attempt_id,
            upstream_id="" if event is Event.RETRY else upstream_id or self.upstream_id,
            tries=self.tries + (event is Event.BEGIN),
        )

    @property
    def progress(self) -> int:
        """How far it has come: grows with every event, and with every new try."""
        return progress_of(self.state, self.tries, settled=self.result is not None)

    @property
    def settled(self) -> bool:
        """Tell whether nothing more will come of it."""
        return self.result is not None and self.result.settled


@dataclass(frozen=True, slots=True)
class Task:
    """One client call, from admission to settled result.

    `size` and `quality` are the resolved ones that were priced and sent. `epoch` counts owners;
    `owner` is empty for a task that was handed over and that nobody has taken yet. `user` is the
    end user's hash, empty when the call named none. `call` is the fingerprint of the call.
    `detached` is a task that nobody is expected to wait for. `references` is how many pictures it
    is made from. `ended_ms` is when its last render ended (0 before). `cancelled` tasks are not
    submitted any more. `callback_url` is told of its end, empty for nobody, in the words
    of the `surface` it came in by and with links below `base_url`, empty where nobody is told;
    `watchers` are replicas where requests wait for it. `output` is what its pictures are
    delivered as, `keep_ms` how long they and the record are kept (None for as long as all).
    `subject` is the hash of the end user that the call names, whether the books know it or not.
    `book` is the digest of the prices it was quoted by, empty where nobody wrote it down.
    `brought` are the references that were kept for it, known for as long as the record is.
    `trace` is the trace of the call, for whoever goes on with it (telemetry/traces.py).
    """

    id: TaskId
    team: TeamId
    key_name: str
    user: str
    model: str
    operation: Operation
    size: str
    quality: str
    created_ms: int
    owner: str
    epoch: int
    order: SubmitOrder
    hold: Hold
    renders: tuple[Render, ...]
    call: str = ""
    detached: bool = False
    references: int = 0
    ended_ms: int = 0
    cancelled: bool = False
    callback_url: str = field(default="", repr=False)
    surface: Surface = Surface.OPENAI
    base_url: str = ""
    watchers: tuple[str, ...] = ()
    output: Output = PLAIN_PNG
    keep_ms: int | None = None
    subject: str = ""
    book: str = ""
    brought: References = NO_REFERENCES
    trace: str = ""

    @property
    def over(self) -> bool:
        """Tell whether nothing more will come of any of its renders."""
        return all(render.settled for render in self.renders)

    def with_render(self, render: Render) -> Task:
        """Return the task with one of its renders as it is now."""
        renders = (*self.renders[: render.index], render, *self.renders[render.index + 1 :])
        return replace(self, renders=renders)


def picture_key(team: TeamId, task: TaskId, render: int) -> str:
    """Name a render's picture in the asset store: the same however often it is stored."""
    return f"{team}/{task}/{render}"


def picture_of(key: str) -> tuple[TeamId, TaskId, int]:
    """Return team, task and render of a picture's name. ValueError for a text that is none."""
    team, task, render = key.split("/")
    return TeamId(team), TaskId(task), int(render)
