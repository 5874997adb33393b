from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from gateway.store.scripts import Script
from tests.support.stores import Node, run_watched
from tests.support.valkey import free_ports, run_on_port

WITHIN_MS = 300

COUNT = Script("count", "return redis.call('INCR', KEYS[1])")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    """Run a server that lets in one user, and everybody else with another password."""
    [port] = free_ports(1)
    with run_on_port(tmp_path, port, ()) as pid:
        node = Node(port, pid)
        node.run("ACL", "SETUSER", "gateway", "on", ">p@ss/word", "~*", "+@all")
        node.run("CONFIG", "SET", "requirepass", "everybody")
        yield node


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate for localhost, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def tls_port(redis7: Path, certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[int]:
    """Run a server that also listens with TLS."""
    plain, tls = free_ports(2)
    files = ("--tls-cert-file", str(certificate[0]), "--tls-key-file", str(certificate[1]))
    words = ("--tls-port", str(tls), *files, "--tls-auth-clients", "no")
    with run_on_port(tmp_path, plain, words, binary=redis7):
        yield tls


@pytest.mark.parametrize("login", ["gateway:p%40ss%2Fword", ":everybody"])
async def test_users_and_passwords_let_in(server: Node, login: str) -> None:
    """With a user name or without, as they are written in an address."""
    async with Store(f"redis://{login}@127.0.0.1:{server.port}", timeout_ms=2_000) as store:
        await store.ping()


@pytest.mark.parametrize("login", ["", "gateway:everybody@", ":wrong@"])
async def test_anybody_else_finds_it_unavailable(server: Node, login: str) -> None:
    """A server that does not let us in is like one that is not there."""
    async with Store(f"redis://{login}127.0.0.1:{server.port}", timeout_ms=2_000) as store:
        with pytest.raises(StoreUnavailable):
            await store.ping()


async def test_the_database_is_the_one_of_the_address(server: Node) -> None:
    """Two databases of one server do not see each other."""
    url = f"redis://:everybody@127.0.0.1:{server.port}"
    async with Store(f"{url}/3", timeout_ms=2_000) as three, Store(url, timeout_ms=2_000) as zero:
        await three.command("SET", "n", 1)

        assert (b"1", None) == (await three.command("GET", "n"), await zero.command("GET", "n"))


async def test_certificates_are_checked(tls_port: int, certificate: tuple[Path, Path]) -> None:
    """A server must show a certificate for its very name, from an authority that is trusted."""
    trust = f"ssl_ca_certs={certificate[0]}"
    fit = [
        f"localhost:{tls_port}?{trust}",
        f"127.0.0.1:{tls_port}?{trust}&ssl_check_hostname=false",
    ]
    unfit = [f"localhost:{tls_port}", f"127.0.0.1:{tls_port}?{trust}"]
    for place in fit:
        async with Store(f"rediss://{place}", timeout_ms=2_000) as store:
            await store.ping()
    for place in unfit:
        async with Store(f"rediss://{place}", timeout_ms=2_000) as store:
            with pytest.raises(StoreUnavailable):
                await store.ping()


async def test_a_script_whose_answer_is_lost_is_not_repeated(server: Node) -> None:
    """The connection breaks after the server has run it: that is for the caller to know."""

    async def lose_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server.port)
        while asked := await reader.read(65_536):
            far_writer.write(asked)
            answer = await far_reader.read(65_536)
            if b"EVAL" in asked:
                break
            writer.write(answer)
        far_writer.close()
        writer.close()

    direct = f"redis://:everybody@127.0.0.1:{server.port}"
    proxy = await asyncio.start_server(lose_answers, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with Store(direct, timeout_ms=2_000) as store:
        await store.run(COUNT, ["known by now"], [])
        async with proxy, Store(f"redis://:everybody@127.0.0.1:{port}", timeout_ms=2_000) as cut:
            with pytest.raises(StoreUnavailable):
                await cut.run(COUNT, ["n"], [])

        assert b"1" == await store.command("GET", "n")


async def test_at_most_so_many_connections(server: Node) -> None:
    """Callers beyond the limit wait for a connection to come free; each command runs once."""
    url = f"redis://:everybody@127.0.0.1:{server.port}"
    async with (
        Store(url, timeout_ms=5_000, max_connections=2) as store,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(50):
            group.create_task(store.command("INCR", "n"))
    async with Store(url, timeout_ms=2_000) as store:
        [stats] = await store.command_everywhere("INFO", "stats")

        assert b"50" == await store.command("GET", "n")
        assert stats["total_connections_received"] < 10  # type: ignore[index, call-overload, operator]


@pytest.mark.parametrize("on_disk", [False, True], ids=["known", "on disk"])
async def test_what_replicas_must_know_waits_for_them(tmp_path: Path, on_disk: bool) -> None:
    """A script that no replica has acknowledged has run, and is not answered for; repeated, it is.

    Both in one round trip on one connection, the first time too, when the server does not know
    the script yet.
    """

    async def acknowledged(store: Store) -> object:
        # The replica has to have copied the file first, and to have caught up.
        while True:
            with suppress(StoreUnavailable):
                return await store.run(COUNT, ["counted"], [], acknowledgement=asked)

    asked = Acknowledgement(replicas=1, within_ms=WITHIN_MS, on_disk=on_disk)
    with run_watched(tmp_path) as watched:
        for node in (watched.primary, watched.replica):
            node.run("CONFIG", "SET", "appendfsync", "always", "appendonly", "yes")
        url = f"redis://127.0.0.1:{watched.primary.port}"
        async with Store(url, timeout_ms=2_000) as store, asyncio.timeout(30):
            first = await acknowledged(store)
            watched.replica.stop()
            try:
                with pytest.raises(StoreUnavailable):
                    await store.run(COUNT, ["counted"], [], acknowledgement=asked)
                unheard = await store.command("GET", "counted")
            finally:
                watched.replica.cont()
            last = await acknowledged(store)
            known = watched.replica.run("GET", "counted")
            doubts = store.doubts

    assert isinstance(first, int)
    assert isinstance(last, int)
    assert str(first + 1).encode() == unheard
    assert last >= first + 2
    assert str(last).encode() == known
    assert 0 == doubts
