"""EvoLink's errors: every envelope that was seen, and what each code means.

Codes decide first and the HTTP status second; codes are compared without regard to case
(protocols/evolink.md §9).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.domain.task import FailureKind

#: Characters of a message that reach the operator's log.
MAX_DETAIL_CHARS = 200

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

#: What must not reach a log, and what stands there instead. Long quotations repeat prompts.
_SECRETS = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://\S+|\bdata:\S+", re.IGNORECASE), "[link]"),
    (re.compile(r"\bsk-[\w*.-]{4,}|\bbearer\s+\S+", re.IGNORECASE), "[key]"),
    (re.compile(r"""(["'])(?:(?!\1).){40,}(?:\1|$)"""), "[text]"),
)

#: §9.3, and the codes of §9.2 and §4.6 that mean the same wherever they appear.
_KIND_OF_CODE = {
    "content_policy_violation": FailureKind.MODERATION,
    "content_filter": FailureKind.MODERATION,
    "sensitive_content": FailureKind.MODERATION,
    "moderation_blocked": FailureKind.MODERATION,
    "input_moderation_failed": FailureKind.MODERATION,
    "invalid_request": FailureKind.INVALID_REQUEST,
    "invalid_parameters": FailureKind.INVALID_REQUEST,
    "image_processing_error": FailureKind.BAD_REFERENCE,
    "image_dimension_mismatch": FailureKind.BAD_REFERENCE,
    "unauthorized": FailureKind.AUTH,
    "key_disabled": FailureKind.AUTH,
    "key_expired": FailureKind.AUTH,
    "key_model_not_allowed": FailureKind.AUTH,
    "model_access_denied": FailureKind.AUTH,
    "permission_denied": FailureKind.AUTH,
    "user_disabled": FailureKind.AUTH,
    "insufficient_quota": FailureKind.INSUFFICIENT_FUNDS,
    "insufficient_user_quota": FailureKind.INSUFFICIENT_FUNDS,
    "quota_not_enough": FailureKind.INSUFFICIENT_FUNDS,
    "account_balance_insufficient": FailureKind.INSUFFICIENT_FUNDS,
    "insufficient_token_quota": FailureKind.INSUFFICIENT_FUNDS,
    "key_quota_exhausted": FailureKind.INSUFFICIENT_FUNDS,
    "token_daily_quota_exceeded": FailureKind.INSUFFICIENT_FUNDS,
    "key_daily_quota_exhausted": FailureKind.INSUFFICIENT_FUNDS,
    "rate_limit_exceeded": FailureKind.RATE_LIMITED,
    "rate_limited": FailureKind.RATE_LIMITED,
    "resource_exhausted": FailureKind.RATE_LIMITED,
    "no_available_channel": FailureKind.UPSTREAM_DOWN,
    "model_unavailable": FailureKind.UPSTREAM_DOWN,
    "channel_selection_failed": FailureKind.UPSTREAM_DOWN,
    "service_unavailable": FailureKind.UPSTREAM_DOWN,
    "upstream_error": FailureKind.UPSTREAM_DOWN,
}

#: §4.6: what the codes of a failed task add. `quota_exceeded` is rate or concurrency there; over
#: HTTP it comes with a 402 and means money, so that the status decides.
_KIND_OF_TASK_CODE = {
    **_KIND_OF_CODE,
    "request_cancelled": FailureKind.CANCELLED,
    "quota_exceeded": FailureKind.RATE_LIMITED,
}

_CHANNEL_PREFIX = "channel:"

#: A failure without content "often" hides a block, which its message then names (§4.6, §9.3).
_NO_CONTENT = "generation_failed_no_content"
_POLICY_WORDS = re.compile(
    r"polic|safety|moderat|prohibit|violat|blocked|filter|nsfw|nudity|sensitive", re.IGNORECASE
)

#: Parameters that are wrong because of an image: "file size exceeds 10MB", "unsupported file type",
#: "image dimensions must be …", "Invalid mask image format - …" (§2.3, §4.6).
_INVALID_PARAMETERS = "invalid_parameters"
_LONG_PROMPT = re.compile(r"\bprompt\b.*\b(?:too long|length|exceed|at most)", re.IGNORECASE)
_REFERENCE_WORDS = re.compile(r"\bfile (?:size|type)|\bimage dimensions|\bmask\b", re.IGNORECASE)

