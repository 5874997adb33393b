"""Errors in the document: all of it is read from `edge/errors.py`, by making one of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.domain.errors import (
    BadReference,
    BodyTooLarge,
    BodyTooSlow,
    BudgetExceeded,
    BudgetState,
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
from gateway.edge.errors import ROWS, HttpError
from gateway.edge.openapi.headers import references
from gateway.edge.openapi.parts import JSON, TEXT, Schema, each, nullable, one_of, record, ref

#: The codes that are said where the error is raised; the others stand in the table of errors.
CODES: Mapping[type[GatewayError], tuple[str | None, ...]] = {
    InvalidRequest: (
        None,
        "array_above_max_length",
        "conflict",
        "empty_array",
        "empty_file",
        "empty_string",
        "file_too_large",
        "integer_above_max_value",
        "integer_below_min_value",
        "invalid_idempotency_key",
        "invalid_type",
        "invalid_value",
        "mask_not_supported",
        "missing_required_parameter",
        "string_above_max_length",
        "unknown_parameter",
        "unpriced",
        "unsupported_file_mimetype",
        "unsupported_value",
    ),
    UnsupportedImage: (
        "invalid_input_fidelity_model",
        "invalid_png_output_compression",
        "invalid_value",
    ),
    NotAuthenticated: (None, "invalid_api_key"),
    NotFound: ("not_found", "model_not_found", "task_not_found", "unknown_url"),
}

_BUDGET = BudgetState("team", "", "month", "month", 1, 1, 0, None)

#: One or more of each error, so that together they have every type, code and header it can have.
SPECIMENS: Mapping[type[GatewayError], tuple[GatewayError, ...]] = {
    InvalidRequest: tuple(InvalidRequest("", param="n", code=c) for c in CODES[InvalidRequest]),
    UnsupportedImage: tuple(
        UnsupportedImage("", param="size", code=c) for c in CODES[UnsupportedImage]
    ),
    BodyTooLarge: (BodyTooLarge(1),),
    BodyTooSlow: (BodyTooSlow(),),
    NotAuthenticated: tuple(NotAuthenticated("", code=c) for c in CODES[NotAuthenticated]),
    ModelNotAllowed: (ModelNotAllowed(""),),
    NotFound: tuple(NotFound("", code=c) for c in CODES[NotFound]),
    MethodNotAllowed: (MethodNotAllowed(allow="GET"),),
    ModerationBlocked: (ModerationBlocked(),),
    BadReference: (BadReference(),),
    BudgetExceeded: (BudgetExceeded(_BUDGET, price_microusd=1),),
    CostLimitExceeded: (CostLimitExceeded(price_microusd=2, cap_microusd=1, param=None),),
    DailyQuotaExceeded: (DailyQuotaExceeded(limit=1, used=1, resets_at_ms=0),),
    IdempotencyConflict: (IdempotencyConflict(),),
    PictureExpired: (PictureExpired(),),
    TaskRunning: (TaskRunning(),),
    RateLimited: tuple(
        RateLimited(resource=resource, limit=1, retry_after_ms=1)
        for resource in ("requests", "input-images", "in-flight")
    ),
    UpstreamUnavailable: (UpstreamUnavailable(),),
    UpstreamFailed: (UpstreamFailed(),),
    SubmitUnknown: (SubmitUnknown(),),
    StillRunning: (StillRunning(),),
    StoreUnavailable: (StoreUnavailable(),),
    StorageUnavailable: (StorageUnavailable(),),
    ShuttingDown: (ShuttingDown(),),
    TooManyConnections: (TooManyConnections(),),
    InternalError: (InternalError(),),
}


def envelope() -> Schema:
    """Return OpenAI's error envelope with every type and code there is."""
    told = [answer for kind in SPECIMENS for answer in _answers(kind)]
    types = sorted({answer.type for answer in told})
    codes = sorted({answer.code for answer in told if answer.code is not None})
    fields = {
        "message": TEXT,
        "type": one_of(*types),
        "param": nullable(TEXT),
        "code": nullable(one_of(*codes)),
        "moderation_details": record(
            {
                "moderation_stage": one_of("input", "output", "unknown"),
                "categories": each(TEXT),
            }
        ),
    }
    return record({"error": record(fields, optional=("moderation_details",))})


def responses(
    kinds: Iterable[type[GatewayError]], headers: tuple[str, ...] = ()
) -> dict[str, object]:
    """Return the responses of these errors by status; `headers` may stand on each of them."""
    by_status: dict[int, list[type[GatewayError]]] = {}
    for kind in kinds:
        by_status.setdefault(_answers(kind)[0].status, []).append(kind)
    return {
        str(status): _response(by_status[status], headers if status not in _BEFORE else ())
        for status in sorted(by_status)
    }


#: Refusals of calls that nothing is known of yet.
_BEFORE = (401, 408, 413)


def table() -> str:
    """Return all errors as a table in Markdown."""
    rows = ["| status | type | code | meaning |", "| --- | --- | --- | --- |"]
    meanings: dict[tuple[int, str, str], dict[str, None]] = {}
    for kind in SPECIMENS:
        for answer in _answers(kind):
            row = (answer.status, answer.type, answer.code or "null")
            meanings.setdefault(row, {})[_meaning(kind)] = None
    rows += [
        f"| {status} | `{kind}` | `{code}` | {' '.join(meanings[status, kind, code])} |"
        for status, kind, code in sorted(meanings)
    ]
    return "\n".join(rows)


def _response(kinds: list[type[GatewayError]], headers: tuple[str, ...]) -> dict[str, object]:
    answers = {kind: _answers(kind) for kind in kinds}
    own = {name for told in answers.values() for answer in told for name in answer.headers}
    lines = [f"{_meaning(kind)} ({_codes(told)})" for kind, told in answers.items()]
    return {
        "description": "\n\n".join(lines),
        "headers": references((*headers, *sorted(own))),
        "content": {JSON: {"schema": ref("Error")}},
    }


def _codes(told: list[HttpError]) -> str:
    return ", ".join(f"`{answer.code or 'null'}`" for answer in told)


def _answers(kind: type[GatewayError]) -> list[HttpError]:
    return [ROWS[kind](specimen) for specimen in SPECIMENS[kind]]


def _meaning(kind: type[GatewayError]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
