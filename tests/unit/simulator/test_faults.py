import pytest

from gateway.simulator.errors import error_body
from gateway.simulator.faults import SUBMIT_FAULTS, TASK_FAULTS
from gateway.simulator.settings import Envelope


@pytest.mark.parametrize(
    ("name", "status", "code", "kind"),
    [
        ("invalid_request", 400, "invalid_request", "invalid_request_error"),
        ("unauthorized", 401, "unauthorized", "authentication_error"),
        ("key_disabled", 401, "KEY_DISABLED", "authentication_error"),
        ("insufficient_quota", 402, "insufficient_quota", "insufficient_quota"),
        ("key_daily_quota_exhausted", 402, "key_daily_quota_exhausted", "insufficient_quota"),
        ("model_access_denied", 403, "model_access_denied", "invalid_request_error"),
        ("model_not_found", 404, 404, "not_found_error"),
        ("paid_outcome_unknown", 409, "paid_outcome_unknown", "invalid_request_error"),
        ("request_too_large", 413, 413, "request_too_large_error"),
        ("rate_limit_exceeded", 429, "rate_limit_exceeded", "rate_limit_error"),
        ("resource_exhausted", 429, 429, ""),
        ("internal_error", 500, "internal_error", "api_error"),
        ("upstream_error", 502, "upstream_error", "upstream_error"),
        ("service_unavailable", 503, "service_unavailable", "service_unavailable_error"),
        ("moderation_blocked", 400, "moderation_blocked", "invalid_request_error"),
        ("no_available_channel", 503, "no_available_channel", "api_error"),
    ],
)
def test_submit_faults(name: str, status: int, code: str | int, kind: str) -> None:
    """Each row has the documented status, code and type."""
    problem = SUBMIT_FAULTS[name]
    error = error_body(problem, Envelope.STRING)["error"]

    assert (status, code, kind) == (problem.status, error["code"], error["type"])


def test_integer_form_of_every_submit_fault() -> None:
    """Whatever the row, the older envelope's code is the HTTP status."""
    for problem in SUBMIT_FAULTS.values():
        assert problem.status == error_body(problem, Envelope.INTEGER)["error"]["code"]


def test_rows_are_found_without_case() -> None:
    """Keys are lower case, because markers are compared so."""
    assert [name.casefold() for name in SUBMIT_FAULTS] == list(SUBMIT_FAULTS)


def test_every_documented_task_code_is_playable() -> None:
    """The thirteen documented codes and the client's three are there."""
    assert {
        "content_policy_violation",
        "invalid_parameters",
        "image_processing_error",
        "image_dimension_mismatch",
        "request_cancelled",
        "generation_failed_no_content",
        "service_error",
        "generation_timeout",
        "resource_exhausted",
        "quota_exceeded",
        "service_unavailable",
        "resource_not_found",
        "unknown_error",
        "model_unavailable",
        "upstream_error",
        "rate_limited",
    } == set(TASK_FAULTS)
