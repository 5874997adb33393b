"""Everything that can be told to a caller, one class per decision the caller makes.

GatewayError
├── ClientFault                     the call cannot be served as it is
│   ├── InvalidRequest              a field is wrong (param, code)
│   ├── UnsupportedImage            OpenAI's `image_generation_user_error`
│   ├── BodyTooLarge                more bytes than the server takes
│   ├── BodyTooSlow                 the body did not arrive in time
│   ├── NotAuthenticated            no key, or none that we know
│   ├── ModelNotAllowed             the team may not use this model
│   ├── NotFound                    no such thing, or not this team's
│   ├── MethodNotAllowed            the route exists, the verb does not
│   ├── ModerationBlocked           the upstream's safety system refused
│   ├── BadReference                a reference image cannot be used
│   ├── BudgetExceeded              the price does not fit into a budget
│   ├── CostLimitExceeded           one call may cost more than a call may
│   ├── DailyQuotaExceeded          the day's images are used up
│   ├── IdempotencyConflict         the key was used for another call
│   ├── PictureExpired              the key's picture is no longer kept
│   ├── TaskRunning                 the task must be over for this
│   └── RateLimited                 too much at once; it fits a moment later
├── UpstreamFault                   the upstream did not deliver
│   ├── UpstreamUnavailable         nothing was created; may be tried again soon
│   ├── UpstreamFailed              the picture failed after our own tries, or is lost
│   ├── SubmitUnknown               nobody knows whether the picture was ordered
│   └── StillRunning                the wait ended before the picture did
└── GatewayFault                    we cannot serve
    ├── StoreUnavailable            the ledger store did not answer in time
    ├── StorageUnavailable          what the call brought along could not be kept
    ├── ShuttingDown                this replica takes no new work
    ├── TooManyConnections          this replica has no room for another one
    └── InternalError               a defect of ours

What each becomes over HTTP is written in one place, `edge/errors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.domain.keys import without_keys
from gateway.domain.money import format_usd


class GatewayError(Exception):
    """The gateway could not serve the request.

    `message` may repeat what a caller sent: a key of ours that was put in the wrong place is cut.
    """

    def __init__(self, message: str | None = None) -> None:
        self.message = without_keys(
            message or (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]
        )
        super().__init__(self.message)


class ClientFault(GatewayError):
    """The request cannot be served as it is."""


class InvalidRequest(ClientFault):
    """A field of the request is wrong."""

    def __init__(self, message: str, *, param: str | None, code: str | None) -> None:
        super().__init__(message)
        self.param = None if param is None else without_keys(param)
        self.code = code


class UnsupportedImage(InvalidRequest):
    """The picture that was asked for cannot be made by this model."""


class BodyTooLarge(ClientFault):
    """The request body is larger than this server accepts."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than the {limit_bytes} bytes accepted here.")
        self.limit_bytes = limit_bytes


class BodyTooSlow(ClientFault):
    """The request body did not arrive in time."""


class NotAuthenticated(ClientFault):
    """No key, or a key that is not known here."""

    def __init__(self, message: str, *, code: str | None) -> None:
        super().__init__(message)
        self.code = code


class ModelNotAllowed(ClientFault):
    """The team may not use this model."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Your team is not allowed to use the model '{model}'.")
        self.model = model


class NotFound(ClientFault):
    """There is no such thing here."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = "not_found"
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class MethodNotAllowed(ClientFault):
    """This route exists, but not with this method."""

    def __init__(self, message: str | None = None, *, allow: str = "") -> None:
        super().__init__(message)
        self.allow = allow


class ModerationBlocked(ClientFault):
    """Your request was rejected by the safety system."""

    def __init__(self, *, stage: str = "unknown") -> None:
        """`stage` is what was looked at, as OpenAI names it: input, output or unknown."""
        super().__init__()
        self.stage = stage


