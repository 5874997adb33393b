from datetime import date

import pytest

from gateway.domain.ids import RequestId, TaskId, TeamId
from gateway.domain.task import FailureKind, RenderState
from gateway.edge.expectation import Expectation
from gateway.edge.record import RequestRecord, go_duration, record_of
from gateway.ledger.quotas import RateState
from gateway.tasks.engine import Ticket
from gateway.tasks.live import Outcome
from tests.support.factories import (
    a_budget_state,
    a_picture_in_store,
    a_record,
    a_render,
    a_request,
    a_result,
    a_task,
)


def test_nothing_is_told_before_there_is_a_task() -> None:
    """A request without a task has no headers about one."""
    assert a_record().headers() == []


def test_headers_about_the_task() -> None:
    """Task, provider, cost and what is left are told, in dollars."""
    record = a_record()
    record.task = "imgtask_1"
    record.provider = "evolink"
    record.cost_microusd = 7834
    record.remaining_microusd = 49_992_166

    assert record.headers() == [
        (b"x-gateway-task-id", b"imgtask_1"),
        (b"x-gateway-provider", b"evolink"),
        (b"x-gateway-cost-usd", b"0.007834"),
        (b"x-gateway-budget-remaining-usd", b"49.992166"),
    ]


def test_nothing_left_is_told_too() -> None:
    """Zero is an amount: a free picture and an empty budget are told as 0.00."""
    record = a_record()
    record.cost_microusd = 0
    record.remaining_microusd = 0

    assert record.headers() == [
        (b"x-gateway-cost-usd", b"0.00"),
        (b"x-gateway-budget-remaining-usd", b"0.00"),
    ]


@pytest.mark.parametrize(("joined", "costs"), [(False, (1_000, 0)), (True, (0, 1_000))])
def test_what_an_outcome_tells(joined: bool, costs: tuple[int, int]) -> None:
    """Who made it, what it cost or saved, how much of it is there, and what is left."""
    made = a_render(
        0,
        state=RenderState.COMPLETED,
        result=a_result(stored=a_picture_in_store(0), cost_microusd=1_000),
    )
    blocked = a_result(failure=FailureKind.MODERATION, cost_microusd=0)
    failed = a_render(1, state=RenderState.FAILED, result=blocked)
    record = a_record()
    ticket = Ticket(TeamId("design"), TaskId("t"), "w", "p", joined=joined, live=None)
    record.note_outcome(ticket, Outcome(a_task(made, failed), (a_budget_state(),)))
    record.note_times(ticket)

    assert costs == (record.cost_microusd, record.saved_microusd)
    assert ("evolink", "1/2", a_budget_state().remaining_microusd) == (
        *(record.provider, record.partial),
        record.remaining_microusd,
    )


def test_joined_and_partial_answers_say_so() -> None:
    """A call that was attached costs nothing, and an answer that is not whole tells its part."""
    record = a_record()
    record.task = "imgtask_1"
    record.joined, record.saved_microusd, record.cost_microusd = True, 7834, 0
    record.partial = "3/4"

    assert record.headers() == [
        (b"x-gateway-task-id", b"imgtask_1"),
        (b"x-gateway-cost-usd", b"0.00"),
        (b"x-gateway-joined", b"true"),
        (b"x-gateway-partial", b"3/4"),
    ]


@pytest.mark.parametrize(
    ("successor", "told"),
    [("gpt-image-2", [(b"x-gateway-successor", b"gpt-image-2")]), ("", [])],
)
def test_an_end_that_is_near(successor: str, told: list[tuple[bytes, bytes]]) -> None:
    """The day is told as RFC 8594 has it, and the model to go to where there is one."""
    record = a_record()
    record.ends, record.successor = date(2026, 12, 1), successor

    assert [(b"sunset", b"Tue, 01 Dec 2026 00:00:00 GMT"), *told] == record.headers()


def test_what_to_expect_is_told() -> None:
    """How long such pictures take is among the headers, also before there is a task."""
    record = a_record()
    record.expectation = Expectation(43, fits=False)

    assert record.headers() == [
        (b"x-gateway-expected-seconds", b"43"),
        (b"x-gateway-timeout-hint", b"raise your timeout above 43s"),
    ]


def test_labels_are_other_until_known() -> None:
    """Metric labels are never empty and never what a client sent."""
    record = RequestRecord(request_id=RequestId("req_1"), started_s=0.0)

    assert (record.team, record.model, record.error_code) == ("other", "other", "")


def test_record_of() -> None:
    """Handlers find the record that the middleware put on the request."""
    request = a_request()

    assert request.scope["state"]["record"] is record_of(request)


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [
        (1, "1ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (58_891, "58.891s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (61_500, "1m1.5s"),
        (3_600_000, "1h0m0s"),
    ],
)
def test_lengths_of_time_are_written_as_go_does(milliseconds: int, written: str) -> None:
    """OpenAI's reset headers are Go durations (protocols/openai_images.md §8)."""
    assert written == go_duration(milliseconds)


def test_quotas_are_told_by_openais_names() -> None:
    """Each quota that was counted has three headers."""
    record = a_record()
    record.rates = (RateState("input-images", 60, 59, 1_000),)

    assert [
        (b"x-ratelimit-limit-input-images", b"60"),
        (b"x-ratelimit-remaining-input-images", b"59"),
        (b"x-ratelimit-reset-input-images", b"1s"),
    ] == record.headers()
