import re

import pytest

from gateway.domain import errors
from gateway.domain.errors import (
    BadReference,
    BodyTooLarge,
    BudgetExceeded,
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
    ShuttingDown,
    StillRunning,
    StoreUnavailable,
    SubmitUnknown,
    TooManyConnections,
    UnsupportedImage,
    UpstreamFailed,
    UpstreamUnavailable,
)
from tests.support.factories import a_budget_state


def _tree(kind: type[GatewayError]) -> set[str]:
    return {kind.__name__}.union(*(_tree(child) for child in kind.__subclasses__()))


def test_the_drawing_shows_every_class() -> None:
    """The tree at the top of the module names exactly the classes there are."""
    drawn = re.findall(
        r"^[│├└─ ]*([A-Z]\w+Error|[A-Z][a-z]+[A-Z]\w+)\b", errors.__doc__ or "", re.MULTILINE
    )

    assert _tree(GatewayError) == set(drawn)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BadReference(), "A reference image could not be fetched or used."),
        (MethodNotAllowed(), "This route exists, but not with this method."),
        (ModerationBlocked(), "Your request was rejected by the safety system."),
        (
            UpstreamUnavailable(),
            "The image service cannot take this request now. Nothing was charged.",
        ),
        (UpstreamFailed(), "The image service failed to make this picture."),
        (
            SubmitUnknown(),
            (
                "The image service did not say whether it accepted this picture;"
                " it is not ordered again."
            ),
        ),
        (StillRunning(), "The picture is not finished yet; it is still being made."),
        (
            StoreUnavailable(),
            "The ledger store did not answer in time; nothing was submitted.",
        ),
        (ShuttingDown(), "This server is shutting down; try again."),
        (TooManyConnections(), "This server has too many connections; try again."),
        (InternalError(), "The server had an error while processing your request."),
        (
            ModelNotAllowed("gpt-image-2"),
            "Your team is not allowed to use the model 'gpt-image-2'.",
        ),
        (BodyTooLarge(1024), "The request body is larger than the 1024 bytes accepted here."),
        (
            IdempotencyConflict(),
            "This Idempotency-Key was used for another request; keys belong to one request.",
        ),
        (
            PictureExpired(),
            (
                "The picture of this Idempotency-Key was made and is no longer kept;"
                " it is not made again."
            ),
        ),
        (StillRunning("Later."), "Later."),
        (InvalidRequest("Wrong.", param="n", code=None), "Wrong."),
        (NotAuthenticated("Who?", code=None), "Who?"),
        (NotFound("Gone."), "Gone."),
        (UnsupportedImage("No such size.", param="size", code=None), "No such size."),
    ],
)
def test_messages(error: GatewayError, message: str) -> None:
    """What a caller is told is the docstring unless something better is known."""
    assert (message, message) == (error.message, str(error))


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (InvalidRequest("m", param="n", code="c"), {"param": "n", "code": "c"}),
        (UnsupportedImage("m", param=None, code="c"), {"param": None, "code": "c"}),
        (BodyTooLarge(7), {"limit_bytes": 7}),
        (NotAuthenticated("m", code="invalid_api_key"), {"code": "invalid_api_key"}),
        (ModelNotAllowed("x"), {"model": "x"}),
        (NotFound("m"), {"param": None, "code": "not_found"}),
        (NotFound("m", param="model", code=None), {"param": "model", "code": None}),
        (BadReference(), {"param": "image"}),
        (BadReference("m", param="image[2]"), {"param": "image[2]"}),
        (UpstreamUnavailable(), {"retry_after_s": 10}),
        (UpstreamUnavailable(retry_after_s=3), {"retry_after_s": 3}),
    ],
)
def test_facts_ride_on_the_error(error: GatewayError, facts: dict[str, object]) -> None:
    """Errors carry what their answer needs."""
    assert facts == {name: getattr(error, name) for name in facts}


def test_remaining_is_neither_spent_nor_held() -> None:
    """What is left goes below zero when a settlement overran its hold."""
    state = a_budget_state(limit_microusd=100, spent_microusd=30, held_microusd=20)
    overrun = a_budget_state(limit_microusd=100, spent_microusd=110, held_microusd=5)

    assert (state.remaining_microusd, overrun.remaining_microusd) == (50, -15)


def test_budget_message_names_everything() -> None:
    """A refusal names scope, limit, spent, held, the price of this call and the reset time."""
    budget = a_budget_state(
        limit_microusd=50_000_000,
        spent_microusd=49_990_000,
        held_microusd=7_834,
        resets_at_ms=1_795_478_400_000,
    )
    error = BudgetExceeded(budget, price_microusd=10_140)

    expected = (
        "This call would exceed the team's 'day' budget of $50.00 (day): $49.99 is spent,"
        " $0.007834 is held by calls in progress, and this call may cost up to $0.01014."
        " The budget resets at 2026-11-24T00:00:00Z."
    )
    assert (expected, budget, 10_140) == (error.message, error.budget, error.price_microusd)


def test_a_total_never_resets() -> None:
    """The refusal by a budget without an end names no reset time."""
    error = BudgetExceeded(a_budget_state(name="grant"), price_microusd=1)

    assert error.message == (
        "This call would exceed the team's 'grant' budget of $50.00 (total): $0.00 is spent,"
        " $0.00 is held by calls in progress, and this call may cost up to $0.000001."
    )
