"""The one table from what went wrong to what HTTP says: OpenAI's envelope, always.

Statuses, types and codes are OpenAI's where it has any (protocols/openai_images.md §7);
`x-should-retry: false` keeps SDKs from trying again what cannot work or could be charged twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

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
from gateway.edge.evolink_errors import ROOT as EVOLINK_ROOT
from gateway.edge.evolink_errors import EvolinkError, evolink_error
from gateway.edge.record import record_of
from gateway.ledger.quotas import IMAGES, REQUESTS, refused_state

INVALID_REQUEST = "invalid_request_error"
IMAGE_USER_ERROR = "image_generation_user_error"
SERVER_ERROR = "server_error"
UNAVAILABLE = "service_unavailable_error"

#: The code of a path that is not here.
UNKNOWN_URL = "unknown_url"

NO_RETRY = {"x-should-retry": "false"}
RETRY = {"x-should-retry": "true"}

#: Seconds after which a stalled store, or a replacement of this server, is worth another try.
RETRY_SOON_S = 2

#: More of a path is not repeated in an answer.
MAX_PATH_CHARS = 200

#: SDKs wait for no longer than this (protocols/openai_images.md §9.1).
MAX_RETRY_AFTER_S = 60


@dataclass(frozen=True, slots=True)
class HttpError:
    """One error as it goes over the wire."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)

    def envelope(self) -> dict[str, object]:
        """Return what OpenAI tells of an error; all four keys are required."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
            **self.details,
        }

    def body(self) -> bytes:
        """Return the envelope in its `error`, pretty-printed as OpenAI's is."""
        return orjson.dumps({"error": self.envelope()}, option=orjson.OPT_INDENT_2)


def _invalid(error: InvalidRequest) -> HttpError:
    return HttpError(400, INVALID_REQUEST, error.code, error.message, error.param)


def _unsupported(error: UnsupportedImage) -> HttpError:
    return HttpError(400, IMAGE_USER_ERROR, error.code, error.message, error.param)


def _too_large(error: BodyTooLarge) -> HttpError:
    return HttpError(413, INVALID_REQUEST, "request_too_large", error.message)


def _too_slow(error: BodyTooSlow) -> HttpError:
    # Closed: what is still on its way would be taken for the next request.
    close = {"connection": "close"}
    return HttpError(408, INVALID_REQUEST, "request_timeout", error.message, headers=close)


def _not_authenticated(error: NotAuthenticated) -> HttpError:
    return HttpError(401, INVALID_REQUEST, error.code, error.message)


def _not_allowed(error: ModelNotAllowed) -> HttpError:
    return HttpError(403, INVALID_REQUEST, "permission_denied", error.message, "model")


def _not_found(error: NotFound) -> HttpError:
    return HttpError(404, INVALID_REQUEST, error.code, error.message, error.param)


def _wrong_method(error: MethodNotAllowed) -> HttpError:
    allow = {"allow": error.allow} if error.allow else {}
    return HttpError(405, INVALID_REQUEST, "method_not_allowed", error.message, headers=allow)


def _moderation(error: ModerationBlocked) -> HttpError:
    # Which categories it was is not told upstream.
    details = {"moderation_details": {"moderation_stage": error.stage, "categories": []}}
    return HttpError(400, IMAGE_USER_ERROR, "moderation_blocked", error.message, details=details)


def _bad_reference(error: BadReference) -> HttpError:
    return HttpError(400, IMAGE_USER_ERROR, "invalid_image", error.message, error.param)


def _budget(error: BudgetExceeded) -> HttpError:
    quota = "insufficient_quota"
    return HttpError(429, quota, quota, error.message, headers=NO_RETRY)


def _call_cap(error: CostLimitExceeded) -> HttpError:
    return HttpError(400, INVALID_REQUEST, "cost_limit_exceeded", error.message, error.param)


def _day_used(error: DailyQuotaExceeded) -> HttpError:
    quota = "insufficient_quota"
    return HttpError(429, quota, quota, error.message, headers=NO_RETRY)


