import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.task import (
    FACTS,
    SCHEMA,
    TERMINAL,
    TRANSITIONS,
    Event,
    IllegalTransitionError,
    Render,
    RenderState,
    SubmitOrder,
    advance,
)

#: The whole table once more, row by row: from, event, to.
LEGAL = [
    ("queued", "begin", "submitting"),
    ("queued", "expire", "failed"),
    ("submitting", "submit", "submitted"),
    ("submitting", "not_sent", "queued"),
    ("submitting", "reject", "failed"),
    ("submitting", "lose_track", "unknown"),
    # A known upstream id is never dropped, however late it comes (rule 2).
    ("unknown", "submit", "submitted"),
    ("submitted", "finish", "completed"),
    ("submitted", "fail", "failed"),
    ("submitted", "lose", "lost"),
]
ILLEGAL = sorted(
    set(itertools.product(map(str, RenderState), map(str, Event)))
    - {(before, event) for before, event, _ in LEGAL}
)
QUEUED = Render(order=SubmitOrder(provider="evolink", account="evolink", body={}))


@pytest.mark.parametrize(("before", "event", "after"), LEGAL)
def test_legal_transitions(before: str, event: str, after: str) -> None:
    """Each row of the table leads where it says."""
    assert RenderState(after) is advance(RenderState(before), Event(event))


@pytest.mark.parametrize(("before", "event"), ILLEGAL)
def test_illegal_transitions(before: str, event: str) -> None:
    """Every other pair of state and event raises, and the error names both."""
    with pytest.raises(IllegalTransitionError) as refusal:
        advance(RenderState(before), Event(event))

    error = refusal.value
    assert (before, event, f"a {before} render cannot {event}") == (
        *(error.state, error.event),
        str(error),
    )


def test_the_table_has_a_row_for_every_event() -> None:
    """No event can meet a hole in the table."""
    assert set(Event) == set(TRANSITIONS)


@given(st.lists(st.sampled_from(Event)))
def test_any_sequence_of_events_stays_in_the_table(events: list[Event]) -> None:
    """From `queued`, whatever happens ends in a known state, and what is refused moves nothing."""
    render = QUEUED
    refusals = []
    for event in events:
        try:
            render = render.after(event)
        except IllegalTransitionError as refusal:
            refusals.append((render.state, refusal.state))

    assert render.state in set(RenderState)
    assert all(stood is refused for stood, refused in refusals)


def test_every_state_can_be_reached() -> None:
    """There is no state that nothing leads to."""
    reached = {RenderState.QUEUED}
    for _ in RenderState:
        reached |= {
            after
            for row in TRANSITIONS.values()
            for before, after in row.items()
            if before in reached
        }

    assert set(RenderState) == reached


def test_nothing_leaves_a_terminal_state_but_a_late_fact() -> None:
    """A picture that ended is never begun again; only a late upstream id lifts `unknown`."""
    leaving = {
        (before, event)
        for event, row in TRANSITIONS.items()
        for before in row
        if before in TERMINAL
    }

    assert {(RenderState.UNKNOWN, Event.SUBMIT)} == leaving


def test_only_queued_renders_are_posted() -> None:
    """Nothing that may have been sent is ever sent again (rules 1 and 4)."""
    assert TRANSITIONS[Event.BEGIN] == {RenderState.QUEUED: RenderState.SUBMITTING}
    assert TRANSITIONS[Event.NOT_SENT] == {RenderState.SUBMITTING: RenderState.QUEUED}


def test_facts_and_ends() -> None:
    """Two events are facts from any owner; four states are ends."""
    assert {Event.SUBMIT, Event.NOT_SENT} == FACTS
    assert {"completed", "failed", "unknown", "lost"} == set(map(str, TERMINAL))


def test_after_keeps_what_an_event_does_not_tell() -> None:
    """Ids are added when they become known and stay from then on."""
    begun = QUEUED.after(Event.BEGIN, attempt_id="run_1")
    submitted = begun.after(Event.SUBMIT, upstream_id="task-1")
    finished = submitted.after(Event.FINISH)

    assert (
        *(begun.state, begun.attempt_id),
        begun.upstream_id,
    ) == (RenderState.SUBMITTING, "run_1", "")
    assert (RenderState.COMPLETED, "run_1", "task-1", QUEUED.order) == (
        *(finished.state, finished.attempt_id),
        *(finished.upstream_id, finished.order),
    )


def test_a_new_try_has_a_new_attempt_id() -> None:
    """The attempt id names the current try, which is its idempotency key."""
    tried = QUEUED.after(Event.BEGIN, attempt_id="run_1").after(Event.NOT_SENT)

    assert tried.after(Event.BEGIN, attempt_id="run_2").attempt_id == "run_2"


def test_schema() -> None:
    """Records are written as schema 1; a change of this number needs a migration (rule 23)."""
    assert SCHEMA == 1
