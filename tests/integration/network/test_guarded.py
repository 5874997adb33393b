from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import httpx
import pytest

from gateway.domain.destinations import parse_allowed
from gateway.network.clients import build_guarded_client, tls_context
from gateway.network.guard import DestinationRefusedError, Guard, SystemLookup
from gateway.network.guarded import GuardedConnector, GuardedResolver, RefusedError
from gateway.network.transport import NeverSentError, NoAnswerError
from tests.support.receiver import Names, make_authority, tls_server
from tests.support.sockets import answer, closed_port, raw_server, reset

BOTH = frozenset({"http", "https"})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen on all addresses of this machine, IPv4 and IPv6; nobody must ever come."""
    with ExitStack() as held:
        if socket.has_dualstack_ipv6():
            opened = socket.create_server(
                ("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=8
            )
        else:
            opened = socket.create_server(("", 0), backlog=8)
        held.enter_context(opened)
        opened.setblocking(False)
        yield opened


def nobody_came(listener: socket.socket) -> bool:
    """Tell whether no connection waits to be accepted."""
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return True
    connection.close()
    return False


def allowed(*texts: str, lookup: Names | SystemLookup | None = None) -> Guard:
    """Return a guard that lets these through, beside the public Internet; http too."""
    return Guard([parse_allowed(text) for text in texts], schemes=BOTH, lookup=lookup)


def own_address() -> str:
    """Return the address by which this machine would reach others, or a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        address: str = probe.getsockname()[0]
        return address


def test_the_listener_hears_whoever_comes(listener: socket.socket) -> None:
    """What the tests below rely on: each of these forms does lead to the listener."""
    port = listener.getsockname()[1]
    for host in ("127.0.0.1", "2130706433", "0177.1", "0x7f000001", "0.0.0.0", "localhost"):
        with socket.create_connection((host, port), timeout=1):
            assert not nobody_came(listener)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.0.2", "0.0.0.0", "0", "localhost"),
        *("LOCALHOST", "localhost.", "2130706433", "017700000001", "0x7f000001", "0x7f.1"),
        *("0177.0.0.1", "127.0.0.01", "127。0。0。1", "127.0.0.%31", "%31%32%37.0.0.1"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
        *("[0:0:0:0:0:0:0:1]", own_address()),
    ],
)
async def test_no_form_of_this_machine_is_connected_to(listener: socket.socket, host: str) -> None:
    """By the client alone, whatever was checked before: no form of a local address connects."""
    port = listener.getsockname()[1]
    for scheme in BOTH:
        async with build_guarded_client(Guard(schemes=BOTH)) as client:
            with pytest.raises((NeverSentError, httpx.InvalidURL)):
                await client.post(f"{scheme}://{host}:{port}/", content=b"{}")

    assert nobody_came(listener)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "127.1", "localhost"])
async def test_the_connector_refuses_by_itself(listener: socket.socket, host: str) -> None:
    """Also what the check before it would have read differently, and what no resolver is asked."""
    port = listener.getsockname()[1]
    connector = GuardedConnector(Guard(), tls_context(""))
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.post(f"http://{host}:{port}/")

    assert isinstance(caught.value.os_error, DestinationRefusedError)
    assert nobody_came(listener)


