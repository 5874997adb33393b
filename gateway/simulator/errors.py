"""Refusals and the two envelopes they are written in (protocols/evolink.md §9)."""

from dataclasses import dataclass
from typing import Any

from gateway.simulator.settings import Envelope


@dataclass(frozen=True, slots=True)
class OlderForm:
    """Say the same refusal as the documents of early 2026 did (§9.2, second table)."""

    message: str
    type: str
    param: str | None = None
    fallback_suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Describe one refusal: HTTP status and the fields of its error object."""

    status: int
    code: str
    """Empty: only the integer form of this refusal is known."""
    message: str
    type: str
    param: str | None = None
    older: OlderForm | None = None


class RefusedError(Exception):
    """Carry a refusal to the place that answers the request."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def error_body(problem: Problem, envelope: Envelope) -> dict[str, Any]:
    """Write a refusal in the asked envelope; absent fields are left out."""
    if envelope is Envelope.INTEGER or not problem.code:
        form = problem.older or OlderForm(problem.message, problem.type, problem.param)
        fields: dict[str, Any] = {
            "code": problem.status,
            "fallback_suggestion": form.fallback_suggestion,
            "message": form.message,
            "param": form.param,
            "type": form.type,
        }
    else:
        fields = {
            "code": problem.code,
            "message": problem.message,
            "param": problem.param,
            "type": problem.type,
        }
    return {"error": {name: value for name, value in fields.items() if value is not None}}


def invalid_request(detail: str, param: str | None = None) -> RefusedError:
    """Return the 400 of a bad parameter; ``detail`` is appended to the documented text."""
    older = OlderForm("Invalid request parameters", "invalid_request_error", param)
    return RefusedError(
        Problem(
            status=400,
            code="invalid_request",
            message=f"Invalid request parameters: {detail}",
            type="invalid_request_error",
            param=param,
            older=older,
        )
    )


# §4.7 and §8: refusals of the routes that only read.
QUERY_UNAUTHORIZED = Problem(401, "unauthorized", "Authentication required", "authentication_error")
CREDITS_UNAUTHORIZED = Problem(401, "", "Authentication required", "authentication_error")
INVALID_TASK_ID = Problem(
    status=400,
    code="invalid_task_id",
    message="Invalid task ID format, must start with 'task-unified-'",
    type="invalid_request_error",
    param="task_id",
    older=OlderForm("Invalid task ID format", "invalid_request_error", "task_id"),
)
TASK_NOT_FOUND = Problem(
    status=404,
    code="task_not_found",
    message="The requested task could not be found",
    type="invalid_request_error",
    older=OlderForm("Task not found or expired", "invalid_request_error"),
)
