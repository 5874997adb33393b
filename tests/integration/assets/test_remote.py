"""Pictures by address: from where a guard lets them come, and from nowhere else."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.assets.remote import MAX_REDIRECTS, CannotFetchError, RemoteLimits, RemotePictures
from gateway.assets.spool import Spool
from gateway.domain.destinations import parse_allowed
from gateway.network.clients import build_guarded_client
from gateway.network.guard import Guard, Lookup
from tests.support.receiver import Names
from tests.support.sockets import answer, closed_port, raw, raw_server, reset, silent

BOTH = frozenset({"http", "https"})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen on every address of this machine; nobody must ever come."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=dual) as opened:
        opened.setblocking(False)
        yield opened


def nobody_came(listener: socket.socket) -> bool:
    """Tell whether no connection waits to be accepted."""
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return True
    return False


@asynccontextmanager
async def remote(
    *allowed: str, lookup: Lookup | None = None, max_bytes: int = 1000
) -> AsyncIterator[RemotePictures]:
    """Fetch from the public Internet, and from what is allowed."""
    guard = Guard([parse_allowed(text) for text in allowed], schemes=BOTH, lookup=lookup)
    async with build_guarded_client(guard, max_redirects=MAX_REDIRECTS) as client:
        yield RemotePictures(client, guard, RemoteLimits(max_bytes, total_timeout_s=1.0))


async def fetch(pictures: RemotePictures, url: str, folder: Path) -> bytes:
    """Return what is behind an address."""
    with Spool(folder) as spool:
        file = await pictures.fetch(url, spool)
        return b"".join([chunk async for chunk in file.chunks()])


def redirect(to: str) -> bytes:
    """Return an answer that leads elsewhere."""
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


async def test_a_picture_is_fetched(tmp_path: Path) -> None:
    """Whole, from the address that was checked, without anything of ours."""
    async with raw_server(answer(200, b"picture")) as server, remote(server.host) as pictures:
        assert b"picture" == await fetch(pictures, f"{server.url}/a.png?b=1", tmp_path)

    [seen] = server.requests
    assert ("GET", "/a.png?b=1", "image/*") == (seen.method, seen.target, seen.headers["accept"])
    assert not {"authorization", "cookie", "referer"} & set(seen.headers)


#: What leads to this machine or its networks, in every way of writing an address.
PRIVATE: Sequence[str] = (
    *("127.0.0.1", "127.1", "127.0.0.2", "0.0.0.0", "0", "localhost", "LOCALHOST.", "2130706433"),
    *("017700000001", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.01", "127。0。0。1"),
    *("%31%32%37.0.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[::127.0.0.1]", "[0:0:0:0:0:0:0:1]", "[fe80::1]", "[fd00::1]", "[2002:7f00:1::]"),
    *("[64:ff9b::7f00:1]", "10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.0.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    *("224.0.0.1", "255.255.255.255", "198.18.0.1", "user@127.0.0.1", "127.0.0.1#@example.com"),
)


@pytest.mark.parametrize("host", PRIVATE)
async def test_no_form_of_a_private_address_is_connected_to(
    listener: socket.socket, tmp_path: Path, host: str
) -> None:
    """As it is written, and as what another server redirects to."""
    port = listener.getsockname()[1]
    host, _, fragment = host.partition("#")
    url = f"http://{host}:{port}/a.png" + (f"#{fragment}" if fragment else "")
    async with (
        raw_server(raw(redirect(url))) as server,
        remote(server.host) as pictures,
    ):
        for asked in (url, f"{server.url}/a.png"):
            with pytest.raises(CannotFetchError):
                await fetch(pictures, asked, tmp_path)

    assert 1 == server.connections
    assert nobody_came(listener)


@pytest.mark.parametrize("found", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "0.0.0.0"])
async def test_a_name_that_changes_its_answer(
    listener: socket.socket, tmp_path: Path, found: str
) -> None:
    """Public for whoever asks first, private for the connection: nothing connects."""
    port = listener.getsockname()[1]
    names = Names({"pictures.example": [["93.184.215.14"], [found]]})
    async with remote(lookup=names) as pictures:
        await names("pictures.example")
        with pytest.raises(CannotFetchError, match="public Internet"):
            await fetch(pictures, f"http://pictures.example:{port}/a.png", tmp_path)

    assert 2 == len(names.asked)
    assert nobody_came(listener)


async def test_redirects_are_followed_so_far(tmp_path: Path) -> None:
    """A few to where it is allowed; a circle ends, and so does one to another scheme."""
    async with (
        raw_server(answer(200, b"picture")) as last,
        raw_server(raw(redirect(f"{last.url}/b.png"))) as first,
        remote(first.host, last.host) as pictures,
    ):
        assert b"picture" == await fetch(pictures, f"{first.url}/a.png", tmp_path)
    async with raw_server(raw(redirect("/a.png"))) as circle, remote(circle.host) as pictures:
        with pytest.raises(CannotFetchError, match="too often"):
            await fetch(pictures, f"{circle.url}/a.png", tmp_path)
    assert MAX_REDIRECTS + 1 == circle.connections
    async with raw_server(raw(redirect("file:///etc/passwd"))) as away, remote(away.host) as found:
        with pytest.raises(CannotFetchError):
            await fetch(found, f"{away.url}/a.png", tmp_path)


@pytest.mark.parametrize("url", ["ftp://a.example/a", "http:///a", "http://a b/", "data:,", ""])
async def test_what_is_no_address(tmp_path: Path, url: str) -> None:
    """Refused as it is written; nothing is looked up."""
    names = Names({})
    async with remote(lookup=names) as pictures:
        with pytest.raises(CannotFetchError):
            pictures.check(url)
        with pytest.raises(CannotFetchError):
            await fetch(pictures, url, tmp_path)
    assert [] == names.asked


async def test_what_is_too_large_or_never_comes(tmp_path: Path) -> None:
    """Bounded in bytes, told or not, and in time; the reason is for the client."""
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001)
    for script, reason in (
        (answer(200, bytes(1001)), "larger"),
        (raw(endless), "larger"),
        (answer(404, b""), "404"),
        (silent, "in time"),
        (reset, "did not answer"),
        (raw(b"nonsense\r\n\r\n"), "answer"),
    ):
        async with raw_server(script) as server, remote(server.host) as pictures:
            with pytest.raises(CannotFetchError, match=reason) as caught:
                await fetch(pictures, f"{server.url}/a.png?token=secret", tmp_path)
        assert "secret" not in str(caught.value)
    async with remote("127.0.0.1") as pictures:
        with pytest.raises(CannotFetchError, match="did not answer"):
            await fetch(pictures, f"http://127.0.0.1:{closed_port()}/a", tmp_path)
    assert [] == [*tmp_path.iterdir()]
