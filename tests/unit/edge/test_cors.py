from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.edge.cors import cors

APP = "https://app.example.com"


async def _ok(_request: Request) -> Response:
    return Response("ok")


ROUTES = [Route("/v1/x", _ok, methods=[method]) for method in ("GET", "POST", "DELETE")]


async def _ask(
    origins: tuple[str, ...], method: str, origin: str, **headers: str
) -> httpx.Response:
    app = Starlette(routes=ROUTES, middleware=cors(origins, ROUTES))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://gateway"
    ) as client:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, "/v1/x", headers=told | {"origin": origin})


def test_without_origins_there_is_nothing() -> None:
    """Pages of other origins may not call unless the settings say so."""
    assert [] == cors((), ROUTES)


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((APP,), APP, APP),
        ((APP, "http://localhost:3000"), "http://localhost:3000", "http://localhost:3000"),
        (("*",), "https://anywhere.example", "*"),
        ((APP,), "https://app.example.com.evil.example", None),
        ((APP,), "http://app.example.com", None),
    ],
)
async def test_who_may_read(origins: tuple[str, ...], origin: str, allowed: str | None) -> None:
    """A page of an allowed origin may read the answer; cookies are never allowed."""
    answer = await _ask(origins, "GET", origin)

    assert allowed == answer.headers.get("access-control-allow-origin")
    assert "access-control-allow-credentials" not in answer.headers


async def test_what_a_page_may_read() -> None:
    """All headers of ours, by name."""
    answer = await _ask((APP,), "GET", APP)

    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "x-gateway-cost-usd", "x-ratelimit-reset-requests"} <= {*exposed}
    assert {"retry-after", "x-should-retry", "location"} <= {*exposed}


@pytest.mark.parametrize(
    ("origin", "method", "status"),
    [(APP, "DELETE", 200), (APP, "PATCH", 400), ("https://evil.example", "POST", 400)],
)
async def test_preflight(origin: str, method: str, status: int) -> None:
    """Methods are those of the routes; any header may be sent, as OpenAI's clients do."""
    answer = await _ask(
        *((APP,), "OPTIONS", origin),
        access_control_request_method=method,
        access_control_request_headers="authorization,x-stainless-lang",
    )

    assert status == answer.status_code
    if status == 200:
        allowed = answer.headers["access-control-allow-headers"]
        assert "authorization,x-stainless-lang" == allowed
        assert APP == answer.headers["access-control-allow-origin"]