class BadReference(ClientFault):
    """A reference image could not be fetched or used."""

    def __init__(self, message: str | None = None, *, param: str = "image") -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget as it stood when it was asked; amounts in micro-dollars.

    `owner` is empty for the team's, a key's name, or an end user's hash. `resets_at_ms` is when the
    window ends (Unix milliseconds), None for a total. `topped_up_microusd` is the part of the limit
    that was paid in later.
    """

    scope: str
    owner: str
    name: str
    per: str
    limit_microusd: int
    spent_microusd: int
    held_microusd: int
    resets_at_ms: int | None
    topped_up_microusd: int = 0

    @property
    def remaining_microusd(self) -> int:
        """What is neither spent nor held; below zero when a settlement overran its hold."""
        return self.limit_microusd - self.spent_microusd - self.held_microusd


class BudgetExceeded(ClientFault):
    """The price of this call does not fit into a budget."""

    def __init__(self, budget: BudgetState, *, price_microusd: int) -> None:
        resets = ""
        if budget.resets_at_ms is not None:
            resets = f" The budget resets at {_utc(budget.resets_at_ms)}."
        super().__init__(
            f"This call would exceed the {budget.scope}'s '{budget.name}' budget of"
            f" ${format_usd(budget.limit_microusd)} ({budget.per}):"
            f" ${format_usd(budget.spent_microusd)} is spent,"
            f" ${format_usd(budget.held_microusd)} is held by calls in progress,"
            f" and this call may cost up to ${format_usd(price_microusd)}.{resets}"
        )
        self.budget = budget
        self.price_microusd = price_microusd


class CostLimitExceeded(ClientFault):
    """This one call may cost more than is allowed for a call."""

    def __init__(self, *, price_microusd: int, cap_microusd: int, param: str | None) -> None:
        super().__init__(
            f"This call may cost up to ${format_usd(price_microusd)}, more than the"
            f" ${format_usd(cap_microusd)} allowed for one call."
        )
        self.param = param


class DailyQuotaExceeded(ClientFault):
    """The team's images of this day are used up."""

    def __init__(self, *, limit: int, used: int, resets_at_ms: int) -> None:
        super().__init__(
            f"This call would exceed the team's quota of {limit} images per day: {used} are used."
            f" It resets at {_utc(resets_at_ms)}."
        )


class IdempotencyConflict(ClientFault):
    """This Idempotency-Key was used for another request; keys belong to one request."""


class PictureExpired(ClientFault):
    """The picture of this Idempotency-Key was made and is no longer kept; it is not made again."""


class TaskRunning(ClientFault):
    """The task is not over yet: cancel it or wait for its end, and delete it then."""


class RateLimited(ClientFault):
    """More is asked for at once than a quota allows; a moment later it fits.

    `units` is how much of the quota the call would have taken.
    """

    def __init__(self, *, resource: str, limit: int, retry_after_ms: int, units: int = 1) -> None:
        super().__init__(
            f"Rate limit reached on {_RATE_WORDS[resource]}: Limit {limit}."
            f" Please try again in {retry_after_ms}ms."
        )
        self.resource = resource
        self.limit = limit
        self.retry_after_ms = retry_after_ms
        self.units = units


#: How a refusal names what there is too much of.
_RATE_WORDS = {
    "requests": "requests per min",
    "input-images": "images per min",
    "in-flight": "images in progress at once",
}


def _utc(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


class UpstreamFault(GatewayError):
    """The image service did not deliver."""


class UpstreamUnavailable(UpstreamFault):
    """The image service cannot take this request now. Nothing was charged."""

    def __init__(self, *, retry_after_s: int = 10) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class UpstreamFailed(UpstreamFault):
    """The image service failed to make this picture."""


class SubmitUnknown(UpstreamFault):
    """The image service did not say whether it accepted this picture; it is not ordered again."""


class StillRunning(UpstreamFault):
    """The picture is not finished yet; it is still being made."""


class GatewayFault(GatewayError):
    """The gateway cannot serve."""


class StoreUnavailable(GatewayFault):
    """The ledger store did not answer in time; nothing was submitted."""


class StorageUnavailable(GatewayFault):
    """The images of this request could not be stored now; nothing was submitted."""


class ShuttingDown(GatewayFault):
    """This server is shutting down; try again."""


class TooManyConnections(GatewayFault):
    """This server has too many connections; try again."""


class InternalError(GatewayFault):
    """The server had an error while processing your request."""
