"""Whether all gateways on one store keep pictures where the others find them (decisions/020).

A task may end on another replica than the one that was called, and is shown by any of them. Where
each host has a folder of its own, that works until it does not: pictures are paid for, and missing
wherever they are asked for. So each replica says where it keeps them, and one that starts beside
others that keep them elsewhere refuses to.
"""

from __future__ import annotations

import asyncio

import structlog

from gateway.config.problems import ConfigError, Problem
from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.keyspace import picture_place_key
from gateway.tasks.replica import RENEWALS, Replica

log = structlog.get_logger(__name__)

#: A note of where a replica keeps pictures outlives it by a day at the most.
NOTED_MS, NOTE_EVERY_S = 86_400_000, 3_600.0
#: Where another replica is elsewhere, so many leases pass until it is certain that it lives.
WATCHED_LEASES = 1.5
#: A store that does not answer is asked again so much later.
ASK_AGAIN_S = 5.0


class Neighbours:
    """The other replicas, as far as their pictures go.

    `place` tells where this one keeps them: the same text is the same place, none is nobody's
    business. `problem` is what an operator is told when they are elsewhere.
    """

    def __init__(self, store: Store, replica: Replica, *, place: str, problem: str) -> None:
        self._store = store
        self._replica = replica
        self._place = place
        self._problem = problem
        self._is_checked = False

    async def check(self) -> None:
        """Refuse to be one of those who keep pictures in different places.

        A replica that was killed is still counted for a lease, so one that is elsewhere is watched
        for longer than that. Raises ConfigError, and StoreUnavailable while nobody knows.
        """
        await self._note()
        await self._replica.renew()
        lease_s = self._replica.lease_s
        looks = round(WATCHED_LEASES * RENEWALS)
        for look in range(looks + 1):
            if not await self._has_strangers():
                self._is_checked = True
                return
            if look == 0:
                watch_s = WATCHED_LEASES * lease_s
                log.warning("pictures_elsewhere", action="pictures_elsewhere", watch_s=watch_s)
            await asyncio.sleep(lease_s / RENEWALS)
            await self._replica.renew()
        await self._replica.leave()
        raise ConfigError([Problem("assets.url", self._problem)])

    async def run(self) -> None:
        """Check what could not be checked at the start, and keep the note for ever.

        A loop for the background: the ConfigError it may raise ends the process.
        """
        while True:
            try:
                await (self._note() if self._is_checked else self.check())
            except StoreUnavailable:
                await asyncio.sleep(ASK_AGAIN_S)
            else:
                await asyncio.sleep(NOTE_EVERY_S)

    async def _note(self) -> None:
        key = picture_place_key(self._replica.id)
        await self._store.command("SET", key, self._place, "PX", NOTED_MS)

    async def _has_strangers(self) -> bool:
        """Tell whether somebody who lives keeps pictures elsewhere; raises StoreUnavailable."""
        if not self._place:
            return False
        for other in self._replica.others:
            told = await self._store.command("GET", picture_place_key(other))
            # Replicas of older gateways say nothing.
            if isinstance(told, bytes) and told.decode() not in ("", self._place):
                return True
        return False