_KIND_OF_STATUS = {
    401: FailureKind.AUTH,
    402: FailureKind.INSUFFICIENT_FUNDS,
    403: FailureKind.AUTH,
    404: FailureKind.UPSTREAM_DOWN,  # "Specified model not found"
    405: FailureKind.UPSTREAM_DOWN,
    413: FailureKind.BAD_REFERENCE,
    429: FailureKind.RATE_LIMITED,
}

#: Parameters that carry reference images.
_REFERENCE_PARAMS = ("image_urls", "mask_url")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an error says. `code` is in lower case; what was not said is empty."""

    code: str
    message: str
    param: str = ""

    def describe(self) -> str:
        """Return code and message for the operator: bounded, no links, no keys."""
        return ": ".join(part for part in (self.code, scrub(self.message)) if part)


def parse_envelope(body: object) -> Envelope | None:
    """Read any of the shapes of §9.1; None for whatever says neither a code nor a message."""
    if not isinstance(body, dict) or body.get("success") is True:
        return None
    error = body.get("error")
    if isinstance(error, dict):
        envelope = Envelope(
            code=_code(error.get("code")),
            message=_text(error.get("message")),
            param=_text(error.get("param")),
        )
    elif isinstance(error, str):
        code = _code(error)
        description = _text(body.get("error_description"))
        envelope = Envelope(code=code, message=description or ("" if code else error.strip()))
    else:
        # A bare code is not enough here: answers that are no errors carry one, too (§5, §7).
        message = _text(body.get("msg")) or _text(body.get("message"))
        envelope = Envelope(code=_code(body.get("code")) if message else "", message=message)
    return envelope if envelope.code or envelope.message else None


def refusal_kind(envelope: Envelope, status: int) -> FailureKind:
    """Return why a submit was refused with this 4xx."""
    kind = _kind(envelope.code, _KIND_OF_CODE)
    if kind is None:
        kind = _KIND_OF_STATUS.get(status, FailureKind.INVALID_REQUEST)
    if kind is not FailureKind.INVALID_REQUEST:
        return kind
    if envelope.param.startswith(_REFERENCE_PARAMS):
        return FailureKind.BAD_REFERENCE
    if _LONG_PROMPT.search(envelope.message):
        return FailureKind.PROMPT_TOO_LONG
    return kind


def failure_kind(envelope: Envelope) -> FailureKind:
    """Return why a task failed."""
    if envelope.code == _NO_CONTENT and _POLICY_WORDS.search(envelope.message):
        return FailureKind.MODERATION
    if envelope.code == _INVALID_PARAMETERS and _REFERENCE_WORDS.search(envelope.message):
        return FailureKind.BAD_REFERENCE
    if envelope.code == _INVALID_PARAMETERS and _LONG_PROMPT.search(envelope.message):
        return FailureKind.PROMPT_TOO_LONG
    kind = _kind(envelope.code, _KIND_OF_TASK_CODE)
    if kind is None and envelope.code.isdecimal():
        # An upstream's own error passed through: the code is an HTTP status (§9.1).
        kind = _KIND_OF_STATUS.get(int(envelope.code))
    return kind or FailureKind.GENERATION_FAILED


def scrub(message: str) -> str:
    """Return a message as it may be logged: one bounded line, no links, keys or long quotes."""
    line = " ".join(message[: 10 * MAX_DETAIL_CHARS].split())
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    printable = "".join(char for char in line if char.isprintable())
    return printable[:MAX_DETAIL_CHARS]


def _kind(code: str, table: dict[str, FailureKind]) -> FailureKind | None:
    if code.startswith(_CHANNEL_PREFIX):
        return FailureKind.UPSTREAM_DOWN
    return table.get(code)


def _code(value: object) -> str:
    """Return a code as lower-case text: strings and integers occur (§14 row 1)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = _text(value)
    return text.lower() if _WORD.fullmatch(text) else ""


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
