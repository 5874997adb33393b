"""Every documented way to say no, as rows that a marker in a prompt can choose.

``SUBMIT_FAULTS`` are the refusals of a submit (protocols/evolink.md §9.2, §9.3);
``TASK_FAULTS`` are the codes of a task that was accepted and failed (§4.6).
"""

from gateway.simulator.errors import OlderForm, Problem

UNAUTHORIZED = Problem(
    status=401,
    code="unauthorized",
    message="Invalid or expired token",
    type="authentication_error",
    older=OlderForm("Invalid or expired token", "authentication_error"),
)
INSUFFICIENT_QUOTA = Problem(
    status=402,
    code="insufficient_quota",
    message="Insufficient quota. Please top up your account.",
    type="insufficient_quota",
    older=OlderForm(
        "Insufficient quota",
        "insufficient_quota_error",
        fallback_suggestion="https://evolink.ai/dashboard/billing",
    ),
)
MODEL_NOT_FOUND = Problem(
    # Only the older documents have a row for a model that does not exist.
    status=404,
    code="",
    message="Specified model not found",
    type="not_found_error",
    older=OlderForm("Specified model not found", "not_found_error", "model", "gpt-image-1.5"),
)

_DOCUMENTED = {
    "invalid_request": Problem(
        status=400,
        code="invalid_request",
        message="Invalid request parameters",
        type="invalid_request_error",
        older=OlderForm("Invalid request parameters", "invalid_request_error"),
    ),
    "unauthorized": UNAUTHORIZED,
    "insufficient_quota": INSUFFICIENT_QUOTA,
    "model_access_denied": Problem(
        status=403,
        code="model_access_denied",
        message="Token does not have access to model",
        type="invalid_request_error",
        older=OlderForm("Access denied for this model", "permission_error", "model"),
    ),
    "model_not_found": MODEL_NOT_FOUND,
    "request_too_large": Problem(
        status=413,
        code="",
        message="Image file too large",
        type="request_too_large_error",
        older=OlderForm(
            "Image file too large",
            "request_too_large_error",
            "image_urls",
            "compress image to under 4MB",
        ),
    ),
    "rate_limit_exceeded": Problem(
        status=429,
        code="rate_limit_exceeded",
        message="Too many requests, please try again later",
        type="rate_limit_error",
        older=OlderForm(
            "Rate limit exceeded",
            "rate_limit_error",
            fallback_suggestion="retry after 60 seconds",
        ),
    ),
    # The upstream's own refusal, passed through with empty fields (§9.1 form 4, a real log).
    "resource_exhausted": Problem(
        status=429,
        code="",
        message="Resource exhausted. Please try again later.",
        type="",
        older=OlderForm("Resource exhausted. Please try again later.", "", ""),
    ),
    "internal_error": Problem(
        status=500,
        code="internal_error",
        message="Internal server error",
        type="api_error",
        older=OlderForm(
            "Internal server error", "internal_server_error", fallback_suggestion="try again later"
        ),
    ),
    "upstream_error": Problem(
        status=502,
        code="upstream_error",
        message="Upstream AI service unavailable",
        type="upstream_error",
        older=OlderForm(
            "Upstream AI service unavailable",
            "upstream_error",
            fallback_suggestion="try different model",
        ),
    ),
    "service_unavailable": Problem(
        status=503,
        code="service_unavailable",
        message="Service temporarily unavailable",
        type="service_unavailable_error",
        older=OlderForm(
            "Service temporarily unavailable",
            "service_unavailable_error",
            fallback_suggestion="retry after 30 seconds",
        ),
    ),
}


def _same(status: int, kind: str, message: str, *codes: str) -> dict[str, Problem]:
    return {code.casefold(): Problem(status, code, message, kind) for code in codes}


# §9.3 gives codes and statuses; it records few texts, so rows of one meaning share one.
_CLASSIFIED = (
    _same(
        402,
        "insufficient_quota",
        "Insufficient account balance.",
        "insufficient_user_quota",
        "quota_not_enough",
        "account_balance_insufficient",
    )
    | _same(
        402,
        "insufficient_quota",
        "This key has reached its spending limit.",
        "insufficient_token_quota",
        "key_quota_exhausted",
    )
    | _same(
        402,
        "insufficient_quota",
        "This key has reached its daily limit.",
        "token_daily_quota_exceeded",
        "key_daily_quota_exhausted",
    )
    | _same(401, "authentication_error", "This key is disabled.", "KEY_DISABLED")
    | _same(401, "authentication_error", "This key has expired.", "KEY_EXPIRED")
    | _same(
        403,
        "invalid_request_error",
        "This key may not use the model.",
        "KEY_MODEL_NOT_ALLOWED",
        "permission_denied",
    )
    | _same(
        400,
        "invalid_request_error",
        "Your request was blocked by safety filters.",
        "content_policy_violation",
        "content_filter",
        "sensitive_content",
        "moderation_blocked",
        "input_moderation_failed",
    )
    | _same(
        503,
        "api_error",
        "No available channel for the model.",
        "no_available_channel",
        "model_unavailable",
        "channel_selection_failed",
        "channel:no_available_key",
    )
    | _same(
        409,
        "invalid_request_error",
        "The idempotency key belongs to another body.",
        "idempotency_conflict",
    )
    | _same(
        409,
        "invalid_request_error",
        "An earlier submit with this key is still open.",
        "paid_outcome_unknown",
    )
)

SUBMIT_FAULTS = _DOCUMENTED | _CLASSIFIED
"""Marker value → refusal. Keys are lower case: the client compares codes without case."""

TASK_FAULTS = {
    "content_policy_violation": (
        "Content policy violation.\nYour request was blocked by safety filters..."
    ),
    "invalid_parameters": "Prompt is too long",
    "image_processing_error": "Failed to download the reference image",
    "image_dimension_mismatch": "The image dimensions do not match",
    "request_cancelled": "The request was cancelled",
    "generation_failed_no_content": "The model returned no content",
    "service_error": "The service failed, please retry in 30 to 60 seconds",
    "generation_timeout": "The generation timed out",
    "resource_exhausted": "Resource exhausted, please retry in a few minutes",
    "quota_exceeded": "Quota exceeded",
    "service_unavailable": "The service is temporarily unavailable",
    "resource_not_found": "The task id is invalid or has expired",
    "unknown_error": "An unknown error occurred",
    "model_unavailable": "The model is unavailable",
    "upstream_error": "The upstream service failed",
    "rate_limited": "Too many requests",
}
"""Task error code → message. Only the first two texts are quoted from the documents."""
