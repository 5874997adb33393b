import orjson
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.domain.errors import (
    BadReference,
    BodyTooLarge,
    BodyTooSlow,
    BudgetExceeded,
    ClientFault,
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
from gateway.edge.errors import (
    ROWS,
    HttpError,
    envelope,
    on_gateway_error,
    on_http_exception,
    respond,
    to_http,
)
from gateway.edge.record import record_of
from tests.support.factories import a_budget_state, a_request

#: One of each, and what HTTP says of it: status, type, code, param, headers.
TOLD: list[tuple[GatewayError, int, str, str | None, str | None, dict[str, str]]] = [
    (
        InvalidRequest("m", param="n", code="invalid_type"),
        *(400, "invalid_request_error", "invalid_type", "n", {}),
    ),
    (
        UnsupportedImage("m", param="size", code="invalid_value"),
        *(400, "image_generation_user_error", "invalid_value", "size", {}),
    ),
    (BodyTooLarge(1), 413, "invalid_request_error", "request_too_large", None, {}),
    (
        BodyTooSlow(),
        *(408, "invalid_request_error", "request_timeout", None, {"connection": "close"}),
    ),
    (
        NotAuthenticated("m", code="invalid_api_key"),
        *(401, "invalid_request_error", "invalid_api_key", None, {}),
    ),
    (NotAuthenticated("m", code=None), 401, "invalid_request_error", None, None, {}),
    (ModelNotAllowed("x"), 403, "invalid_request_error", "permission_denied", "model", {}),
    (
        NotFound("m", param="model", code="model_not_found"),
        *(404, "invalid_request_error", "model_not_found", "model", {}),
    ),
    (
        MethodNotAllowed("m", allow="GET, HEAD"),
        *(405, "invalid_request_error", "method_not_allowed", None, {"allow": "GET, HEAD"}),
    ),
    (
        ModerationBlocked(),
        *(400, "image_generation_user_error", "moderation_blocked", None, {}),
    ),
    (
        BadReference(param="image[1]"),
        *(400, "image_generation_user_error", "invalid_image", "image[1]", {}),
    ),
    (
        BudgetExceeded(a_budget_state(), price_microusd=1),
        *(429, "insufficient_quota", "insufficient_quota", None, {"x-should-retry": "false"}),
    ),
    (
        CostLimitExceeded(price_microusd=2, cap_microusd=1, param="max_cost_usd"),
        *(400, "invalid_request_error", "cost_limit_exceeded", "max_cost_usd", {}),
    ),
    (
        DailyQuotaExceeded(limit=2, used=2, resets_at_ms=0),
        *(429, "insufficient_quota", "insufficient_quota", None, {"x-should-retry": "false"}),
    ),
    (
        IdempotencyConflict(),
        *(422, "invalid_request_error", "idempotency_conflict", None),
        {"x-should-retry": "false"},
    ),
    (
        PictureExpired(),
        *(410, "invalid_request_error", "picture_expired", None, {"x-should-retry": "false"}),
    ),
    (
        TaskRunning(),
        *(409, "invalid_request_error", "task_running", "id", {"x-should-retry": "false"}),
    ),
    (
        RateLimited(resource="requests", limit=2, retry_after_ms=1_001),
        *(429, "requests", "rate_limit_exceeded", None),
        {"retry-after": "2", "retry-after-ms": "1001"},
    ),
    (
        RateLimited(resource="in-flight", limit=2, retry_after_ms=90_000),
        *(429, "input-images", "rate_limit_exceeded", None),
        {"retry-after": "60", "retry-after-ms": "60000"},
    ),
    (
        UpstreamUnavailable(retry_after_s=7),
        *(503, "service_unavailable_error", "upstream_unavailable", None, {"retry-after": "7"}),
    ),
    (
        UpstreamFailed(),
        *(502, "server_error", "upstream_failed", None, {"x-should-retry": "false"}),
    ),
    # A retry is attached to the very task, and orders nothing.
    (
        SubmitUnknown(),
        *(504, "server_error", "submit_unknown", None, {"x-should-retry": "true"}),
    ),
    (
        StillRunning(),
        *(504, "server_error", "still_running", None, {"x-should-retry": "true"}),
    ),
    (
        StoreUnavailable(),
        *(503, "service_unavailable_error", "ledger_unavailable", None, {"retry-after": "2"}),
    ),
    (
        StorageUnavailable(),
        *(503, "service_unavailable_error", "storage_unavailable", None),
        {"retry-after": "2"},
    ),
    (
        ShuttingDown(),
        *(503, "service_unavailable_error", "shutting_down", None),
        {"retry-after": "2", "connection": "close"},
    ),
    (
        TooManyConnections(),
        *(503, "service_unavailable_error", "too_many_connections", None),
        {"retry-after": "2", "connection": "close"},
    ),
    # What was admitted is joined; SDKs try a 500 again by themselves.
    (InternalError(), 500, "server_error", None, None, {}),
]


def _every(kind: type[GatewayError]) -> set[type[GatewayError]]:
    return {kind}.union(*(_every(child) for child in kind.__subclasses__()))


def _raised() -> set[type[GatewayError]]:
    """Return the classes that are raised: all leaves, and InvalidRequest, which has a kin."""
    return {kind for kind in _every(GatewayError) if not kind.__subclasses__()} | {InvalidRequest}


def test_every_leaf_has_a_row() -> None:
    """The table has exactly the leaves of the error tree, and this test has a sample of each."""
    assert _raised() == set(ROWS)
    assert _raised() == {type(error) for error, *_ in TOLD}


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param", "headers"),
    TOLD,
    ids=[type(row[0]).__name__ for row in TOLD],
)
def test_answers(
    error: GatewayError,
    status: int,
    kind: str,
    code: str | None,
    param: str | None,
    headers: dict[str, str],
) -> None:
    """Each error has its status, type, code, param and headers, and its own message."""
    told = to_http(error)

    assert isinstance(told, HttpError)
    assert (status, kind, code, error.message, param, headers) == (
        *(told.status, told.type, told.code, told.message, told.param, told.headers),
    )


