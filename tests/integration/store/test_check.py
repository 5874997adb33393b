from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config.problems import ConfigError
from gateway.domain.errors import StoreUnavailable
from gateway.store.check import check_server, check_when_reachable
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from tests.support.stores import Cluster, Node, run_cluster
from tests.support.valkey import free_ports, run_on_port

FIT = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    """Run a server as it should be."""
    [port] = free_ports(1)
    with run_on_port(tmp_path, port, FIT) as pid:
        yield Node(port, pid)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster of three."""
    with run_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


async def checked(url: str) -> list[str]:
    """Check a store; return what was warned of."""
    with capture_logs() as logs:
        async with Store(url, timeout_ms=2_000) as store:
            await check_server(store)
    return [line["action"] for line in logs]


async def refusal(url: str) -> str:
    """Check a store that must be refused; return why."""
    with pytest.raises(ConfigError) as refused:
        await checked(url)
    return str(refused.value)


async def test_a_fit_server_is_taken_without_a_word(server: Node) -> None:
    """It appends what it is told to a file, and never forgets on purpose."""
    assert [] == await checked(f"redis://127.0.0.1:{server.port}")


async def test_a_server_that_evicts_is_refused(server: Node) -> None:
    """Even without a limit of memory: somebody will set one."""
    server.run("CONFIG", "SET", "maxmemory-policy", "volatile-lru")

    assert "noeviction; this one has volatile-lru" in await refusal(
        f"redis://127.0.0.1:{server.port}"
    )


async def test_a_server_without_a_journal_is_warned_of(server: Node) -> None:
    """It may be what somebody wants; it is no promise of ours any more."""
    server.run("CONFIG", "SET", "appendonly", "no")

    assert ["store_without_aof"] == await checked(f"redis://127.0.0.1:{server.port}")


async def test_a_wrong_password_is_refused_and_not_told(server: Node) -> None:
    """Nobody has to guess why the store is unavailable."""
    server.run("CONFIG", "SET", "requirepass", "right")
    text = await refusal(f"redis://:hunter22@127.0.0.1:{server.port}")

    assert "redis.url: the server refuses this user name and password" == text
    assert [] == await checked(f"redis://:right@127.0.0.1:{server.port}")


async def test_what_must_acknowledge_orders_is_asked_for(server: Node) -> None:
    """Replicas may come later, which is told; a file that is not written never does."""
    url = f"redis://127.0.0.1:{server.port}"
    with capture_logs() as logs:
        async with Store(url, timeout_ms=2_000) as store:
            await check_server(store, Acknowledgement(replicas=1, within_ms=100))
            server.run("CONFIG", "SET", "appendonly", "no")
            with pytest.raises(ConfigError, match="appendonly yes"):
                await check_server(store, Acknowledgement(0, within_ms=100, on_disk=True))

    assert "0 of 1 replicas are there" in logs[0]["reason"]


async def test_redis_7_0_cannot_say_what_is_on_disk(tmp_path: Path, redis7: Path) -> None:
    """It has no WAITAOF."""
    [port] = free_ports(1)
    with run_on_port(tmp_path, port, FIT, binary=redis7):
        async with Store(f"redis://127.0.0.1:{port}", timeout_ms=2_000) as store:
            with pytest.raises(ConfigError, match=r"needs Valkey, or Redis 7\.2"):
                await check_server(store, Acknowledgement(0, within_ms=100, on_disk=True))


async def test_a_server_that_may_not_be_asked_is_warned_of(server: Node) -> None:
    """Managed servers forbid some commands; that is no reason not to start."""
    server.run("ACL", "SETUSER", "default", "-info")

    assert ["store_unchecked"] == await checked(f"redis://127.0.0.1:{server.port}")


async def test_a_node_of_a_cluster_wants_its_scheme(cluster: Cluster) -> None:
    """Calls to it would be redirected, and fail."""
    assert "redis+cluster://" in await refusal(f"redis://127.0.0.1:{cluster.nodes[0].port}")


async def test_every_node_of_a_cluster_is_checked(cluster: Cluster) -> None:
    """One that evicts is enough to lose money, and is told once."""
    for node in cluster.nodes[1:]:
        node.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    text = await refusal(cluster.url)
    for node in cluster.nodes[1:]:
        node.run("CONFIG", "SET", "maxmemory-policy", "noeviction")

    assert 1 == text.count("allkeys-lru")
    assert ["store_without_aof"] * 3 == await checked(cluster.url)


async def test_a_store_that_comes_later_is_checked_then(tmp_path: Path) -> None:
    """A gateway may start before its store, which is refused as soon as it can be asked."""
    [port] = free_ports(1)
    async with Store(f"redis://127.0.0.1:{port}", timeout_ms=500) as store:
        with pytest.raises(StoreUnavailable):
            await check_server(store)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            refused = group.create_task(_refused(store))
            await asyncio.sleep(0.1)
            with run_on_port(tmp_path, port, ("--maxmemory-policy", "allkeys-lru")):
                text = await refused

    assert "allkeys-lru" in text


async def _refused(store: Store) -> str:
    with pytest.raises(ConfigError) as refused:
        await check_when_reachable(store, again_s=0.05)
    return str(refused.value)
