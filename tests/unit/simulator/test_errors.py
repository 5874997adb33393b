import pytest

from gateway.simulator.errors import (
    CREDITS_UNAUTHORIZED,
    TASK_NOT_FOUND,
    Problem,
    error_body,
    invalid_request,
)
from gateway.simulator.faults import INSUFFICIENT_QUOTA
from gateway.simulator.settings import Envelope


def test_string_envelope() -> None:
    """Today's form carries the code as a word and no absent fields."""
    assert error_body(INSUFFICIENT_QUOTA, Envelope.STRING) == {
        "error": {
            "code": "insufficient_quota",
            "message": "Insufficient quota. Please top up your account.",
            "type": "insufficient_quota",
        }
    }


def test_integer_envelope() -> None:
    """The older form repeats the status and has texts of its own."""
    assert error_body(INSUFFICIENT_QUOTA, Envelope.INTEGER) == {
        "error": {
            "code": 402,
            "fallback_suggestion": "https://evolink.ai/dashboard/billing",
            "message": "Insufficient quota",
            "type": "insufficient_quota_error",
        }
    }


def test_integer_envelope_without_an_older_row() -> None:
    """A refusal that only today's documents know keeps its text."""
    problem = Problem(409, "idempotency_conflict", "other body", "invalid_request_error", "x")

    assert error_body(problem, Envelope.INTEGER) == {
        "error": {
            "code": 409,
            "message": "other body",
            "param": "x",
            "type": "invalid_request_error",
        }
    }


@pytest.mark.parametrize(
    "envelope",
    [Envelope.STRING, Envelope.INTEGER, Envelope.UPPER, Envelope.RICH, Envelope.PASSTHROUGH],
)
def test_problem_without_a_word_is_always_integer(envelope: Envelope) -> None:
    """The credits page still documents integer codes only."""
    body = error_body(CREDITS_UNAUTHORIZED, envelope)

    assert body["error"]["code"] == 401


def test_invalid_request_names_the_parameter() -> None:
    """A bad parameter is named in today's form and the older one."""
    problem = invalid_request("n must be 1", "n").problem

    assert error_body(problem, Envelope.STRING)["error"] == {
        "code": "invalid_request",
        "message": "Invalid request parameters: n must be 1",
        "param": "n",
        "type": "invalid_request_error",
    }
    assert error_body(problem, Envelope.INTEGER)["error"] == {
        "code": 400,
        "message": "Invalid request parameters",
        "param": "n",
        "type": "invalid_request_error",
    }


def test_missing_task_in_the_older_words() -> None:
    """The older documents say that the task may have expired."""
    assert (
        error_body(TASK_NOT_FOUND, Envelope.INTEGER)["error"]["message"]
        == "Task not found or expired"
    )


@pytest.mark.parametrize(
    ("envelope", "body"),
    [
        (
            Envelope.UPPER,
            {
                "error": {
                    "code": "INSUFFICIENT_QUOTA",
                    "message": "Insufficient quota. Please top up your account.",
                    "type": "insufficient_quota",
                }
            },
        ),
        (
            Envelope.RICH,
            {
                "error": {
                    "account_balance_credits": 1.2,
                    "action_url": "/dashboard/credits",
                    "code": "insufficient_quota",
                    "estimated_credits": 6.4,
                    "key_name": "simulated",
                    "message": "Insufficient quota. Please top up your account. (request id: r1)",
                    "request_id": "r1",
                    "reset_timezone": "Asia/Shanghai",
                    "type": "insufficient_quota",
                }
            },
        ),
        (
            Envelope.PASSTHROUGH,
            {
                "error": {
                    "code": 402,
                    "message": "Insufficient quota. Please top up your account.",
                    "param": "",
                    "type": "",
                }
            },
        ),
        (Envelope.MESSAGE, {"message": "Insufficient quota. Please top up your account."}),
        (
            Envelope.OAUTH,
            {
                "error": "insufficient_quota",
                "error_description": "Insufficient quota. Please top up your account.",
            },
        ),
        (
            Envelope.FILES,
            {
                "code": 402,
                "msg": "Insufficient quota. Please top up your account.",
                "success": False,
            },
        ),
    ],
)
def test_other_envelopes(envelope: Envelope, body: dict[str, object]) -> None:
    """Every form that was seen can be written."""
    assert error_body(INSUFFICIENT_QUOTA, envelope, "r1") == body


def test_rich_envelope_without_money() -> None:
    """Balances are told on a 402 only."""
    body = error_body(TASK_NOT_FOUND, Envelope.RICH, "r2")

    assert {"code", "message", "request_id", "type"} == set(body["error"])