def _conflict(error: IdempotencyConflict) -> HttpError:
    return HttpError(422, INVALID_REQUEST, "idempotency_conflict", error.message, headers=NO_RETRY)


def _expired(error: PictureExpired) -> HttpError:
    return HttpError(410, INVALID_REQUEST, "picture_expired", error.message, headers=NO_RETRY)


def _running(error: TaskRunning) -> HttpError:
    return HttpError(409, INVALID_REQUEST, "task_running", error.message, "id", headers=NO_RETRY)


def _rate(error: RateLimited) -> HttpError:
    # Whole seconds rounded up, and never more than SDKs wait for.
    wait_s = min(-(-error.retry_after_ms // 1000), MAX_RETRY_AFTER_S)
    wait = {
        "retry-after": str(max(wait_s, 1)),
        "retry-after-ms": str(min(error.retry_after_ms, MAX_RETRY_AFTER_S * 1000)),
    }
    kind = "requests" if error.resource == "requests" else "input-images"
    return HttpError(429, kind, "rate_limit_exceeded", error.message, headers=wait)


def _unavailable(error: UpstreamUnavailable) -> HttpError:
    wait = {"retry-after": str(error.retry_after_s)}
    return HttpError(503, UNAVAILABLE, "upstream_unavailable", error.message, headers=wait)


def _failed(error: UpstreamFailed) -> HttpError:
    return HttpError(502, SERVER_ERROR, "upstream_failed", error.message, headers=NO_RETRY)


def _unknown(error: SubmitUnknown) -> HttpError:
    return HttpError(504, SERVER_ERROR, "submit_unknown", error.message, headers=RETRY)


def _still_running(error: StillRunning) -> HttpError:
    # The retry is attached to the very task, so that trying again is the way to the picture.
    return HttpError(504, SERVER_ERROR, "still_running", error.message, headers=RETRY)


def _store(error: StoreUnavailable) -> HttpError:
    wait = {"retry-after": str(RETRY_SOON_S)}
    return HttpError(503, UNAVAILABLE, "ledger_unavailable", error.message, headers=wait)


def _storage(error: StorageUnavailable) -> HttpError:
    wait = {"retry-after": str(RETRY_SOON_S)}
    return HttpError(503, UNAVAILABLE, "storage_unavailable", error.message, headers=wait)


def _shutting_down(error: ShuttingDown) -> HttpError:
    # Closed, so that the retry does not come back over the same connection.
    wait = {"retry-after": str(RETRY_SOON_S), "connection": "close"}
    return HttpError(503, UNAVAILABLE, "shutting_down", error.message, headers=wait)


def _crowded(error: TooManyConnections) -> HttpError:
    # Closed, so that the connection makes room.
    wait = {"retry-after": str(RETRY_SOON_S), "connection": "close"}
    return HttpError(503, UNAVAILABLE, "too_many_connections", error.message, headers=wait)


def _internal(error: InternalError) -> HttpError:
    # May be tried again: what was admitted is joined, and what was not has cost nothing.
    return HttpError(500, SERVER_ERROR, None, error.message)


#: Every leaf of the error tree has a row; a test walks the tree.
ROWS: dict[type[GatewayError], Callable[..., HttpError]] = {
    InvalidRequest: _invalid,
    UnsupportedImage: _unsupported,
    BodyTooLarge: _too_large,
    BodyTooSlow: _too_slow,
    NotAuthenticated: _not_authenticated,
    ModelNotAllowed: _not_allowed,
    NotFound: _not_found,
    MethodNotAllowed: _wrong_method,
    ModerationBlocked: _moderation,
    BadReference: _bad_reference,
    BudgetExceeded: _budget,
    CostLimitExceeded: _call_cap,
    DailyQuotaExceeded: _day_used,
    IdempotencyConflict: _conflict,
    PictureExpired: _expired,
    TaskRunning: _running,
    RateLimited: _rate,
    UpstreamUnavailable: _unavailable,
    UpstreamFailed: _failed,
    SubmitUnknown: _unknown,
    StillRunning: _still_running,
    StoreUnavailable: _store,
    StorageUnavailable: _storage,
    ShuttingDown: _shutting_down,
    TooManyConnections: _crowded,
    InternalError: _internal,
}


def to_http(error: GatewayError, path: str = "", request_id: str = "") -> HttpError | EvolinkError:
    """Return how an error goes over the wire, in the words of the surface its path belongs to.

    A defect of ours is told with the id of its request, where there is one.
    """
    told = _told(error, request_id)
    if path.startswith(EVOLINK_ROOT):
        return evolink_error(error, param=told.param, headers=told.headers)
    return told


def envelope(error: GatewayError, request_id: str = "") -> dict[str, object]:
    """Return what is told of an error in a stream, whose status has left."""
    return _told(error, request_id).envelope()


def _told(error: GatewayError, request_id: str) -> HttpError:
    told = ROWS[type(error)](error)
    if isinstance(error, InternalError) and request_id:
        return replace(told, message=f"{told.message} {_WHAT_TO_DO.format(request_id)}")
    return told


#: As OpenAI says it (protocols/openai_images.md §7.3), but for who is to be told.
_WHAT_TO_DO = (
    "Sorry about that! You can retry your request, or tell the team that runs this gateway if the"
    " error persists. (Please include the request ID {} in your message.)"
)


def respond(error: HttpError | EvolinkError) -> Response:
    """Return the response for an error."""
    return Response(
        error.body(), status_code=error.status, headers=error.headers, media_type="application/json"
    )


async def on_gateway_error(request: Request, error: Exception) -> Response:
    """Answer an error of ours."""
    if not isinstance(error, GatewayError):
        raise error
    record = record_of(request)
    answer = to_http(error, request.url.path, record.request_id)
    record.error_code = answer.code or ""
    if isinstance(error, RateLimited) and error.resource in (REQUESTS, IMAGES):
        # The middleware tells quotas, of a refusal as of a success; OpenAI has no header in flight.
        record.rates = (
            refused_state(
                resource=error.resource,
                limit=error.limit,
                units=error.units,
                wait_ms=error.retry_after_ms,
            ),
        )
    return respond(answer)


async def on_http_exception(
    request: Request, error: Exception, *, strict: bool = False
) -> Response:
    """Answer what the framework refuses (no such route, wrong method), in the same envelope.

    With `strict` what is not there is answered as OpenAI does: with nothing
    (protocols/openai_images.md §1).
    """
    if not isinstance(error, HTTPException):
        raise error
    is_missing = error.status_code == HTTPStatus.NOT_FOUND
    if strict and is_missing and not request.url.path.startswith(EVOLINK_ROOT):
        record_of(request).error_code = UNKNOWN_URL
        return Response(status_code=404, headers={"x-content-type-options": "nosniff"})
    return await on_gateway_error(request, _from_framework(request, error))


def _methods_of(request: Request) -> str:
    """Return the methods that a path takes: the framework knows those of its first route only."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE and isinstance(route, Route):
            methods |= route.methods or set()
    return ", ".join(sorted(methods))


def _from_framework(request: Request, error: HTTPException) -> GatewayError:
    path = request.url.path[:MAX_PATH_CHARS]
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return BodyTooLarge(request.scope[MAX_BODY_SIZE_SCOPE_KEY])
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods_of(request)
        return MethodNotAllowed(
            f"{request.method} is not possible on {path}; it takes {allowed}.",
            allow=allowed,
        )
    if path == "/v1/images/variations":
        return NotFound(
            "Variations are no longer made, by OpenAI neither: /v1/images/generations makes"
            " pictures from words.",
            code=UNKNOWN_URL,
        )
    hint = (
        ""
        if path.startswith(("/v1/", EVOLINK_ROOT))
        else " The API is below /v1: set base_url to …/v1."
    )
    return NotFound(f"There is no {request.method} {path} here.{hint}", code=UNKNOWN_URL)
