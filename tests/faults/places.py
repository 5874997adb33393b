"""Places where faults are played: a store, an upstream, gateways, and what can be done to them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import trustme
from redis import Redis
from redis.crc import key_slot

from gateway.background import SystemClock
from tests.faults.play import Act
from tests.faults.stage import PATIENCE_S, TEAM, Stage, standing
from tests.support.stores import Cluster, Node, StoreMissingError, run_cluster
from tests.support.valkey import free_ports, run_on_port, run_valkey

#: A server that keeps what it acknowledged.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")

#: What the upstream refuses while a switch is on.
EMPTY, REVOKED = "the account is empty", "the key is revoked"
REFUSALS = (
    (EMPTY, "submit", "[[submit:insufficient_quota]]"),
    *(
        (REVOKED, call, f"[[{call}:unauthorized]]")
        for call in ("submit", "poll", "list", "batch", "credits")
    ),
)

#: Where no small disk can be made, pictures may take so much of the one there is, and so much is
#: taken away; others may use it meanwhile.
SPARE_MIB, FILL_MIB = 128, 384


@dataclass
class Plain:
    """A gateway on one server with a journal, whose store and upstream can be broken and mended."""

    stage: Stage
    folder: Path
    port: int
    running: ExitStack
    pid: int = 0

    def start(self) -> None:
        """Start the store, with what it has acknowledged before."""
        self.pid = self.running.enter_context(run_on_port(self.folder, self.port, DURABLE))

    def kill(self) -> None:
        """Kill the store."""
        os.kill(self.pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start the store again."""
        self.running.close()
        self.start()

    def set_memory(self, max_bytes: int) -> None:
        """Let the store have so much memory; all that there is by 0."""
        with Redis(port=self.port, socket_timeout=PATIENCE_S) as direct:
            direct.config_set("maxmemory", max_bytes)


@asynccontextmanager
async def plain(folder: Path) -> AsyncIterator[Plain]:
    """Run what most faults need, and nothing has been done to."""
    [port] = free_ports(1)
    how = {"submit_timeout": "1s", "server": 'deadline = "3s"'}
    with ExitStack() as running:
        made = Plain(None, folder / "store", port, running)  # type: ignore[arg-type] # in a moment
        made.start()
        url = f"redis://127.0.0.1:{port}"
        async with standing(folder, url, rules=REFUSALS, **how) as made.stage:
            yield made


