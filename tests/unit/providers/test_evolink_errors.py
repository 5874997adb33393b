import pytest

from gateway.domain.task import FailureKind
from gateway.providers.evolink_errors import (
    MAX_DETAIL_CHARS,
    Envelope,
    failure_kind,
    parse_envelope,
    refusal_kind,
    scrub,
)


@pytest.mark.parametrize(
    ("body", "envelope"),
    [
        pytest.param(
            {"error": {"code": "task_not_found", "message": "gone", "type": "x", "param": "id"}},
            Envelope("task_not_found", "gone", "id"),
            id="current",
        ),
        pytest.param(
            {"error": {"code": 403, "message": "no", "param": "model", "fallback_suggestion": "a"}},
            Envelope("403", "no", "model"),
            id="older, code is the status",
        ),
        pytest.param(
            {"error": {"code": "KEY_DISABLED", "message": "m", "key_name": "k", "used_credits": 1}},
            Envelope("key_disabled", "m"),
            id="gateway, upper case",
        ),
        pytest.param(
            {"error": {"message": "Resource exhausted.", "type": "", "param": "", "code": 429}},
            Envelope("429", "Resource exhausted."),
            id="passed through",
        ),
        pytest.param(
            {"success": False, "code": 40001, "msg": "too large"},
            Envelope("40001", "too large"),
            id="files service",
        ),
        pytest.param({"message": "busy"}, Envelope("", "busy"), id="message only"),
        pytest.param(
            {"error": "invalid_token", "error_description": "it expired"},
            Envelope("invalid_token", "it expired"),
            id="OAuth",
        ),
        pytest.param(
            {"error": "Blocked by policy."}, Envelope("", "Blocked by policy."), id="text"
        ),
        pytest.param({"error": "Unauthorized"}, Envelope("unauthorized", ""), id="one word"),
        pytest.param({"error": {"code": None, "message": "m"}}, Envelope("", "m"), id="null code"),
        pytest.param({"error": {"code": "x y", "message": "m"}}, Envelope("", "m"), id="odd code"),
        pytest.param({"error": {"code": "only_code"}}, Envelope("only_code", ""), id="code only"),
    ],
)
def test_every_envelope_that_was_seen_is_read(body: object, envelope: Envelope) -> None:
    """All shapes of protocols/evolink.md §9.1 give code, message and parameter."""
    assert envelope == parse_envelope(body)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "error",
        {},
        {"error": None},
        {"error": ""},
        {"error": {}},
        {"error": {"code": "", "message": " "}},
        {"error": {"code": True}},
        {"code": 200, "data": []},
        {"detail": "Not Found"},
        {"success": True, "message": "fine", "code": 200},
    ],
)
def test_what_says_nothing_is_no_envelope(body: object) -> None:
    """Bodies without an error's code or message prove nothing."""
    assert parse_envelope(body) is None


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", FailureKind.INVALID_REQUEST),
        (400, "400", FailureKind.INVALID_REQUEST),
        (400, "", FailureKind.INVALID_REQUEST),
        (422, "", FailureKind.INVALID_REQUEST),
        (401, "unauthorized", FailureKind.AUTH),
        (401, "401", FailureKind.AUTH),
        (401, "key_disabled", FailureKind.AUTH),
        (401, "key_expired", FailureKind.AUTH),
        (403, "key_model_not_allowed", FailureKind.AUTH),
        (403, "model_access_denied", FailureKind.AUTH),
        (403, "permission_denied", FailureKind.AUTH),
        (403, "403", FailureKind.AUTH),
        (402, "insufficient_quota", FailureKind.INSUFFICIENT_FUNDS),
        (402, "insufficient_user_quota", FailureKind.INSUFFICIENT_FUNDS),
        (402, "quota_not_enough", FailureKind.INSUFFICIENT_FUNDS),
        (402, "account_balance_insufficient", FailureKind.INSUFFICIENT_FUNDS),
        (402, "insufficient_token_quota", FailureKind.INSUFFICIENT_FUNDS),
        (402, "key_quota_exhausted", FailureKind.INSUFFICIENT_FUNDS),
        (402, "token_daily_quota_exceeded", FailureKind.INSUFFICIENT_FUNDS),
        (402, "key_daily_quota_exhausted", FailureKind.INSUFFICIENT_FUNDS),
        (402, "quota_exceeded", FailureKind.INSUFFICIENT_FUNDS),
        (402, "402", FailureKind.INSUFFICIENT_FUNDS),
        (400, "content_policy_violation", FailureKind.MODERATION),
        (400, "content_filter", FailureKind.MODERATION),
        (400, "sensitive_content", FailureKind.MODERATION),
        (400, "moderation_blocked", FailureKind.MODERATION),
        (400, "input_moderation_failed", FailureKind.MODERATION),
        (400, "no_available_channel", FailureKind.UPSTREAM_DOWN),
        (400, "model_unavailable", FailureKind.UPSTREAM_DOWN),
        (400, "channel_selection_failed", FailureKind.UPSTREAM_DOWN),
        (400, "channel:no_route", FailureKind.UPSTREAM_DOWN),
        (404, "404", FailureKind.UPSTREAM_DOWN),
        (405, "", FailureKind.UPSTREAM_DOWN),
        (400, "image_processing_error", FailureKind.BAD_REFERENCE),
        (400, "image_dimension_mismatch", FailureKind.BAD_REFERENCE),
        (413, "413", FailureKind.BAD_REFERENCE),
        (429, "rate_limit_exceeded", FailureKind.RATE_LIMITED),
        (429, "429", FailureKind.RATE_LIMITED),
        (429, "quota_exceeded", FailureKind.RATE_LIMITED),
    ],
)
def test_a_refused_submit_is_explained_by_its_code_then_its_status(
    status: int, code: str, kind: FailureKind
) -> None:
    """Codes of protocols/evolink.md §9.2 and §9.3 decide before the HTTP status does."""
    assert kind == refusal_kind(Envelope(code, "m"), status)


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        ("image_urls", FailureKind.BAD_REFERENCE),
        ("image_urls[0]", FailureKind.BAD_REFERENCE),
        ("mask_url", FailureKind.BAD_REFERENCE),
        ("prompt", FailureKind.INVALID_REQUEST),
    ],
)
def test_an_invalid_reference_is_told_by_its_parameter(param: str, kind: FailureKind) -> None:
    """A request that is invalid because of an image is a bad reference."""
    assert kind == refusal_kind(Envelope("invalid_request", "m", param), 400)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("invalid_request", "Prompt is too long", FailureKind.PROMPT_TOO_LONG),
        ("invalid_request", "prompt must be at most 2000 tokens", FailureKind.PROMPT_TOO_LONG),
        ("invalid_request", "prompt is required", FailureKind.INVALID_REQUEST),
        ("content_filter", "prompt exceeds our policy", FailureKind.MODERATION),
    ],
)
def test_a_prompt_that_is_too_long_is_told_by_the_message(
    code: str, message: str, kind: FailureKind
) -> None:
    """There is no code for it (protocols/evolink.md §9.3)."""
    assert kind == refusal_kind(Envelope(code, message, "prompt"), 400)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("content_policy_violation", "nudity detected", FailureKind.MODERATION),
        ("invalid_parameters", "Prompt is too long", FailureKind.PROMPT_TOO_LONG),
        ("invalid_parameters", "Prompt is required", FailureKind.INVALID_REQUEST),
        ("service_error", "Prompt is too long", FailureKind.GENERATION_FAILED),
        ("invalid_parameters", "File size exceeds 10MB", FailureKind.BAD_REFERENCE),
        ("invalid_parameters", "unsupported file type", FailureKind.BAD_REFERENCE),
        ("invalid_parameters", "image dimensions must be between", FailureKind.BAD_REFERENCE),
        ("invalid_parameters", "Invalid mask image format", FailureKind.BAD_REFERENCE),
        ("service_error", "unsupported file type", FailureKind.GENERATION_FAILED),
        ("image_processing_error", "download failed", FailureKind.BAD_REFERENCE),
        ("image_dimension_mismatch", "resize", FailureKind.BAD_REFERENCE),
        ("request_cancelled", "", FailureKind.CANCELLED),
        ("generation_failed_no_content", "no image", FailureKind.GENERATION_FAILED),
        ("generation_failed_no_content", "Against our POLICY.", FailureKind.MODERATION),
        ("generation_failed_no_content", "blocked by safety", FailureKind.MODERATION),
        ("service_error", "", FailureKind.GENERATION_FAILED),
        ("service_error", "see our policy", FailureKind.GENERATION_FAILED),
        ("generation_timeout", "", FailureKind.GENERATION_FAILED),
        ("resource_exhausted", "", FailureKind.RATE_LIMITED),
        ("quota_exceeded", "", FailureKind.RATE_LIMITED),
        ("service_unavailable", "", FailureKind.UPSTREAM_DOWN),
        ("resource_not_found", "", FailureKind.GENERATION_FAILED),
        ("unknown_error", "", FailureKind.GENERATION_FAILED),
        ("model_unavailable", "", FailureKind.UPSTREAM_DOWN),
        ("upstream_error", "", FailureKind.UPSTREAM_DOWN),
        ("rate_limited", "", FailureKind.RATE_LIMITED),
        ("429", "Resource exhausted.", FailureKind.RATE_LIMITED),
        ("500", "", FailureKind.GENERATION_FAILED),
        ("never_seen_before", "", FailureKind.GENERATION_FAILED),
        ("", "", FailureKind.GENERATION_FAILED),
    ],
)
def test_a_failed_task_is_explained_by_its_code(code: str, message: str, kind: FailureKind) -> None:
    """Every task code of protocols/evolink.md §4.6 has a meaning; unknown ones are failures."""
    assert kind == failure_kind(Envelope(code, message))