@pytest.mark.parametrize("error", [row[0] for row in TOLD], ids=lambda error: type(error).__name__)
def test_every_body_is_openais_envelope(error: GatewayError) -> None:
    """All four keys are there, also when they are null, and nothing is beside them."""
    answer = to_http(error)
    told = orjson.loads(answer.body())

    assert {"error"} == told.keys()
    assert (error.message, answer.type, answer.param, answer.code) == tuple(
        told["error"].pop(name) for name in ("message", "type", "param", "code")
    )
    assert told["error"].keys() == (
        {"moderation_details"} if isinstance(error, ModerationBlocked) else set()
    )
    assert envelope(error) == orjson.loads(answer.body())["error"]


@pytest.mark.parametrize("stage", ["input", "unknown"])
def test_what_was_moderated(stage: str) -> None:
    """As OpenAI's SDKs type it; of which category it was, no upstream tells."""
    told = envelope(ModerationBlocked(stage=stage))

    assert {"moderation_stage": stage, "categories": []} == told["moderation_details"]


def test_bodies_are_pretty_printed() -> None:
    """OpenAI indents its errors by two spaces, in this order of keys."""
    assert HttpError(400, "t", None, "m", "n").body() == (
        b'{\n  "error": {\n    "message": "m",\n    "type": "t",\n'
        b'    "param": "n",\n    "code": null\n  }\n}'
    )


def test_respond() -> None:
    """The response carries status, body, headers and the content type SDKs insist on."""
    error = HttpError(503, "t", "c", "m", headers={"retry-after": "2"})
    response = respond(error)

    assert (503, error.body(), "application/json", "2") == (
        *(response.status_code, response.body),
        *(response.headers["content-type"], response.headers["retry-after"]),
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreUnavailable(), "ledger_unavailable"), (InternalError(), "")],
)
async def test_an_error_of_ours_is_answered_and_noted(error: GatewayError, code: str) -> None:
    """The answer's code is on the request's record, empty when there is none."""
    request = a_request()
    response = await on_gateway_error(request, error)

    told = to_http(error, request_id=record_of(request).request_id)
    assert (told.status, told.body()) == (response.status_code, response.body)
    assert code == record_of(request).error_code


def test_a_defect_names_its_request() -> None:
    """In the words of OpenAI, so that whoever is asked finds it in the log."""
    told = to_http(InternalError(), request_id="req_1")

    assert isinstance(told, HttpError)
    assert told.message == (
        "The server had an error while processing your request. Sorry about that! You can retry"
        " your request, or tell the team that runs this gateway if the error persists."
        " (Please include the request ID req_1 in your message.)"
    )
    assert told.envelope() == envelope(InternalError(), "req_1")
    assert "req_1" not in str(envelope(UpstreamFailed(), "req_1"))