@dataclass
class Clustered:
    """A gateway on a cluster, where the team's slot can be moved from node to node."""

    stage: Stage
    cluster: Cluster
    slot: int
    old: Node
    new: Node

    def move_slot(self) -> None:
        """Move the slot as a whole, as Valkey 9 does."""
        words = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", self.slot, self.slot)
        self.old.run(*words, "NODE", self.cluster.name_of(self.new))
        self.old, self.new = self.new, self.old

    def move_half(self) -> None:
        """Move every other key of the slot, as `redis-cli --cluster reshard` does."""
        old, new = (self.cluster.name_of(node) for node in (self.old, self.new))
        self.new.run("CLUSTER", "SETSLOT", self.slot, "IMPORTING", old)
        self.old.run("CLUSTER", "SETSLOT", self.slot, "MIGRATING", new)
        self._move(self._keys()[::2])

    def move_rest(self) -> None:
        """Move the other half, and tell everybody who has them now."""
        while keys := self._keys():
            self._move(keys)
        for node in sorted(self.cluster.nodes, key=lambda node: node is not self.new):
            node.run("CLUSTER", "SETSLOT", self.slot, "NODE", self.cluster.name_of(self.new))
        self.old, self.new = self.new, self.old

    def _keys(self) -> list[bytes]:
        found: Any = self.old.run("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)
        return sorted(found)

    def _move(self, keys: list[bytes]) -> None:
        self.old.run("MIGRATE", "127.0.0.1", self.new.port, "", 0, 10_000, "KEYS", *keys)


@asynccontextmanager
async def clustered(folder: Path) -> AsyncIterator[Clustered]:
    """Run a cluster of three and a gateway on it."""
    slot = key_slot(f"{{t:{TEAM}}}".encode())
    with run_cluster(folder / "store") as cluster:
        old = cluster.owner(slot)
        new = next(node for node in cluster.nodes if node is not old)
        async with standing(folder, cluster.url) as stage:
            yield Clustered(stage, cluster, slot, old, new)


@dataclass
class Certified:
    """A gateway whose upstream shows a certificate of an authority that it trusts, or another."""

    stage: Stage
    trusted: trustme.CA
    good: ssl.SSLContext

    @staticmethod
    def context(authority: trustme.CA, not_after: datetime | None = None) -> ssl.SSLContext:
        """Return what shows a certificate of an authority."""
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", not_after=not_after).configure_cert(made)
        return made

    async def show(self, context: ssl.SSLContext) -> None:
        """Show another certificate on every connection from now on."""
        await self.stage.front.close()
        await self.stage.front.open(context)


@asynccontextmanager
async def certified(folder: Path) -> AsyncIterator[Certified]:
    """Run a gateway that trusts one authority, whose certificate the upstream has."""
    trusted = trustme.CA()
    trusted.cert_pem.write_to_path(str(folder / "ca.pem"))
    good = Certified.context(trusted)
    sections = '[network]\nca_file = "ca.pem"'
    async with with_upstream(folder, tls=good, sections=sections) as stage:
        yield Certified(stage, trusted, good)


@dataclass
class Clocked:
    """A gateway whose time of day can be put ahead and back; its monotonic clock goes on."""

    stage: Stage
    clock: Path

    async def jump(self, ahead_s: int) -> None:
        """Put it so far ahead of ours, and see that it is."""
        set_clock(self.clock, ahead_s)
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(timeout=PATIENCE_S) as client:
            while abs(await self._ahead_s(client) - ahead_s) > 100:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)

    async def _ahead_s(self, client: httpx.AsyncClient) -> float:
        answer = await client.get(f"{self.stage.gateways[0].url}/models")
        told_s = parsedate_to_datetime(answer.headers["date"]).timestamp()
        return told_s - SystemClock().now_ms() / 1000


@asynccontextmanager
async def clocked(folder: Path) -> AsyncIterator[Clocked]:
    """Run a gateway on a clock of its own. Raises StoreMissingError."""
    clock = folder / "clock"
    async with with_upstream(folder, environ=faked(clock)) as stage:
        yield Clocked(stage, clock)


def faked(clock: Path) -> dict[str, str]:
    """Return the environment in which a process's time of day is what a file says."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise StoreMissingError("there is no libfaketime (apt install faketime)")
    set_clock(clock, 0)
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(clock: Path, ahead_s: int) -> None:
    """Say how far ahead of ours the clocks are that look into this file."""
    later = clock.with_suffix(".next")
    later.write_text(f"{ahead_s:+}")
    later.replace(clock)


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[str, Act]]:
    """Make a disk of a megabyte; yield how much room pictures must leave, and how it is filled.

    Where nobody may mount one, it is a folder that has to leave nearly all that is free.
    """
    folder.mkdir()
    ballast = folder / "ballast"
    mount, umount = shutil.which("mount"), shutil.which("umount")
    mounted = (
        bool(mount and umount)
        and not subprocess.run(
            [str(mount), "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder],
            check=False,
            stderr=subprocess.DEVNULL,
        ).returncode
    )
    free_mib = shutil.disk_usage(folder).free >> 20
    min_free = "64KiB" if mounted else f"{free_mib - SPARE_MIB}MiB"

    def fill() -> None:
        with suppress(OSError), ballast.open("wb", buffering=0) as target:
            if not mounted:
                os.posix_fallocate(target.fileno(), 0, FILL_MIB << 20)
            while mounted:
                target.write(bytes(4096))

    try:
        yield min_free, act(fill)
    finally:
        if mounted:
            subprocess.run([str(umount), "-l", folder], check=True)


@asynccontextmanager
async def with_upstream(folder: Path, **how: object) -> AsyncIterator[Stage]:
    """Run gateways on a store that nothing happens to."""
    with run_valkey(folder / "store") as store:
        async with standing(folder, store.url, **how) as stage:  # type: ignore[arg-type]
            yield stage


def act(do: Callable[[], object]) -> Act:
    """Return what does something that takes no time."""

    async def done() -> None:
        do()
        await asyncio.sleep(0)

    return done
