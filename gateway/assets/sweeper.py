"""Removes pictures that were kept for long enough."""

from __future__ import annotations

import asyncio

import structlog

from gateway.assets.interface import AssetStore, AssetUnavailableError
from gateway.domain.clock import Clock

log = structlog.get_logger(__name__)

#: Seconds between two sweeps: a picture may stay this much longer than it is kept.
EVERY_S = 600.0


class Sweeper:
    """Removes, again and again, what was written more than `keep_ms` ago."""

    def __init__(self, assets: AssetStore, clock: Clock, *, keep_ms: int) -> None:
        self._assets = assets
        self._clock = clock
        self._keep_ms = keep_ms

    async def run(self) -> None:
        """Sweep for ever, once at the start."""
        while True:
            try:
                removed = await self._assets.remove_before(self._clock.now_ms() - self._keep_ms)
            except AssetUnavailableError:
                log.warning("sweep_failed", action="sweep_failed")
            else:
                if removed:
                    log.info("swept", action="swept", removed=removed)
            await asyncio.sleep(EVERY_S)
