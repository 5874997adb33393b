"""What EvoLink's answers mean to the engine: pure reading, tolerant of every documented variant.

"Any field may be absent, null or newly added; only `id` and `status` should be required"
(protocols/evolink.md §18). What decides about money is strict instead: whether a task was created
follows the three rules of `read_submit`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from http import HTTPStatus

import httpx

from gateway.domain.images import TokenUsage
from gateway.domain.task import FailureKind
from gateway.providers.evolink_errors import (
    Envelope,
    failure_kind,
    parse_envelope,
    refusal_kind,
)
from gateway.providers.interface import (
    Accepted,
    Balance,
    BalanceOutcome,
    Failed,
    Finished,
    Listed,
    Missing,
    NoBalance,
    NoList,
    PollFailed,
    PollOutcome,
    Rejected,
    Running,
    SubmitOutcome,
    Unknown,
)
from gateway.providers.wire import Answer

#: Ids look like ``task-unified-1757156493-imcg5zqt`` (§3); others are taken as long as they stay
#: one path segment of a URL.
_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")

#: 4xx answers that say nothing about whether a task was created (design rule 3): a request that
#: timed out, and a conflict with an earlier submit under the same key (§9.3).
_UNDECIDED_STATUSES = (408, 409)

#: Answers to a poll that speak of the task and not of the question (§4.7).
_GONE_STATUSES = (404, 410)

_CANCELLED = ("cancelled", "canceled")
_RESULT_KEYS = ("url", "image_url")

#: How a prompt that the model has refined is called beside its result, by OpenAI and by the makers
#: of models that do. EvoLink documents neither (§4.4, §18.17).
_REVISED_KEYS = ("revised_prompt", "actual_prompt")

#: Token categories as they are called in `usage` (§4.4). The name of the last one is not published;
#: it is the one the others suggest.
_TOKEN_FIELDS = {
    "text_input": "text_input_tokens",
    "text_cached_input": "text_cached_input_tokens",
    "image_input": "image_input_tokens",
    "image_cached_input": "image_cached_input_tokens",
    "image_output": "image_output_tokens",
    "text_output": "text_output_tokens",
}

#: Numbers above this are not amounts of anything here.
_MAX_NUMBER = 1_000_000_000


def is_task_id(value: object) -> bool:
    """Tell whether this may be put into a task's URL."""
    return isinstance(value, str) and _TASK_ID.fullmatch(value) is not None


def read_submit(answer: Answer) -> SubmitOutcome:
    """Return what the answer to a submit proves.

    A 2xx with an id: created, whatever status the task already has. A 4xx other than 408 and 409
    with an error we can read: not created. Everything else is unknown: every 5xx, redirects, HTML,
    a 2xx without an id.
    """
    body = answer.body if isinstance(answer.body, dict) else {}
    envelope = parse_envelope(answer.body)
    if httpx.codes.is_success(answer.status):
        upstream_id = body.get("id")
        if isinstance(upstream_id, str) and is_task_id(upstream_id):
            return Accepted(
                upstream_id=upstream_id,
                estimate_s=_seconds(_mapping(body.get("task_info")).get("estimated_time")),
                credits_reserved=exact_number(_mapping(body.get("usage")).get("credits_reserved")),
            )
        return Unknown(f"{_describe_status(answer.status, envelope)} without a task id")
    decided = httpx.codes.is_client_error(answer.status) and (
        answer.status not in _UNDECIDED_STATUSES
    )
    if envelope is None or not decided:
        return Unknown(_describe_status(answer.status, envelope))
    return Rejected(
        kind=refusal_kind(envelope, answer.status),
        detail=_describe_status(answer.status, envelope),
        retry_after_s=answer.retry_after_s,
    )


def read_poll(answer: Answer, upstream_id: str) -> PollOutcome:
    """Return how the task stands.

    Missing takes the upstream's own word: a 404 or 410 with an error we can read. A 404 page of
    something in between is a question that was not answered.
    """
    if httpx.codes.is_success(answer.status):
        return _read_task(answer, upstream_id)
    envelope = parse_envelope(answer.body)
    if answer.status in _GONE_STATUSES and envelope is not None:
        return Missing()
    return PollFailed(
        reason=_describe_status(answer.status, envelope), retry_after_s=answer.retry_after_s
    )


def read_balance(answer: Answer) -> BalanceOutcome:
    """Return what the account has left: the less of its own credits and of the key's (§8).

    The account's may be negative; those of an unlimited key are a filler. A 429 comes from an
    account that is served and has asked too often. `success: false` with HTTP 200 is a refusal.
    """
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Balance(None)
    body = _mapping(answer.body)
    if not httpx.codes.is_success(answer.status) or body.get("success") is False:
        return NoBalance(_describe_status(answer.status, parse_envelope(answer.body)))
    data = _mapping(body.get("data"))
    user, token = _mapping(data.get("user")), _mapping(data.get("token"))
    told = [user.get("remaining_credits")]
    if token.get("unlimited_credits") is not True:
        told.append(token.get("remaining_credits"))
    amounts = [
        float(amount)
        for amount in told
        if isinstance(amount, int | float) and not isinstance(amount, bool)
    ]
    return Balance(min(amounts, default=None))


