"""Refusals and the envelopes they are written in (protocols/evolink.md §9)."""

from dataclasses import dataclass
from typing import Any

from gateway.simulator.settings import Envelope

_PAYMENT_REQUIRED = 402


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


def error_body(problem: Problem, envelope: Envelope, request_id: str = "") -> dict[str, Any]:
    """Write a refusal in the asked envelope; absent fields are left out."""
    if envelope is Envelope.MESSAGE:
        return {"message": problem.message}
    if envelope is Envelope.OAUTH:
        return {"error": problem.code or problem.type, "error_description": problem.message}
    if envelope is Envelope.FILES:
        return {"success": False, "code": problem.status, "msg": problem.message}
    if envelope is Envelope.PASSTHROUGH:
        fields: dict[str, Any] = {
            "code": problem.status,
            "message": problem.message,
            "param": "",
            "type": "",
        }
    elif envelope is Envelope.INTEGER or not problem.code:
        fields = _integer_fields(problem)
    else:
        fields = _string_fields(problem)
        if envelope is Envelope.UPPER:
            fields["code"] = problem.code.upper()
        elif envelope is Envelope.RICH:
            fields |= _rich_fields(problem, request_id)
    return {"error": {name: value for name, value in fields.items() if value is not None}}


def _integer_fields(problem: Problem) -> dict[str, Any]:
    form = problem.older or OlderForm(problem.message, problem.type, problem.param)
    return {
        "code": problem.status,
        "fallback_suggestion": form.fallback_suggestion,
        "message": form.message,
        "param": form.param,
        "type": form.type,
    }


def _string_fields(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "message": problem.message,
        "param": problem.param,
        "type": problem.type,
    }


def _rich_fields(problem: Problem, request_id: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "message": f"{problem.message} (request id: {request_id})",
        "request_id": request_id,
    }
    if problem.status == _PAYMENT_REQUIRED:
        fields |= {
            "account_balance_credits": 1.2,
            "action_url": "/dashboard/credits",
            "estimated_credits": 6.4,
            "key_name": "simulated",
            "reset_timezone": "Asia/Shanghai",
        }
    return fields


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
TASK_EXPIRED = Problem(
    # No document has this row; one client expects it (§4.7).
    status=410,
    code="task_expired",
    message="The requested task has expired",
    type="invalid_request_error",
    older=OlderForm("Task not found or expired", "invalid_request_error"),
)
