from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config.store_address import Endpoint
from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.topology import layout_of
from tests.support.stores import SERVICE, Node, Watched, run_watched
from tests.support.valkey import free_ports, run_on_port

FIRST, SECOND, ASKED = Endpoint("10.0.0.1", 7000), Endpoint("10.0.0.2", 7001), Endpoint("seed", 1)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Run a replicated pair with three Sentinels that leave it alone."""
    with run_watched(tmp_path_factory.mktemp("watched"), sentinels=3) as running:
        yield running


@contextmanager
def sentinel_naming(tmp_path: Path, primary: int, *, epoch: int) -> Iterator[int]:
    """Run a Sentinel that knows nobody else and holds this primary for the right one."""
    [port] = free_ports(1)
    settings = tmp_path / f"{port}.conf"
    settings.write_text(
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 1\n"
        f"sentinel config-epoch {SERVICE} {epoch}\n"
    )
    with run_on_port(tmp_path / str(port), port, (str(settings), "--sentinel")):
        yield port


def test_slots_belong_to_primaries() -> None:
    """Ranges with their replicas, as nodes tell them; an unknown host is the one that was asked."""
    layout = layout_of(
        [
            [0, 1, [b"10.0.0.1", 7000, b"id"], [b"10.0.0.9", 7009, b"id"]],
            [2, 2, [b"10.0.0.2", 7001, b"id", [b"hostname", b"two"]]],
            [3, 3, [None, 7002, b"id"]],
            [5, 5, [b"10.0.0.1", 7000, b"id"]],
        ],
        ASKED,
    )

    assert (FIRST, SECOND, Endpoint("seed", 7002)) == layout.primaries
    assert {0: FIRST, 1: FIRST, 2: SECOND, 3: Endpoint("seed", 7002), 5: FIRST} == layout.owners


async def test_the_primary_is_found_while_one_sentinel_answers(watched: Watched) -> None:
    """One is frozen, one is gone: the third is asked at the same time."""
    [nobody] = free_ports(1)
    frozen, _, lively = watched.sentinels
    hosts = f"127.0.0.1:{frozen.port},127.0.0.1:{nobody},127.0.0.1:{lively.port}"
    frozen.stop()
    try:
        async with Store(f"redis+sentinel://{hosts}/{SERVICE}", timeout_ms=1_000) as store:
            await store.command("SET", "written", "here")
    finally:
        frozen.cont()

    assert b"here" == watched.primary.run("GET", "written")


async def test_most_sentinels_are_enough(watched: Watched) -> None:
    """One that is frozen costs nothing while two of three answer."""
    watched.sentinels[1].stop()
    try:
        began_s = time.monotonic()
        async with Store(watched.url, timeout_ms=40_000) as store:  # ten seconds for each
            await store.ping()
        took_s = time.monotonic() - began_s
    finally:
        watched.sentinels[1].cont()

    assert took_s < 9.0


async def test_the_newest_configuration_counts(tmp_path: Path) -> None:
    """A Sentinel that was cut off still names the old primary; its epoch is lower."""
    with ExitStack() as held:
        old, new = (
            Node(port, held.enter_context(run_on_port(tmp_path / name, port, ())))
            for name, port in zip(("old", "new"), free_ports(2), strict=True)
        )
        ports = [
            held.enter_context(sentinel_naming(tmp_path, old.port, epoch=3)),
            held.enter_context(sentinel_naming(tmp_path, new.port, epoch=4)),
            held.enter_context(sentinel_naming(tmp_path, new.port, epoch=4)),
        ]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        async with Store(f"redis+sentinel://{hosts}/{SERVICE}", timeout_ms=2_000) as store:
            await store.command("SET", "written", "here")

        assert [None, b"here"] == [old.run("GET", "written"), new.run("GET", "written")]


@pytest.mark.parametrize("service", ["unknown", SERVICE])
async def test_nobody_who_knows_is_unavailable_and_told_once(
    watched: Watched, service: str
) -> None:
    """A service no Sentinel knows, or Sentinels that are not there; passwords are not told."""
    ports = [watched.sentinels[0].port] if service == "unknown" else free_ports(2)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    with capture_logs() as logs:
        async with Store(f"redis+sentinel://:hunter22@{hosts}/{service}", timeout_ms=500) as store:
            for _ in range(3):
                began_s = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await store.ping()
                assert time.monotonic() - began_s < 10.0

    assert ["store_not_found"] == [line["action"] for line in logs]
    assert all(str(port) in logs[0]["reason"] for port in ports)
    assert "hunter22" not in str(logs)


async def test_a_primary_that_was_replaced_is_left_while_it_still_answers(tmp_path: Path) -> None:
    """Sentinels demote an old primary that is alive some ten seconds late; we do not wait."""
    with run_watched(tmp_path) as watched:
        async with Store(watched.url, timeout_ms=2_000) as store:
            await store.command("SET", "turn", "before")
            watched.sentinels[0].run("SENTINEL", "FAILOVER", SERVICE)
            arrived = False
            for turn in range(100):
                with suppress(StoreUnavailable):
                    await store.command("SET", "turn", turn)
                arrived = (role_of(watched.replica), watched.replica.run("GET", "turn")) == (
                    "master",
                    str(turn).encode(),
                )
                if arrived:
                    break
                await asyncio.sleep(0.05)

        assert arrived
        assert "master" == role_of(watched.primary)


def role_of(node: Node) -> str:
    """Return what a server takes itself for."""
    [role, *_] = node.run("ROLE")  # type: ignore[misc]
    return role.decode()