async def test_foreign_errors_pass_through() -> None:
    """A handler that is given somebody else's error raises it again."""
    with pytest.raises(ZeroDivisionError):
        await on_gateway_error(a_request(), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await on_http_exception(a_request(), ZeroDivisionError())


def test_an_abstract_error_has_no_answer() -> None:
    """Only leaves are raised; a family alone does not say what happened."""
    with pytest.raises(KeyError):
        to_http(ClientFault())


@pytest.mark.parametrize(
    ("path", "method", "refusal", "status", "code", "message"),
    [
        (
            *("/v1/nope", "GET", HTTPException(404), 404, "unknown_url"),
            "There is no GET /v1/nope here.",
        ),
        (
            *("/images/generations", "POST", HTTPException(404), 404, "unknown_url"),
            (
                "There is no POST /images/generations here."
                " The API is below /v1: set base_url to …/v1."
            ),
        ),
        (
            *("/v1/" + "x" * 5_000, "GET", HTTPException(404), 404, "unknown_url"),
            f"There is no GET /v1/{'x' * 196} here.",
        ),
        (
            *("/v1/images/variations", "POST", HTTPException(404), 404, "unknown_url"),
            (
                "Variations are no longer made, by OpenAI neither: /v1/images/generations makes"
                " pictures from words."
            ),
        ),
        (
            # The framework knows the methods of the first route of this path only.
            *("/v1/two", "PUT", HTTPException(405, headers={"Allow": "GET, HEAD"})),
            *(405, "method_not_allowed"),
            "PUT is not possible on /v1/two; it takes GET, HEAD, POST.",
        ),
    ],
)
async def test_what_the_framework_refuses(
    path: str, method: str, refusal: HTTPException, status: int, code: str, message: str
) -> None:
    """A wrong path or method is told in the envelope, with a hint at the base URL."""
    request = a_request(path, method=method)
    request.scope["app"] = Starlette(
        routes=[Route("/v1/two", _unused, methods=[verb]) for verb in ("GET", "POST")]
    )
    response = await on_http_exception(request, refusal)

    allow = {"allow": "GET, HEAD, POST"} if status == 405 else {}
    assert allow.items() <= dict(response.headers).items()
    expected = HttpError(status, "invalid_request_error", code, message)
    assert (status, expected.body()) == (response.status_code, response.body)
    assert code == record_of(request).error_code


@pytest.mark.parametrize("path", ["/v1/nope", "/v1/images/variations", "/", "/images/generations"])
async def test_what_is_not_there_in_strict_mode(path: str) -> None:
    """Nothing is said at all, as by today's OpenAI; it is counted all the same."""
    request = a_request(path, method="POST")
    response = await on_http_exception(request, HTTPException(404), strict=True)

    assert (404, b"", "nosniff", "0") == (
        *(response.status_code, response.body, response.headers["x-content-type-options"]),
        response.headers["content-length"],
    )
    assert "content-type" not in response.headers
    assert "unknown_url" == record_of(request).error_code


async def test_strict_mode_is_openais_alone() -> None:
    """EvoLink's own surface answers as EvoLink, and a path that is here tells its methods."""
    evolink = await on_http_exception(
        a_request("/evolink/v1/nope"), HTTPException(404), strict=True
    )
    request = a_request("/v1/two", method="PUT")
    request.scope["app"] = Starlette(routes=[Route("/v1/two", _unused, methods=["GET"])])
    wrong = await on_http_exception(request, HTTPException(405), strict=True)

    assert evolink.body
    assert (405, "GET, HEAD") == (wrong.status_code, wrong.headers["allow"])


async def _unused(_request: Request) -> Response:
    raise AssertionError("called")


async def test_a_body_that_grew_too_large_while_it_was_read() -> None:
    """The framework's own 413 is told with the limit that the request met."""
    request = a_request("/v1/images/generations", method="POST")
    request.scope[MAX_BODY_SIZE_SCOPE_KEY] = 1000
    response = await on_http_exception(request, HTTPException(413))

    assert (413, to_http(BodyTooLarge(1000)).body()) == (response.status_code, response.body)
    assert record_of(request).error_code == "request_too_large"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RateLimited(resource="input-images", limit=60, retry_after_ms=1_500, units=4),
            {
                "x-ratelimit-limit-input-images": "60",
                "x-ratelimit-remaining-input-images": "2",
                "x-ratelimit-reset-input-images": "57.5s",
            },
        ),
        (
            RateLimited(resource="requests", limit=120, retry_after_ms=500),
            {
                "x-ratelimit-limit-requests": "120",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1m0s",
            },
        ),
        (RateLimited(resource="in-flight", limit=2, retry_after_ms=1_000), {}),
        (BudgetExceeded(a_budget_state(), price_microusd=1), {}),
    ],
)
async def test_the_quota_that_refuses_is_told(error: GatewayError, told: dict[str, str]) -> None:
    """As OpenAI's headers, which have no word for what is in progress."""
    request = a_request()
    await on_gateway_error(request, error)

    assert told == {name.decode(): value.decode() for name, value in record_of(request).headers()}
