from gateway.domain.ids import RequestId
from gateway.edge.record import RequestRecord, record_of
from tests.support.factories import a_record, a_request


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


def test_labels_are_other_until_known() -> None:
    """Metric labels are never empty and never what a client sent."""
    record = RequestRecord(request_id=RequestId("req_1"), started_s=0.0)

    assert (record.team, record.model, record.error_code) == ("other", "other", "")


def test_record_of() -> None:
    """Handlers find the record that the middleware put on the request."""
    request = a_request()

    assert request.scope["state"]["record"] is record_of(request)
