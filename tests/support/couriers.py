"""A courier in a process of its own that claims a callback and then hangs, to be killed."""

from __future__ import annotations

import asyncio
import secrets as randomness
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.background import Background, SystemClock
from gateway.callbacks.courier import Courier, CourierSettings
from gateway.callbacks.deliveries import Deliveries
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.domain.destinations import parse_allowed
from gateway.domain.ids import TeamId
from gateway.network.clients import build_guarded_client
from gateway.network.guard import Guard
from gateway.store.client import Store

_ROOT = Path(__file__).parents[2]
_CLAIMED = b"claimed\n"


@asynccontextmanager
async def stuck_courier(store_url: str, team: TeamId) -> AsyncIterator[Process]:
    """Run a courier on this store until it has claimed a callback of the team; kill it at last.

    It waits for ever for the address of the receiver, so nothing is posted.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, store_url, team, stdout=PIPE, cwd=_ROOT
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(15):
            while await process.stdout.readline() != _CLAIMED:
                pass
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _main(store_url: str, team: TeamId) -> None:
    async def hang(_: str) -> Sequence[str]:
        sys.stdout.buffer.write(_CLAIMED)
        sys.stdout.buffer.flush()
        await asyncio.Event().wait()
        return ()

    async def teams() -> Iterable[TeamId]:
        return (team,)

    guard = Guard([parse_allowed("hooks.internal")], lookup=hang, lookup_timeout_s=60.0)
    clock = SystemClock()
    async with (
        Store(store_url, timeout_ms=2_000) as store,
        build_guarded_client(guard) as client,
        Background(grace_s=0.0) as background,
    ):
        await Courier(
            deliveries=Deliveries(store, clock),
            secrets=TeamSecrets(store, clock, randomness.token_bytes),
            client=client,
            background=background,
            clock=clock,
            random_bytes=randomness.token_bytes,
            observe=lambda _: None,
            settings=CourierSettings(),
        ).run(teams)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], TeamId(sys.argv[2])))