def read_list(answer: Answer) -> tuple[tuple[Listed, ...], int] | NoList:
    """Return one page of the account's tasks, the newest first, and how many rows it had (§5).

    Its times are called `created_at`, those of a task `created` (§14). Rows without an id or a time
    are left out.
    """
    rows = _mapping(answer.body).get("data")
    if not httpx.codes.is_success(answer.status) or not isinstance(rows, list):
        return NoList(_describe_status(answer.status, parse_envelope(answer.body)))
    return tuple(filter(None, map(_listed, map(_mapping, rows)))), len(rows)


def _listed(row: Mapping[str, object]) -> Listed | None:
    upstream_id, created_s = row.get("id"), row.get("created_at", row.get("created"))
    if not isinstance(upstream_id, str) or not isinstance(created_s, int | float):
        return None
    return Listed(
        upstream_id=upstream_id,
        created_s=int(created_s),
        model=str(row.get("model", "")),
        status=str(row.get("status", "")),
        credits_used=exact_number(row.get("credits_used")),
    )


def _read_task(answer: Answer, upstream_id: str) -> PollOutcome:
    body = answer.body
    if not isinstance(body, dict) or not isinstance(body.get("status"), str):
        envelope = parse_envelope(body)
        return PollFailed(
            reason=f"{_describe_status(answer.status, envelope)} without a task",
            retry_after_s=answer.retry_after_s,
        )
    if body.get("id", upstream_id) != upstream_id:
        # Somebody else's picture must never be delivered, whoever mixed the answers up.
        return PollFailed(reason="the answer is about another task")
    status = body["status"].lower()
    if status == "completed":
        return _read_finished(body)
    if status == "failed" or status in _CANCELLED:
        return _read_failed(body, cancelled=status in _CANCELLED)
    return Running(progress=_progress(body.get("progress")))


def _read_finished(body: dict[str, object]) -> Finished:
    usage = _mapping(body.get("usage"))
    return Finished(
        links=_links(body.get("results")) or _links(body.get("result_data")),
        usage=_tokens(usage),
        credits_used=_billed(usage),
        duration_s=_seconds(body.get("duration")),
        revised_prompt=_revised(body.get("result_data")),
        model=_text(body.get("model")),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read_failed(body: dict[str, object], *, cancelled: bool) -> Failed:
    envelope = parse_envelope({"error": body.get("error")})
    if envelope is None:
        envelope = Envelope(code="request_cancelled" if cancelled else "", message="")
    kind = failure_kind(envelope)
    if cancelled and kind is FailureKind.GENERATION_FAILED:
        kind = FailureKind.CANCELLED
    return Failed(
        kind=kind,
        detail=envelope.describe() or "no reason given",
        credits_used=_billed(_mapping(body.get("usage"))),
    )


def _billed(usage: dict[str, object]) -> Fraction | None:
    """Return the credits that were billed: what `cost` says, else `credits_used` (§4.4)."""
    cost = exact_number(_mapping(usage.get("cost")).get("credits"))
    return exact_number(usage.get("credits_used")) if cost is None else cost


def _revised(results: object) -> str:
    """Return the first refined prompt of `result_data`; empty where there is none."""
    entries = results if isinstance(results, list) else [results]
    told = (
        entry[key]
        for entry in entries
        if isinstance(entry, dict)
        for key in _REVISED_KEYS
        if isinstance(entry.get(key), str)
    )
    return next(told, "")


def _links(results: object) -> tuple[str, ...]:
    """Return the links of `results` or `result_data`, in order: one or many, text or objects."""
    entries = results if isinstance(results, list) else [results]
    return tuple(link for entry in entries for link in _links_of_entry(entry))


def _links_of_entry(entry: object) -> Iterator[str]:
    found = entry
    if isinstance(entry, dict):
        found = next((entry[key] for key in _RESULT_KEYS if entry.get(key)), None)
    if isinstance(found, str) and found:
        yield found


def _tokens(usage: dict[str, object]) -> TokenUsage | None:
    """Return the token counts, or None when none is told or one of them cannot be right."""
    told = {ours: usage[theirs] for ours, theirs in _TOKEN_FIELDS.items() if theirs in usage}
    counts = {
        ours: count
        for ours, count in told.items()
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= _MAX_NUMBER
    }
    return TokenUsage(**counts) if counts and len(counts) == len(told) else None


def exact_number(value: object) -> Fraction | None:
    """Return a JSON number as the decimal it was written as; None for anything else.

    The shortest decimal that reads as a double is the one that was sent: credits have at most
    15 digits (§8), so nothing is lost on the way through the parser.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= _MAX_NUMBER:
        return None
    return Fraction(repr(value))


def _seconds(value: object) -> float | None:
    number = exact_number(value)
    return None if number is None else float(number)


def _progress(value: object) -> int | None:
    number = exact_number(value)
    return None if number is None else min(math.floor(number), 100)


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _describe_status(status: int, envelope: Envelope | None) -> str:
    """Return ``HTTP 429 rate_limit_exceeded: …`` for the operator."""
    return f"HTTP {status} {envelope.describe() if envelope else ''}".strip()
