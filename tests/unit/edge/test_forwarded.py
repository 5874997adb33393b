from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.edge.forwarded import forwarded

PROXY = "10.1.2.3"
TOLD = {
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "images.example.com",
}
DIRECT = {"base": "http://gateway:8080/", "client": PROXY}


async def _show(request: Request) -> Response:
    client = request.client
    return JSONResponse(
        {"base": str(request.base_url), "client": None if client is None else client.host}
    )


async def _ask(*proxies: str, client: str = PROXY, **headers: str) -> object:
    app = Starlette(routes=[Route("/", _show)], middleware=forwarded(proxies))
    transport = httpx.ASGITransport(app=app, client=(client, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway:8080") as http:
        told = {f"x-forwarded-{name}": value for name, value in headers.items()}
        return (await http.get("/", headers=told or TOLD)).json()


@pytest.mark.parametrize("proxies", [(PROXY,), ("10.0.0.0/8",), ("*",), ("192.0.2.1/32", "*")])
async def test_a_proxy_that_is_trusted_is_believed(proxies: tuple[str, ...]) -> None:
    """Who called, by which name and whether by TLS."""
    wanted = {"base": "https://images.example.com/", "client": "203.0.113.9"}
    assert wanted == await _ask(*proxies)


@pytest.mark.parametrize("proxies", [(), ("10.1.2.4",), ("192.0.2.0/24",)])
async def test_nobody_else_is(proxies: tuple[str, ...]) -> None:
    """Anybody can write these headers."""
    assert DIRECT == await _ask(*proxies)


async def test_a_caller_cannot_hide_behind_an_address_of_its_own_making() -> None:
    """The last address that is no proxy's counts: what stands before it, its caller wrote."""
    told = await _ask("10.0.0.0/8", **{"for": "198.51.100.1, 203.0.113.9, 10.9.9.9"})

    assert DIRECT | {"client": "203.0.113.9"} == told


@pytest.mark.parametrize("host", ["", "a b", "x/../y", "user@host", 'x"', "[::1", "a:b"])
async def test_what_is_no_host_becomes_part_of_no_link(host: str) -> None:
    """The name that was called by stays."""
    assert DIRECT == await _ask(PROXY, host=host)


async def test_of_several_names_the_first_is_what_the_caller_used() -> None:
    """Each proxy adds its own behind it."""
    told = await _ask(PROXY, host="images.example.com:8443, inner")

    assert DIRECT | {"base": "http://images.example.com:8443/"} == told
