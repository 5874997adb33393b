import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import (
    CURABLE_FAILURES,
    FACTS,
    PASSING_FAILURES,
    SCHEMA,
    TRANSITIONS,
    Event,
    FailureKind,
    IllegalTransitionError,
    Render,
    RenderState,
    Result,
    advance,
    picture_key,
    picture_of,
)
from tests.support.factories import a_picture_in_store, a_render, a_result, a_task

#: The whole table once more, row by row: from, event, to.
LEGAL = [
    ("queued", "begin", "submitting"),
    ("queued", "expire", "failed"),
    ("submitting", "submit", "submitted"),
    ("submitting", "not_sent", "queued"),
    ("submitting", "reject", "failed"),
    ("submitting", "lose_track", "unknown"),
    ("submitting", "write_off", "unknown"),
    # A known upstream id is never dropped, however late it comes (rule 2).
    ("unknown", "submit", "submitted"),
    ("unknown", "write_off", "unknown"),
    ("submitted", "retry", "queued"),
    ("submitted", "finish", "completed"),
    ("submitted", "fail", "failed"),
    ("submitted", "lose", "lost"),
]
ILLEGAL = sorted(
    set(itertools.product(map(str, RenderState), map(str, Event)))
    - {(before, event) for before, event, _ in LEGAL}
)
QUEUED = Render()


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


def test_nothing_leaves_an_end_but_a_late_fact() -> None:
    """A picture that ended is never begun again; only a late upstream id lifts `unknown`."""
    ends = {RenderState.COMPLETED, RenderState.FAILED, RenderState.LOST, RenderState.UNKNOWN}
    leaving = {
        (before, event) for event, row in TRANSITIONS.items() for before in row if before in ends
    }

    assert {
        (RenderState.UNKNOWN, Event.SUBMIT),
        (RenderState.UNKNOWN, Event.WRITE_OFF),
    } == leaving


def test_only_queued_renders_are_posted() -> None:
    """Nothing that may have been sent is sent again but after a known failure (rules 1 and 4)."""
    back = {
        (before, event)
        for event, row in TRANSITIONS.items()
        for before, after in row.items()
        if after is RenderState.QUEUED
    }

    assert TRANSITIONS[Event.BEGIN] == {RenderState.QUEUED: RenderState.SUBMITTING}
    assert {
        (RenderState.SUBMITTING, Event.NOT_SENT),
        (RenderState.SUBMITTED, Event.RETRY),
    } == back


def test_facts() -> None:
    """Two events are facts from any owner; the others are decisions of the owner."""
    assert {Event.SUBMIT, Event.NOT_SENT} == FACTS


def test_what_another_try_may_cure() -> None:
    """A refusal of the request is never cured by a repetition; our own withdrawal never either."""
    of_the_request = {
        FailureKind.MODERATION,
        FailureKind.INVALID_REQUEST,
        FailureKind.BAD_REFERENCE,
    }

    assert not CURABLE_FAILURES & (of_the_request | {FailureKind.WITHDRAWN, FailureKind.CANCELLED})
    assert not PASSING_FAILURES & of_the_request


def test_after_keeps_what_an_event_does_not_tell() -> None:
    """Ids are added when they become known and stay from then on."""
    begun = QUEUED.after(Event.BEGIN, attempt_id="run_1")
    submitted = begun.after(Event.SUBMIT, upstream_id="task-1")
    finished = submitted.after(Event.FINISH)

    assert (
        *(begun.state, begun.attempt_id),
        begun.upstream_id,
    ) == (RenderState.SUBMITTING, "run_1", "")
    assert (RenderState.COMPLETED, "run_1", "task-1") == (
        *(finished.state, finished.attempt_id),
        finished.upstream_id,
    )


def test_a_new_try_has_a_new_attempt_id() -> None:
    """The attempt id names the current try, which is its idempotency key."""
    tried = QUEUED.after(Event.BEGIN, attempt_id="run_1").after(Event.NOT_SENT)

    assert tried.after(Event.BEGIN, attempt_id="run_2").attempt_id == "run_2"


def test_tries_are_submissions_that_were_begun() -> None:
    """Each begin counts, also of a try that was never sent; nothing else does."""
    render = QUEUED
    for event in (Event.BEGIN, Event.NOT_SENT, Event.BEGIN, Event.SUBMIT, Event.RETRY):
        render = render.after(event, attempt_id="run_1", upstream_id="task-1")

    assert (RenderState.QUEUED, 2) == (render.state, render.tries)


def test_a_render_that_is_tried_again_forgets_the_task_that_failed() -> None:
    """The upstream id names the submission of now: after a retry there is none."""
    failed = QUEUED.after(Event.BEGIN, attempt_id="run_1").after(Event.SUBMIT, upstream_id="t-1")

    assert "" == failed.after(Event.RETRY).upstream_id


@pytest.mark.parametrize(
    ("result", "settled"),
    [
        (None, False),
        (a_result(), False),
        (a_result(stored=a_picture_in_store()), True),
        (a_result(lost=True), True),
        (a_result(failure=FailureKind.MODERATION, cost_microusd=0), True),
    ],
)
def test_a_render_is_settled_when_nothing_more_will_come(
    result: Result | None, settled: bool
) -> None:
    """A picture in the store, one that is lost, or a failure; a link alone has to be fetched."""
    render = a_render(result=result)
    over = a_render(1, result=a_result(lost=True))

    assert settled is render.settled
    assert settled is a_task(render, over).over is a_task(over, render).over


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_task_with_one_render_as_it_is_now(index: int) -> None:
    """The render is put in its own place and the others stay theirs."""
    task = a_task(*(a_render(number) for number in range(3)))
    now = a_render(index, state=RenderState.LOST)
    states = [render.state for render in task.with_render(now).renders]

    assert [0, 1, 2] == [render.index for render in task.with_render(now).renders]
    assert [index] == [place for place, state in enumerate(states) if state is RenderState.LOST]


def test_pictures_are_named_by_team_task_and_render() -> None:
    """The name is the same however often a picture is stored, and no two renders share one."""
    assert "design/imgtask_1/2" == picture_key(TeamId("design"), TaskId("imgtask_1"), 2)
    assert (TeamId("design"), TaskId("imgtask_1"), 2) == picture_of("design/imgtask_1/2")


def test_schema() -> None:
    """Records are written as schema 1; a change of this number needs a migration (rule 23)."""
    assert SCHEMA == 1


def test_each_event_is_progress() -> None:
    """However a render goes, it has come further than before: less is what a store has kept."""
    begun = Render().after(Event.BEGIN, attempt_id="run_1")
    lost_track = begun.after(Event.LOSE_TRACK)
    submitted = lost_track.after(Event.SUBMIT, upstream_id="up-1")
    again = submitted.after(Event.RETRY).after(Event.BEGIN, attempt_id="run_2")
    returned = again.after(Event.NOT_SENT)
    failed = replace(returned.after(Event.EXPIRE), result=a_result(lost=True))
    course = [Render(), begun, lost_track, submitted, submitted.after(Event.RETRY)]
    course += [again, returned, failed]

    progress = [render.progress for render in course]
    assert sorted(set(progress)) == progress
