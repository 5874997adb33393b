import pytest

from gateway.simulator.errors import error_body
from gateway.simulator.query_faults import FILE_FAULTS, QUERY_FAULTS, invalid_file
from gateway.simulator.settings import Envelope


@pytest.mark.parametrize(
    ("name", "status", "code", "kind"),
    [
        ("invalid_task_id", 400, "invalid_task_id", "invalid_request_error"),
        ("unauthorized", 401, "unauthorized", "authentication_error"),
        ("quota_exceeded", 402, "quota_exceeded", "insufficient_quota"),
        ("permission_denied", 403, "permission_denied", "invalid_request_error"),
        ("task_not_found", 404, "task_not_found", "invalid_request_error"),
        ("task_expired", 410, "task_expired", "invalid_request_error"),
        ("rate_limit_exceeded", 429, "rate_limit_exceeded", "evo_api_error"),
        ("resource_exhausted", 429, 429, ""),
        ("internal_error", 500, "internal_error", "api_error"),
        ("upstream_error", 502, "upstream_error", "upstream_error"),
        ("service_unavailable", 503, "service_unavailable", "service_unavailable_error"),
    ],
)
def test_query_faults(name: str, status: int, code: str | int, kind: str) -> None:
    """Each row of the query endpoint has its status, code and type (§4.7)."""
    problem = QUERY_FAULTS[name]
    error = error_body(problem, Envelope.STRING)["error"]

    assert (status, code, kind) == (problem.status, error["code"], error["type"])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bad_request", 400),
        ("unauthorized", 401),
        ("forbidden", 403),
        ("not_found", 404),
        ("too_large", 40001),
        ("type_not_allowed", 40002),
        ("quota_exceeded", 40003),
        ("download_failed", 40004),
        ("internal_error", 500),
        ("storage_error", 50001),
        ("busy", 503),
    ],
)
def test_file_faults(name: str, code: int) -> None:
    """Each code of the file service is there (§7), with a status that says no."""
    assert code == FILE_FAULTS[name].code
    assert 400 <= FILE_FAULTS[name].status < 600


def test_bad_parameter_of_the_file_service() -> None:
    """The text says which."""
    assert (400, "Invalid request parameters: too long") == (
        invalid_file("too long").problem.code,
        str(invalid_file("too long")),
    )
