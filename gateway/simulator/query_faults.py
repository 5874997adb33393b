"""Refusals of the routes that only read tasks, and of the file service, as rows by name.

``QUERY_FAULTS`` are those of a poll, a list, a batch read and the credits page
(protocols/evolink.md §4.7); ``FILE_FAULTS`` are the codes of the file service (§7).
"""

from dataclasses import dataclass

from gateway.simulator.errors import (
    INVALID_TASK_ID,
    QUERY_UNAUTHORIZED,
    TASK_EXPIRED,
    TASK_NOT_FOUND,
    OlderForm,
    Problem,
)
from gateway.simulator.faults import SUBMIT_FAULTS

QUERY_FAULTS = {
    "invalid_task_id": INVALID_TASK_ID,
    "unauthorized": QUERY_UNAUTHORIZED,
    "quota_exceeded": Problem(
        402,
        "quota_exceeded",
        "Insufficient quota. Please top up your account.",
        "insufficient_quota",
    ),
    "permission_denied": Problem(
        403,
        "permission_denied",
        "You don't have permission to access this task",
        "invalid_request_error",
    ),
    "task_not_found": TASK_NOT_FOUND,
    "task_expired": TASK_EXPIRED,
    "rate_limit_exceeded": Problem(
        # Not the type that a submit's 429 has: the documents differ (§14 row 3).
        429,
        "rate_limit_exceeded",
        "Rate limit exceeded",
        "evo_api_error",
        older=OlderForm(
            "Rate limit exceeded",
            "rate_limit_error",
            fallback_suggestion="retry after 60 seconds",
        ),
    ),
    "resource_exhausted": SUBMIT_FAULTS["resource_exhausted"],
    "internal_error": Problem(500, "internal_error", "Failed to retrieve task status", "api_error"),
    "upstream_error": SUBMIT_FAULTS["upstream_error"],
    "service_unavailable": SUBMIT_FAULTS["service_unavailable"],
}


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Describe one refusal of the file service."""

    status: int
    """HTTP status, where the service does not answer 200 (``FilesErrors``)."""
    code: int
    message: str


class FileRefusedError(Exception):
    """Carry a refusal of the file service to the place that answers."""

    def __init__(self, problem: FileProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def invalid_file(detail: str) -> FileRefusedError:
    """Return the 400 of a bad parameter of the file service."""
    return FileRefusedError(FileProblem(400, 400, f"Invalid request parameters: {detail}"))


FILE_FAULTS = {
    "bad_request": FileProblem(400, 400, "Invalid request parameters"),
    "unauthorized": FileProblem(401, 401, "Invalid or expired token"),
    "forbidden": FileProblem(403, 403, "Access denied"),
    "not_found": FileProblem(404, 404, "File not found"),
    "too_large": FileProblem(413, 40001, "File is too large"),
    "type_not_allowed": FileProblem(400, 40002, "File type is not allowed"),
    "quota_exceeded": FileProblem(403, 40003, "File quota exceeded"),
    "download_failed": FileProblem(400, 40004, "Failed to download the file from its URL"),
    "internal_error": FileProblem(500, 500, "Internal server error"),
    "storage_error": FileProblem(500, 50001, "Storage error"),
    "busy": FileProblem(503, 503, "busy"),
}
"""Name → refusal. The codes are recorded (§7); their HTTP statuses and texts are not."""
