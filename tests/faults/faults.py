"""The faults: each with the processes it needs, how it begins and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trustme
from redis import Redis
from redis.crc import key_slot

from gateway.background import SystemClock
from gateway.store.client import Store
from gateway.store.embedded import find_binary
from tests.faults.play import Act, Fault, On, Scene
from tests.faults.stage import PATIENCE_S, TEAM, Stage, standing
from tests.support.gateway import ENVIRON, start_gateway
from tests.support.stores import Cluster, StoreMissingError, run_cluster, run_watched
from tests.support.valkey import OPTIONS, free_ports, run_on_port, run_valkey

#: A server that keeps what it acknowledged.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")

AWAY = frozenset({"503 ledger_unavailable"})
NO_UPSTREAM = frozenset({"503 upstream_unavailable"})
PICTURE = frozenset({"200"})

#: What the upstream refuses while a switch is on.
EMPTY, REVOKED = "the account is empty", "the key is revoked"
REFUSALS = (
    (EMPTY, "submit", "[[submit:insufficient_quota]]"),
    *(
        (REVOKED, call, f"[[{call}:unauthorized]]")
        for call in ("submit", "poll", "list", "batch", "credits")
    ),
)

#: How many file descriptors a gateway has when they are few.
DESCRIPTORS = 256

#: Where no small disk can be made, pictures may take so much of the one there is.
SPARE_MIB = 96


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


def store_down(here: Plain) -> Scene:
    """Kill the store; start it again from its journal."""
    return Scene(here.stage, _act(here.kill), _act(here.restart))


def store_frozen(here: Plain) -> Scene:
    """Stop the store's process, and let it go on."""
    stop, cont = (partial(os.kill, here.pid, one) for one in (signal.SIGSTOP, signal.SIGCONT))
    return Scene(here.stage, _act(stop), _act(cont))


def store_full(here: Plain) -> Scene:
    """Leave the store no memory, and give it back."""
    return Scene(here.stage, _act(partial(here.set_memory, 1)), _act(partial(here.set_memory, 0)))


@asynccontextmanager
async def store_failed_over(folder: Path) -> AsyncIterator[Scene]:
    """Kill the primary; Sentinels promote its replica."""
    with run_watched(folder / "store", down_after_ms=1_000, sentinels=1) as watched:
        async with standing(folder, watched.url) as stage:
            yield Scene(stage, _act(watched.primary.kill))


@asynccontextmanager
async def store_resharded(folder: Path) -> AsyncIterator[Scene]:
    """Move the team's slot to another node under way."""
    with run_cluster(folder / "store") as cluster:
        async with standing(folder, cluster.url) as stage:
            yield Scene(stage, _act(partial(_move_slot, cluster)))


@asynccontextmanager
async def store_resharded_by_key(folder: Path) -> AsyncIterator[Scene]:
    """Move the team's slot key by key, and stand still half-way."""
    with run_cluster(folder / "store") as cluster:
        async with standing(folder, cluster.url) as stage:
            move = _ByKey(cluster)
            yield Scene(stage, _act(move.begin), _act(move.end))