@pytest.mark.parametrize(
    ("message", "logged"),
    [
        ("two\nlines\tand\x00 more", "two lines and more"),
        ("see https://files.example/a.png?sig=1 please", "see [link] please"),
        ("got data:image/png;base64,AAAA", "got [link]"),
        ("Incorrect API key: sk-evo-abcdef.", "Incorrect API key: [key]"),
        ("bad Bearer abc", "bad [key]"),
        (f"your prompt '{'fox ' * 20}' is bad", "your prompt [text] is bad"),
        (f'your prompt "{"fox " * 20}', "your prompt [text]"),
        ("must start with 'task-unified-'", "must start with 'task-unified-'"),
        ("You don't have permission", "You don't have permission"),
    ],
)
def test_messages_are_logged_without_links_keys_and_prompts(message: str, logged: str) -> None:
    """What reaches the operator is one line without secrets."""
    assert logged == scrub(message)


def test_messages_are_bounded() -> None:
    """A page of text does not reach the log."""
    assert len(scrub("word " * 100_000)) == MAX_DETAIL_CHARS


@pytest.mark.parametrize(
    ("envelope", "text"),
    [
        (Envelope("busy", "try later"), "busy: try later"),
        (Envelope("", "try later"), "try later"),
        (Envelope("busy", ""), "busy"),
    ],
)
def test_an_error_is_described_by_code_and_message(envelope: Envelope, text: str) -> None:
    """The description has no loose separators."""
    assert text == envelope.describe()
