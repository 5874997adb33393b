"""What went wrong, as EvoLink says it: its envelope, its codes and its statuses.

Its present form, with codes in words (protocols/evolink.md §4.7, §9.1 to §9.3); the texts are ours
where they say more. What only waiting calls meet stands here as well, so that nothing is untold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.domain.credits import credits_of
from gateway.domain.errors import (
    BadReference,
    BodyTooLarge,
    BodyTooSlow,
    BudgetExceeded,
    CostLimitExceeded,
    DailyQuotaExceeded,
    GatewayError,
    IdempotencyConflict,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    ModelNotAllowed,
    ModerationBlocked,
    NotAuthenticated,
    NotFound,
    PictureExpired,
    RateLimited,
    ShuttingDown,
    StillRunning,
    StorageUnavailable,
    StoreUnavailable,
    SubmitUnknown,
    TaskRunning,
    TooManyConnections,
    UnsupportedImage,
    UpstreamFailed,
    UpstreamUnavailable,
)
from gateway.domain.limits import Period, Scope
from gateway.service.evolink_json import as_json

#: Everything below this path speaks EvoLink.
ROOT = "/evolink/"

INVALID = "invalid_request_error"
QUOTA = "insufficient_quota"
API = "api_error"
UNAVAILABLE = "service_unavailable_error"


@dataclass(frozen=True, slots=True)
class EvolinkError:
    """One error as it goes over the wire; `facts` stand beside its message (§9.1 form 3)."""

    status: int
    code: str
    type: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the envelope, with its keys in order as theirs are; without what is not told."""
        envelope = {
            "code": self.code,
            "message": self.message,
            "type": self.type,
            **({} if self.param is None else {"param": self.param}),
            **self.facts,
        }
        return as_json({"error": envelope})


@dataclass(frozen=True, slots=True)
class _Row:
    """How one kind of error is told; without a message it is our own."""

    status: int
    code: str
    type: str
    message: str = ""


#: Every leaf of the error tree has a row; a test walks the tree.
ROWS: dict[type[GatewayError], _Row] = {
    InvalidRequest: _Row(400, "invalid_request", INVALID),
    UnsupportedImage: _Row(400, "invalid_request", INVALID),
    CostLimitExceeded: _Row(400, "invalid_request", INVALID),
    ModerationBlocked: _Row(400, "content_policy_violation", INVALID),
    BadReference: _Row(400, "image_processing_error", INVALID),
    NotAuthenticated: _Row(401, "unauthorized", "authentication_error", "Invalid or expired token"),
    BudgetExceeded: _Row(402, "insufficient_quota", QUOTA),
    # Not a 429, which clients try again in half a minute.
    DailyQuotaExceeded: _Row(402, "token_daily_quota_exceeded", QUOTA),
    ModelNotAllowed: _Row(403, "model_access_denied", INVALID),
    NotFound: _Row(404, "resource_not_found", INVALID),
    MethodNotAllowed: _Row(405, "method_not_allowed", INVALID),
    IdempotencyConflict: _Row(409, "idempotency_conflict", INVALID),
    PictureExpired: _Row(410, "resource_not_found", INVALID),
    TaskRunning: _Row(409, "task_running", INVALID),
    BodyTooSlow: _Row(408, "request_timeout", INVALID),
    BodyTooLarge: _Row(413, "request_too_large", "request_too_large_error"),
    RateLimited: _Row(429, "rate_limit_exceeded", "rate_limit_error"),
    InternalError: _Row(500, "internal_error", API, "Internal server error"),
    UpstreamFailed: _Row(502, "upstream_error", "upstream_error"),
    UpstreamUnavailable: _Row(503, "service_unavailable", UNAVAILABLE),
    StoreUnavailable: _Row(503, "service_unavailable", UNAVAILABLE),
    StorageUnavailable: _Row(503, "service_unavailable", UNAVAILABLE),
    ShuttingDown: _Row(503, "service_unavailable", UNAVAILABLE),
    TooManyConnections: _Row(503, "service_unavailable", UNAVAILABLE),
    SubmitUnknown: _Row(504, "unknown_error", API),
    StillRunning: _Row(504, "generation_timeout", API),
}

#: Codes of ours that are EvoLink's, too.
_SHARED_CODES = frozenset({"invalid_task_id", "task_not_found", "model_not_found"})


def evolink_error(
    error: GatewayError, *, param: str | None, headers: Mapping[str, str]
) -> EvolinkError:
    """Return how an error goes over the wire; `param` and `headers` are those OpenAI is told."""
    row = ROWS[type(error)]
    code, facts = row.code, dict[str, object]()
    match error:
        case InvalidRequest(code=str(told)) | NotFound(code=str(told)) if told in _SHARED_CODES:
            code = told
        case BudgetExceeded():
            code, facts = _quota(error)
    # Said to OpenAI's SDKs alone.
    kept = {name: value for name, value in headers.items() if name != "x-should-retry"}
    return EvolinkError(
        row.status, code, row.type, row.message or error.message, param, kept, facts
    )


def _quota(error: BudgetExceeded) -> tuple[str, dict[str, object]]:
    """Tell a key's own limit, or its limit of a day, from its team's money (§9.3)."""
    budget = error.budget
    facts: dict[str, object] = {"estimated_credits": credits_of(error.price_microusd)}
    remaining = credits_of(budget.remaining_microusd)
    if budget.scope != Scope.KEY:
        return "insufficient_quota", facts | {"account_balance_credits": remaining}
    limit, used = credits_of(budget.limit_microusd), credits_of(budget.spent_microusd)
    facts |= {"key_name": budget.owner, "remaining_credits": remaining}
    if budget.per == Period.DAY:
        daily = {"daily_limit_credits": limit, "daily_used_credits": used}
        return "token_daily_quota_exceeded", facts | daily
    return "insufficient_token_quota", facts | {
        "total_limit_credits": limit,
        "used_credits": used,
    }
