import gc
import logging
from collections.abc import Callable

import httpx
import pytest

from gateway.network.clients import build_fetch_client, build_poll_client, build_submit_client
from tests.support.sockets import answer, closed_port, in_turn, raw_server

BUILDERS = [build_submit_client, build_poll_client, build_fetch_client]
Builder = Callable[..., httpx.AsyncClient]


@pytest.mark.parametrize("build", BUILDERS)
async def test_a_redirect_is_handed_back(build: Builder) -> None:
    """No client follows a redirect: the next host never hears of us."""
    async with raw_server(answer()) as other:
        away = answer(302, headers={"Location": other.url})
        async with raw_server(away) as server, build() as client:
            response = await client.get(server.url, headers={"authorization": "Bearer secret"})

    assert response.status_code == 302
    assert other.connections == 0


@pytest.mark.parametrize("build", BUILDERS)
async def test_cookies_are_not_kept(build: Builder) -> None:
    """An upstream's cookie is not sent back to it."""
    sets = answer(headers={"Set-Cookie": "session=1; Path=/"})
    async with raw_server(sets) as server, build() as client:
        # By name: aiohttp's own jar ignores cookies of bare addresses.
        await client.get(f"http://localhost:{server.port}")
        await client.get(f"http://localhost:{server.port}")

    assert "cookie" not in server.requests[1].headers


@pytest.mark.parametrize("build", BUILDERS)
async def test_answers_are_asked_for_uncompressed(build: Builder) -> None:
    """What is read within a limit must not unpack into more."""
    async with raw_server(answer()) as server, build() as client:
        await client.get(server.url)

    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("build", BUILDERS)
async def test_proxies_of_the_environment_are_ignored(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the configured proxy counts."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    async with raw_server(answer()) as server, build() as client:
        response = await client.get(server.url)

    assert response.status_code == 200


@pytest.mark.parametrize("build", BUILDERS)
async def test_the_configured_proxy_gets_its_credentials(build: Builder) -> None:
    """The proxy of an http URL gets the whole URL and the user of its own setting."""
    async with raw_server(answer()) as proxy:
        setting = f"http://user:pass@{proxy.host}"
        async with build(proxy=setting) as client:
            await client.get("http://api.example/task", headers={"authorization": "Bearer key"})

    seen = proxy.requests[0]
    assert seen.target == "http://api.example/task"
    assert seen.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert seen.headers["authorization"] == "Bearer key"


async def test_a_tunnel_gets_the_proxy_credentials_and_not_our_key() -> None:
    """For an https URL the proxy hears host, port and its own user, and nothing else."""
    async with (
        raw_server(answer(407)) as proxy,
        build_submit_client(proxy=f"http://user:pass@{proxy.host}") as client,
    ):
        with pytest.raises(httpx.TransportError):
            await client.post("https://api.example/pay", headers={"authorization": "Bearer k"})

    seen = proxy.requests[0]
    assert (seen.method, seen.target) == ("CONNECT", "api.example:443")
    assert seen.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert "authorization" not in seen.headers


async def test_urls_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither httpx nor aiohttp prints a URL with its query at INFO."""
    caplog.set_level(logging.INFO)
    async with raw_server(answer()) as server, build_poll_client() as client:
        await client.get(f"{server.url}/?token=secret")

    assert "secret" not in caplog.text


@pytest.mark.parametrize("build", BUILDERS)
async def test_closing_leaves_nothing_open(build: Builder) -> None:
    """A closed client, used or not, leaves no session behind (warnings are errors here)."""
    async with raw_server(in_turn(answer())) as server:
        unused, used = build(), build()
        await used.get(server.url)
        await used.aclose()
        await unused.aclose()
        del unused, used
        gc.collect()

    assert server.connections == 1