class _ByKey:
    """The way of `redis-cli --cluster reshard`, in two halves."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._slot = key_slot(f"{{t:{TEAM}}}".encode())
        self._old = cluster.owner(self._slot)
        self._new = next(node for node in cluster.nodes if node is not self._old)

    def begin(self) -> None:
        names = [self._cluster.name_of(node) for node in (self._old, self._new)]
        self._new.run("CLUSTER", "SETSLOT", self._slot, "IMPORTING", names[0])
        self._old.run("CLUSTER", "SETSLOT", self._slot, "MIGRATING", names[1])
        self._move(self._keys()[::2])

    def end(self) -> None:
        while keys := self._keys():
            self._move(keys)
        for node in sorted(self._cluster.nodes, key=lambda node: node is not self._new):
            node.run("CLUSTER", "SETSLOT", self._slot, "NODE", self._cluster.name_of(self._new))

    def _keys(self) -> list[bytes]:
        found: Any = self._old.run("CLUSTER", "GETKEYSINSLOT", self._slot, 1000)
        return sorted(found)

    def _move(self, keys: list[bytes]) -> None:
        self._old.run("MIGRATE", "127.0.0.1", self._new.port, "", 0, 10_000, "KEYS", *keys)


def _move_slot(cluster: Cluster) -> None:
    slot = key_slot(f"{{t:{TEAM}}}".encode())
    old = cluster.owner(slot)
    new = next(node for node in cluster.nodes if node is not old)
    old.run("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.name_of(new))


def upstream_down(here: Plain) -> Scene:
    """Let nothing listen where the upstream was."""
    return Scene(here.stage, here.stage.front.close, here.stage.front.open)


def upstream_silent(here: Plain) -> Scene:
    """Let the upstream take connections and answer nothing."""
    front = here.stage.front

    async def begin() -> None:
        front.silent = True

    async def end() -> None:
        front.silent = False
        await front.close()
        await front.open()

    return Scene(here.stage, begin, end)


def upstream_out_of_credits(here: Plain) -> Scene:
    """Let the account be empty for a while."""
    return _refusing(here.stage, EMPTY)


def upstream_key_revoked(here: Plain) -> Scene:
    """Let the upstream refuse our key, whatever it is asked."""
    return _refusing(here.stage, REVOKED)


@asynccontextmanager
async def upstream_slow(folder: Path) -> AsyncIterator[Scene]:
    """Let pictures take longer than a call waits."""
    async with _with_upstream(folder, wait="2500ms") as stage:
        yield Scene(stage, _act(lambda: None), markers="[[latency:5]]")


@asynccontextmanager
async def certificate_expired(folder: Path) -> AsyncIterator[Scene]:
    """Let the upstream show a certificate that is over since yesterday."""
    yesterday = datetime.now(UTC) - timedelta(days=1)  # noqa: TID251 - certificates have dates
    async with _with_certificates(folder, expires=yesterday) as scene:
        yield scene


@asynccontextmanager
async def certificate_unknown(folder: Path) -> AsyncIterator[Scene]:
    """Let the upstream show a certificate of an authority that nobody trusts."""
    async with _with_certificates(folder, authority=trustme.CA()) as scene:
        yield scene


@asynccontextmanager
async def own_certificate_bad(folder: Path) -> AsyncIterator[Scene]:
    """Overwrite the gateway's own certificate and key; a second gateway is not started on them."""
    authority = trustme.CA()
    cert, key = folder / "cert.pem", folder / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    good = cert.read_bytes()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    server = 'tls_cert = "cert.pem"\ntls_key = "key.pem"'
    async with _with_upstream(folder, server=server, trust=trust) as stage:

        async def begin() -> None:
            cert.write_text("no certificate")
            process = await start_gateway(folder / "config.toml", **ENVIRON)
            _, told = await process.communicate()
            assert process.returncode == 1, told
            assert b"server.tls_cert and server.tls_key cannot be used" in told, told

        yield Scene(stage, begin, _act(partial(cert.write_bytes, good)))


@asynccontextmanager
async def gateway_clock_ahead(folder: Path) -> AsyncIterator[Scene]:
    """Put a gateway's time of day an hour ahead, and back."""
    async with _with_clock(folder, "+3600") as scene:
        yield scene


@asynccontextmanager
async def gateway_clock_behind(folder: Path) -> AsyncIterator[Scene]:
    """Put a gateway's time of day an hour back, and right again."""
    async with _with_clock(folder, "-3600") as scene:
        yield scene


@asynccontextmanager
async def store_clock_ahead(folder: Path) -> AsyncIterator[Scene]:
    """Put the store's time of day an hour ahead, and back."""
    clock = folder / "clock"
    clock.write_text("+0")
    faked = folder / "valkey-faked"
    words = " ".join(f"{name}={value}" for name, value in _faked(clock).items())
    faked.write_text(f'#!/bin/sh\nexec env {words} {find_binary()} "$@"\n')
    faked.chmod(0o755)
    with run_valkey(folder / "store", binary=faked) as store:
        async with standing(folder, store.url) as stage:

            async def begin() -> None:
                _jump(clock, "+3600")
                async with Store(store.url, timeout_ms=15_000) as direct:
                    told: Any = await direct.command("TIME")
                ahead_s = int(told[0]) - SystemClock().now_ms() / 1000
                assert 3_500 < ahead_s < 3_700, ahead_s

            yield Scene(stage, begin, _act(partial(_jump, clock, "+0")))


