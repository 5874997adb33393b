"""Removes pictures that were kept for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.assets.interface import AssetStore, AssetUnavailableError, KeepOf
from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable

log = structlog.get_logger(__name__)

#: Seconds between two sweeps: a picture may stay this much longer than it is kept.
EVERY_S = 600.0


class Sweeper:
    """Removes, again and again, what is in the store for longer than `read_keep` says each time.

    `read_keep` may raise StoreUnavailable: then nothing is removed, as nobody knows what may be.
    """

    def __init__(
        self, assets: AssetStore, clock: Clock, *, read_keep: Callable[[], Awaitable[KeepOf]]
    ) -> None:
        self._assets = assets
        self._clock = clock
        self._read_keep = read_keep

    async def run(self) -> None:
        """Sweep for ever, once at the start."""
        while True:
            try:
                keep_ms = await self._read_keep()
                removed = await self._assets.sweep(self._clock.now_ms(), keep_ms)
            except (AssetUnavailableError, StoreUnavailable):
                log.warning("sweep_failed", action="sweep_failed")
            else:
                if removed:
                    log.info("swept", action="swept", removed=removed)
            await asyncio.sleep(EVERY_S)
