"""What all routes read from a request and write into an answer."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.simulator import wire
from gateway.simulator.settings import SimulatorSettings


def authorized(request: Request) -> None:
    """Accept any bearer token that is not empty; raise ``PermissionError`` otherwise."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.casefold() != "bearer" or not token:
        raise PermissionError("no bearer token")


def base_url(request: Request, settings: SimulatorSettings) -> str:
    """Return the base of our own links, as this client knows us."""
    return (settings.public_url or str(request.base_url)).rstrip("/")


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer with sorted keys and exact decimals."""
    return Response(wire.encode(body), status, headers, media_type="application/json")