@asynccontextmanager
async def _with_clock(folder: Path, to: str) -> AsyncIterator[Scene]:
    clock = folder / "clock"
    clock.write_text("+0")
    async with _with_upstream(folder, environ=_faked(clock)) as stage:

        async def begin() -> None:
            _jump(clock, to)
            async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
                for _ in range(3):  # it looks at the clock once in a second
                    answer = await client.get(f"{stage.gateways[0].url}/models")
                    await asyncio.sleep(0.4)
            told_s = parsedate_to_datetime(answer.headers["date"]).timestamp()
            ahead_s = told_s - SystemClock().now_ms() / 1000
            assert abs(ahead_s - int(to)) < 100, ahead_s

        yield Scene(stage, begin, _act(partial(_jump, clock, "+0")))


def _faked(clock: Path) -> dict[str, str]:
    """Return the environment in which a process's time of day is what a file says."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise StoreMissingError("there is no libfaketime (apt install faketime)")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def _jump(clock: Path, to: str) -> None:
    later = clock.with_suffix(".next")
    later.write_text(to)
    later.replace(clock)


@asynccontextmanager
async def disk_full(folder: Path) -> AsyncIterator[Scene]:
    """Leave the disk of the pictures no room."""
    disk = folder / "disk"
    with _small_disk(disk) as (min_free, fill):
        assets = f'url = "file:disk/assets"\nmin_free = "{min_free}"'
        async with _with_upstream(folder, assets=assets) as stage:

            async def end() -> None:
                async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
                    root = stage.gateways[0].url.removesuffix("/v1")
                    figures = (await client.get(f"{root}/metrics")).text
                assert re.search(r"gateway_assets_errors_total{.*reason=.full.*} [1-9]", figures)
                (disk / "ballast").unlink()

            yield Scene(stage, fill, end)


@asynccontextmanager
async def replica_paused(folder: Path) -> AsyncIterator[Scene]:
    """Stop one of two gateways amid a picture; let it go on later."""
    async with _with_upstream(folder, gateways=2, server='lease = "1s"') as stage:
        pid = stage.gateways[0].process.pid
        yield Scene(
            stage,
            _act(partial(os.kill, pid, signal.SIGSTOP)),
            _act(partial(os.kill, pid, signal.SIGCONT)),
            gateway=1,
        )


def descriptors_gone(here: Plain) -> Scene:
    """Leave a gateway few file descriptors, and take those with connections that say nothing."""
    stage = here.stage
    idle: list[socket.socket] = []
    address = httpx.URL(stage.gateways[0].url)
    kept = httpx.AsyncClient(timeout=PATIENCE_S)
    before = resource.prlimit(stage.pid, resource.RLIMIT_NOFILE)

    async def begin() -> None:
        await stage.call(client=kept)
        resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
        for _ in range(DESCRIPTORS):
            one = socket.socket()
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect((address.host, address.port))
            idle.append(one)
        await asyncio.sleep(0.2)

    async def end() -> None:
        for one in idle:
            one.close()
        await kept.aclose()
        resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, before)

    return Scene(stage, begin, end, kept=kept)


def _act(do: object) -> Act:
    async def act() -> None:
        do()  # type: ignore[operator]
        await asyncio.sleep(0)

    return act


def _refusing(stage: Stage, switch: str) -> Scene:
    return Scene(
        stage, _act(partial(stage.on.add, switch)), _act(partial(stage.on.discard, switch))
    )


@asynccontextmanager
async def _with_upstream(folder: Path, **how: object) -> AsyncIterator[Stage]:
    """Run gateways on a store that nothing happens to."""
    with run_valkey(folder / "store") as store:
        async with standing(folder, store.url, **how) as stage:  # type: ignore[arg-type]
            yield stage


@asynccontextmanager
async def _with_certificates(
    folder: Path, *, authority: trustme.CA | None = None, expires: datetime | None = None
) -> AsyncIterator[Scene]:
    """Show another certificate: of another authority, or one that is over."""
    trusted = trustme.CA()
    trusted.cert_pem.write_to_path(str(folder / "ca.pem"))
    good, bad = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), None
    bad = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trusted.issue_cert("127.0.0.1").configure_cert(good)
    (authority or trusted).issue_cert("127.0.0.1", not_after=expires).configure_cert(bad)
    sections = '[network]\nca_file = "ca.pem"'
    async with _with_upstream(folder, tls=good, sections=sections) as stage:

        async def show(context: ssl.SSLContext) -> None:
            await stage.front.close()
            await stage.front.open(context)

        yield Scene(stage, partial(show, bad), partial(show, good))


@contextmanager
def _small_disk(folder: Path) -> Iterator[tuple[str, Act]]:
    """Make a disk of a megabyte; yield how much room pictures must leave, and how it is filled.

    Where nobody may mount one, it is a folder that has to leave nearly all that is free.
    """
    folder.mkdir()
    ballast = folder / "ballast"
    mount = ("/bin/mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
    mounted = subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode == 0
    most_bytes = (1 if mounted else SPARE_MIB + 16) << 20
    min_free = "64KiB" if mounted else f"{(shutil.disk_usage(folder).free >> 20) - SPARE_MIB}MiB"

    def fill() -> None:
        with suppress(OSError), ballast.open("wb", buffering=0) as target:
            for _ in range(most_bytes >> 12):
                target.write(bytes(1 << 12))

    try:
        yield min_free, _act(fill)
    finally:
        if mounted:
            subprocess.run(["/bin/umount", "-l", folder], check=True)


FAULTS: tuple[Fault, ...] = (
    Fault("store-down", "Redis is down", On(plain, store_down), AWAY, 2, 5),
    Fault("store-frozen", "Redis is frozen", On(plain, store_frozen), AWAY, 3, 5, short_s=3),
    Fault("store-full", "Redis is full", On(plain, store_full), AWAY, 2, 1),
    Fault(
        "store-failed-over",
        "Redis fails over (Sentinel)",
        store_failed_over,
        AWAY | PICTURE,
        4,
        1,
        short_s=3,
    ),
    Fault("store-resharded", "Redis is resharded", store_resharded, PICTURE, 5, 1),
    Fault(
        "store-resharded-by-key",
        "Redis is resharded key by key, and that stops half-way",
        store_resharded_by_key,
        AWAY,
        3,
        1,
    ),
    Fault("upstream-down", "the upstream is down", On(plain, upstream_down), NO_UPSTREAM, 5, 1),
    Fault(
        "upstream-silent",
        "the upstream answers nothing",
        On(plain, upstream_silent),
        frozenset({"504 submit_unknown"}),
        4,
        1,
        finally_=PICTURE | {"504 submit_unknown"},
    ),
    Fault(
        "upstream-slow",
        "the upstream is slow",
        upstream_slow,
        frozenset({"504 still_running"}),
        4,
        1,
    ),
    Fault(
        "upstream-out-of-credits",
        "the upstream's account is empty",
        On(plain, upstream_out_of_credits),
        NO_UPSTREAM,
        2,
        1,
    ),
    Fault(
        "upstream-key-revoked",
        "our key is revoked",
        On(plain, upstream_key_revoked),
        NO_UPSTREAM,
        2,
        1,
    ),
    Fault("certificate-expired", "its certificate is over", certificate_expired, NO_UPSTREAM, 5, 1),
    Fault(
        "certificate-unknown",
        "its certificate is of an authority nobody trusts",
        certificate_unknown,
        NO_UPSTREAM,
        5,
        1,
    ),
    Fault(
        "own-certificate-bad",
        "the gateway's own certificate is bad",
        own_certificate_bad,
        PICTURE,
        5,
        1,
    ),
    Fault(
        "gateway-clock-ahead",
        "a gateway's clock jumps an hour ahead, and back",
        gateway_clock_ahead,
        PICTURE,
        5,
        1,
    ),
    Fault(
        "gateway-clock-behind",
        "a gateway's clock jumps an hour back, and right again",
        gateway_clock_behind,
        AWAY,
        2,
        1,
    ),
    Fault(
        "store-clock-ahead",
        "Redis's clock jumps an hour ahead, and back",
        store_clock_ahead,
        AWAY,
        2,
        1,
    ),
    Fault("disk-full", "the disk of the pictures is full", disk_full, PICTURE, 5, 1),
    Fault(
        "replica-paused",
        "a gateway of two is paused",
        replica_paused,
        PICTURE,
        5,
        1,
        short_s=3,
        long_s=60,
    ),
    Fault(
        "descriptors-gone",
        "file descriptors are exhausted",
        On(plain, descriptors_gone),
        PICTURE | {"ReadError", "503 too_many_connections"},
        2,
        1,
    ),
)