@pytest.mark.parametrize("found", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"])
async def test_a_name_that_changes_its_answer_is_refused(
    listener: socket.socket, found: str
) -> None:
    """Public when it was checked, local when it is called (rebinding): nothing connects."""
    names = Names({"hooks.example": [["93.184.215.14"], [found]]})
    guard = Guard(lookup=names)
    port = listener.getsockname()[1]
    await guard.resolve("hooks.example", port)

    async with build_guarded_client(guard) as client:
        with pytest.raises(RefusedError, match="not on the public Internet"):
            await client.post(f"https://hooks.example:{port}/", content=b"{}")

    assert ["hooks.example"] * 2 == names.asked
    assert nobody_came(listener)


async def test_the_address_that_was_checked_is_connected_to() -> None:
    """One lookup for a connection, and its answer is used; the next request asks anew."""
    names = Names({"hooks.internal": [["127.0.0.1"], ["127.0.0.1"], ["192.0.2.1"]]})
    async with (
        raw_server(answer()) as server,
        build_guarded_client(allowed("hooks.internal", lookup=names)) as client,
    ):
        for _ in range(2):
            response = await client.post(f"http://hooks.internal:{server.port}/", content=b"{}")
            assert 200 == response.status_code

    assert [f"hooks.internal:{server.port}"] * 2 == [
        seen.headers["host"] for seen in server.requests
    ]
    assert ["hooks.internal"] * 2 == names.asked
    assert 2 == server.connections


async def test_tls_asks_for_and_verifies_the_name(tmp_path: Path) -> None:
    """The connection goes to an address; the handshake, the certificate and Host are the name's."""
    authority = make_authority(tmp_path)
    names = Names({"hooks.internal": [["127.0.0.1"]], "other.internal": [["127.0.0.1"]]})
    guard = allowed("hooks.internal", "other.internal", lookup=names)
    async with (
        tls_server(authority, answer(), "hooks.internal") as server,
        build_guarded_client(guard, ca_file=authority.ca_file) as client,
    ):
        port = server.seen.port
        response = await client.post(f"https://hooks.internal:{port}/in?a=b", content=b"{}")
        with pytest.raises(NeverSentError, match="ClientConnectorCertificateError"):
            await client.post(f"https://other.internal:{port}/", content=b"{}")

    assert 200 == response.status_code
    assert ["hooks.internal", "other.internal"] == server.asked_names
    assert [("/in?a=b", f"hooks.internal:{port}")] == [
        (seen.target, seen.headers["host"]) for seen in server.seen.requests
    ]


async def test_what_the_url_says_is_checked_for_every_request() -> None:
    """Another scheme, or credentials, are refused by the client too, before any lookup."""
    names = Names({"hooks.example": [["127.0.0.1"]]})
    async with build_guarded_client(Guard(lookup=names)) as client:
        for url in ("http://hooks.example/", "https://user@hooks.example/"):
            with pytest.raises(RefusedError):
                await client.post(url, content=b"{}")

    assert [] == names.asked


async def test_redirects_are_not_followed() -> None:
    """The answer is handed back and the next host never hears of us."""
    async with raw_server(answer()) as other:
        away = answer(307, headers={"Location": other.url})
        async with (
            raw_server(away) as server,
            build_guarded_client(allowed("127.0.0.1")) as client,
        ):
            response = await client.post(server.url, content=b"{}")

    assert 307 == response.status_code
    assert 0 == other.connections


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_every_hop_that_is_followed_is_checked(scheme: str) -> None:
    """With redirects allowed, one to a forbidden place is refused there."""
    async with raw_server(answer()) as inside:
        away = answer(302, headers={"Location": f"{scheme}://localhost:{inside.port}/"})
        async with (
            raw_server(away) as server,
            build_guarded_client(allowed(server.host), max_redirects=3) as client,
        ):
            with pytest.raises(RefusedError):
                await client.get(server.url)

    assert 0 == inside.connections


async def test_allowed_hops_are_followed_up_to_the_limit() -> None:
    """One redirect to an allowed place is followed; a loop ends."""
    async with raw_server(answer(body=b"there")) as other:
        away = answer(302, headers={"Location": other.url})
        async with (
            raw_server(away) as server,
            build_guarded_client(allowed("127.0.0.1"), max_redirects=1) as client,
        ):
            response = await client.get(server.url)
    async with (
        raw_server(answer(302, headers={"Location": "/"})) as loop,
        build_guarded_client(allowed("127.0.0.1"), max_redirects=2) as client,
    ):
        with pytest.raises(httpx.TooManyRedirects):
            await client.get(loop.url)

    assert b"there" == response.content
    assert 3 == loop.connections


async def test_a_proxy_of_the_environment_does_not_get_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the proxy nor the forbidden place is spoken to."""
    async with raw_server(answer()) as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        async with build_guarded_client(Guard(schemes=BOTH)) as client:
            with pytest.raises(RefusedError):
                await client.get("http://10.0.0.1/")

    assert 0 == proxy.connections


async def test_failures_keep_their_meaning() -> None:
    """Nothing listening, and no such name, were never sent; a reset may have been read."""
    async with (
        raw_server(reset) as server,
        build_guarded_client(allowed("127.0.0.1", lookup=Names({}))) as client,
    ):
        for url in (f"http://127.0.0.1:{closed_port()}/", "https://unknown.example/"):
            with pytest.raises(NeverSentError) as caught:
                await client.post(url, content=b"{}")
            assert not isinstance(caught.value, RefusedError)
        with pytest.raises(NoAnswerError):
            await client.post(server.url, content=b"{}")


async def test_the_resolver_answers_numbers_only() -> None:
    """What is handed to aiohttp needs no further lookup, whichever family it is."""
    names = Names({"hooks.example": [["2606:4700::1111", "93.184.215.14"]]})
    found = await GuardedResolver(Guard(lookup=names)).resolve("hooks.example", 443)

    assert [socket.AF_INET6, socket.AF_INET] == [entry["family"] for entry in found]
    assert ["2606:4700::1111", "93.184.215.14"] == [entry["host"] for entry in found]
    assert all(entry["flags"] & socket.AI_NUMERICHOST for entry in found)
    with pytest.raises(DestinationRefusedError):
        await GuardedResolver(Guard(lookup=names)).resolve("127.0.0.1", 443)


async def test_closing_leaves_nothing_open() -> None:
    """A closed client, used or not, leaves no session behind (warnings are errors here)."""
    async with raw_server(answer()) as server:
        unused, used = (build_guarded_client(allowed("127.0.0.1")) for _ in range(2))
        await used.get(server.url)
        await used.aclose()
        await unused.aclose()
        del unused, used
        gc.collect()

    assert 1 == server.connections
