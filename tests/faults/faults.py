"""The faults: each with the processes it needs, how it begins and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trustme

from gateway.background import SystemClock
from gateway.edge.connections import CROWDED_HEAD_S
from gateway.store.client import Store
from gateway.store.embedded import find_binary
from tests.faults.places import (
    EMPTY,
    REVOKED,
    Certified,
    Clocked,
    Clustered,
    Plain,
    act,
    certified,
    clocked,
    clustered,
    faked,
    plain,
    set_clock,
    small_disk,
    with_upstream,
)
from tests.faults.play import Fault, On, Scene
from tests.faults.stage import PATIENCE_S, Stage, standing
from tests.support.gateway import ENVIRON, start_gateway
from tests.support.stores import run_watched
from tests.support.valkey import run_valkey

AWAY = frozenset({"503 ledger_unavailable"})
NO_UPSTREAM = frozenset({"503 upstream_unavailable"})
PICTURE = frozenset({"200"})

#: How many file descriptors a gateway has when they are few.
DESCRIPTORS = 256


def store_down(here: Plain) -> Scene:
    """Kill the store; start it again from its journal."""
    return Scene(here.stage, act(here.kill), act(here.restart))


def store_frozen(here: Plain) -> Scene:
    """Stop the store's process, and let it go on."""
    stop, cont = (partial(os.kill, here.pid, one) for one in (signal.SIGSTOP, signal.SIGCONT))
    return Scene(here.stage, act(stop), act(cont))


def store_full(here: Plain) -> Scene:
    """Leave the store no memory, and give it back."""
    return Scene(here.stage, act(partial(here.set_memory, 1)), act(partial(here.set_memory, 0)))


@asynccontextmanager
async def store_failed_over(folder: Path) -> AsyncIterator[Scene]:
    """Kill the primary; Sentinels promote its replica."""
    with run_watched(folder / "store", down_after_ms=1_000, sentinels=1) as watched:
        async with standing(folder, watched.url) as stage:
            yield Scene(stage, act(watched.primary.kill))


def store_resharded(here: Clustered) -> Scene:
    """Move the team's slot to another node under way."""
    return Scene(here.stage, act(here.move_slot))


def store_resharded_by_key(here: Clustered) -> Scene:
    """Move the team's slot key by key, and stand still half-way."""
    return Scene(here.stage, act(here.move_half), act(here.move_rest))


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
    async with with_upstream(folder, wait="2500ms") as stage:
        yield Scene(stage, act(lambda: None), markers="[[latency:5]]")


def certificate_expired(here: Certified) -> Scene:
    """Let the upstream show a certificate that is over since yesterday."""
    yesterday = datetime.now(UTC) - timedelta(days=1)  # noqa: TID251 - certificates have dates
    bad = here.context(here.trusted, not_after=yesterday)
    return Scene(here.stage, partial(here.show, bad), partial(here.show, here.good))


def certificate_unknown(here: Certified) -> Scene:
    """Let the upstream show a certificate of an authority that nobody trusts."""
    bad = here.context(trustme.CA())
    return Scene(here.stage, partial(here.show, bad), partial(here.show, here.good))


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
    async with with_upstream(folder, server=server, trust=trust) as stage:

        async def begin() -> None:
            cert.write_text("no certificate")
            process = await start_gateway(folder / "config.toml", **ENVIRON)
            _, told = await process.communicate()
            assert process.returncode == 1, told
            assert b"server.tls_cert and server.tls_key cannot be used" in told, told

        yield Scene(stage, begin, act(partial(cert.write_bytes, good)))


def gateway_clock_ahead(here: Clocked) -> Scene:
    """Put a gateway's time of day an hour ahead, and back."""
    return Scene(here.stage, partial(here.jump, 3600), partial(here.jump, 0))


def gateway_clock_behind(here: Clocked) -> Scene:
    """Put a gateway's time of day an hour back, and right again."""
    return Scene(here.stage, partial(here.jump, -3600), partial(here.jump, 0))


@asynccontextmanager
async def store_clock_ahead(folder: Path) -> AsyncIterator[Scene]:
    """Put the store's time of day an hour ahead, and back."""
    clock = folder / "clock"
    server = folder / "valkey-faked"
    words = " ".join(f"{name}={value}" for name, value in faked(clock).items())
    server.write_text(f'#!/bin/sh\nexec env {words} {find_binary()} "$@"\n')
    server.chmod(0o755)
    with run_valkey(folder / "store", binary=server) as store:
        async with standing(folder, store.url) as stage:

            async def begin() -> None:
                set_clock(clock, 3600)
                async with Store(store.url, timeout_ms=15_000) as direct:
                    told: Any = await direct.command("TIME")
                ahead_s = int(told[0]) - SystemClock().now_ms() / 1000
                assert 3_500 < ahead_s < 3_700, ahead_s

            yield Scene(stage, begin, act(partial(set_clock, clock, 0)))


@asynccontextmanager
async def disk_full(folder: Path) -> AsyncIterator[Scene]:
    """Leave the disk of the pictures no room."""
    disk = folder / "disk"
    with small_disk(disk) as (min_free, fill):
        assets = f'url = "file:disk/assets"\nmin_free = "{min_free}"'
        async with with_upstream(folder, assets=assets) as stage:

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
    async with with_upstream(folder, gateways=2, server='lease = "1s"') as stage:
        pid = stage.gateways[0].process.pid
        yield Scene(
            stage,
            act(partial(os.kill, pid, signal.SIGSTOP)),
            act(partial(os.kill, pid, signal.SIGCONT)),
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
        # Until those that nobody serves have been hung up on, new callers are, too.
        await asyncio.sleep(CROWDED_HEAD_S + 0.5)

    async def end() -> None:
        assert "503 too_many_connections" in {answer.what for answer in stage.answers}
        for one in idle:
            one.close()
        await kept.aclose()
        resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, before)

    return Scene(stage, begin, end, kept=kept)


def _refusing(stage: Stage, switch: str) -> Scene:
    return Scene(stage, act(partial(stage.on.add, switch)), act(partial(stage.on.discard, switch)))


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
    Fault("store-resharded", "Redis is resharded", On(clustered, store_resharded), PICTURE, 5, 1),
    Fault(
        "store-resharded-by-key",
        "Redis is resharded key by key, and that stops half-way",
        On(clustered, store_resharded_by_key),
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
        "our key at the upstream is revoked",
        On(plain, upstream_key_revoked),
        NO_UPSTREAM,
        2,
        1,
    ),
    Fault(
        "certificate-expired",
        "the upstream's certificate has expired",
        On(certified, certificate_expired),
        NO_UPSTREAM,
        5,
        1,
    ),
    Fault(
        "certificate-unknown",
        "the upstream's certificate is of an unknown authority",
        On(certified, certificate_unknown),
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
        On(clocked, gateway_clock_ahead),
        PICTURE,
        5,
        1,
    ),
    Fault(
        "gateway-clock-behind",
        "a gateway's clock jumps an hour back, and right again",
        On(clocked, gateway_clock_behind),
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
