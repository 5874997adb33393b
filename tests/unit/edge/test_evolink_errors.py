from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.domain.errors import (
    BudgetExceeded,
    BudgetState,
    DailyQuotaExceeded,
    GatewayError,
    InternalError,
    InvalidRequest,
    ModelNotAllowed,
    NotAuthenticated,
    NotFound,
    RateLimited,
    StoreUnavailable,
)
from gateway.edge.errors import HttpError, respond, to_http
from gateway.edge.evolink_errors import ROWS, EvolinkError
from tests.support.factories import a_budget_state

PATH = "/evolink/v1/images/generations"


def leaves(kind: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """Walk the error tree to what is raised."""
    below = kind.__subclasses__()
    if kind in ROWS or not below:
        yield kind
    for each in below:
        yield from leaves(each)


def a_key_budget(per: str) -> BudgetState:
    """Build a budget of ten dollars of the key `ci`, of which four are spent and one is held."""
    return BudgetState("key", "ci", per, per, 10_000_000, 4_000_000, 1_000_000, None)


def told(error: GatewayError) -> EvolinkError:
    """Return how EvoLink's clients are told."""
    answer = to_http(error, PATH)
    assert isinstance(answer, EvolinkError)
    return answer


def test_every_error_can_be_told() -> None:
    """No leaf of the tree is missing in the table."""
    assert set(ROWS) == set(leaves())


@pytest.mark.parametrize(
    ("error", "status", "code", "kind", "message", "param"),
    [
        (
            InvalidRequest("too many", param="n", code="integer_above_max_value"),
            *(400, "invalid_request", "invalid_request_error", "too many", "n"),
        ),
        (
            InvalidRequest("no id", param="task_id", code="invalid_task_id"),
            *(400, "invalid_task_id", "invalid_request_error", "no id", "task_id"),
        ),
        (
            NotAuthenticated("Incorrect API key provided: ****.", code="invalid_api_key"),
            *(401, "unauthorized", "authentication_error", "Invalid or expired token", None),
        ),
        (
            ModelNotAllowed("gpt-image-2"),
            *(403, "model_access_denied", "invalid_request_error"),
            *("Your team is not allowed to use the model 'gpt-image-2'.", "model"),
        ),
        (
            NotFound("gone", code="task_not_found"),
            *(404, "task_not_found", "invalid_request_error", "gone", None),
        ),
        (
            NotFound("nowhere", code="unknown_url"),
            *(404, "resource_not_found", "invalid_request_error", "nowhere", None),
        ),
        (
            InternalError(),
            *(500, "internal_error", "api_error", "Internal server error", None),
        ),
    ],
)
def test_errors_are_told_in_its_codes(
    error: GatewayError, status: int, code: str, kind: str, message: str, param: str | None
) -> None:
    """Code and type are EvoLink's own (protocols/evolink.md §4.7, §9.2)."""
    answer = told(error)

    assert (status, code, kind, message, param) == (
        answer.status,
        answer.code,
        answer.type,
        answer.message,
        answer.param,
    )


def test_the_envelope_has_only_what_is_told() -> None:
    """No null stands in it, and keys are in order as theirs are."""
    body = respond(told(StoreUnavailable())).body

    assert bytes(body).startswith(b'{"error":{"code":"service_unavailable","message":"The ledger')
    assert ["code", "message", "type"] == list(json.loads(body)["error"])


@pytest.mark.parametrize(
    ("budget", "code", "facts"),
    [
        (
            a_budget_state(limit_microusd=10_000_000, spent_microusd=9_000_000),
            "insufficient_quota",
            {"account_balance_credits": 68},
        ),
        (
            a_key_budget("month"),
            "insufficient_token_quota",
            {
                "key_name": "ci",
                "remaining_credits": 340,
                "total_limit_credits": 680,
                "used_credits": 272,
            },
        ),
        (
            a_key_budget("day"),
            "token_daily_quota_exceeded",
            {
                "key_name": "ci",
                "remaining_credits": 340,
                "daily_limit_credits": 680,
                "daily_used_credits": 272,
            },
        ),
    ],
)
def test_whose_budget_is_used_up(budget: BudgetState, code: str, facts: dict[str, object]) -> None:
    """The account's money, a key's limit and a key's day are three codes of 402 (§9.3)."""
    answer = told(BudgetExceeded(budget, price_microusd=30_431))
    error = json.loads(answer.body())["error"]

    assert (402, code, "insufficient_quota") == (answer.status, error["code"], error["type"])
    assert facts | {"estimated_credits": 2.069308} == {
        name: value for name, value in error.items() if name not in ("code", "message", "type")
    }


def test_clients_are_told_how_long_to_wait_but_nothing_of_other_sdks() -> None:
    """`Retry-After` is theirs, too; what only OpenAI's SDKs read is left out."""
    soon = told(RateLimited(resource="requests", limit=1, retry_after_ms=1500))
    never = told(DailyQuotaExceeded(limit=1, used=1, resets_at_ms=0))

    assert "2" == soon.headers["retry-after"]
    assert {} == never.headers
    assert (402, "token_daily_quota_exceeded") == (never.status, never.code)


@pytest.mark.parametrize("path", ["", "/v1/images/generations", "/evolink", "/v1/evolink/x"])
def test_everywhere_else_openai_is_spoken(path: str) -> None:
    """The envelope belongs to the surface."""
    assert isinstance(to_http(InternalError(), path), HttpError)
