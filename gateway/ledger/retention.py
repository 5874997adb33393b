"""Trims ledgers by age: entries that were kept for long enough give way to a checkpoint.

One replica at a time does it, once an hour: whoever takes the turn. The books stay verifiable
throughout (`audit.trim`), also when two of them should ever trim at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.ledger.audit import IncompleteLedgerError, trim
from gateway.ledger.checkpoint import UnreadableCheckpointError
from gateway.ledger.redis_books import CheckpointMovedError, RedisBooks
from gateway.store.client import Store
from gateway.store.keyspace import retention_turn_key

log = structlog.get_logger(__name__)

#: A turn is for so long: nobody trims again before.
TURN_S = 3600
#: Seconds between two looks whether the turn is free.
EVERY_S = 600.0

#: The last number that a stream id can have in its millisecond.
_LAST_NUMBER = 2**64 - 1

#: Returns every team that may have books. Raises StoreUnavailable.
Teams = Callable[[], Awaitable[Iterable[TeamId]]]


class Retention:
    """Removes, hour by hour, entries older than `keep_ms`; `replica` is this process's name."""

    def __init__(
        self, store: Store, books: RedisBooks, teams: Teams, *, keep_ms: int, replica: str
    ) -> None:
        self._store = store
        self._books = books
        self._teams = teams
        self._keep_ms = keep_ms
        self._replica = replica

    async def run(self) -> None:
        """Trim for ever, whenever the turn is this replica's."""
        while True:
            try:
                if await self.take_turn():
                    await self.trim_all()
            except StoreUnavailable:
                log.warning("retention_failed", action="retention_failed")
            await asyncio.sleep(EVERY_S)

    async def take_turn(self) -> bool:
        """Tell whether this replica is the one to trim in this hour. Raises StoreUnavailable."""
        reply = await self._store.command(
            "SET", retention_turn_key(), self._replica, "NX", "EX", TURN_S
        )
        return reply is not None

    async def trim_all(self) -> int:
        """Trim the ledger of every team; return how many entries went. Raises StoreUnavailable."""
        removed = 0
        for team in sorted(await self._teams()):
            removed += await self._trim(team)
        return removed

    async def _trim(self, team: TeamId) -> int:
        """Trim one ledger; what stands in the way is logged and never stops the others."""
        # By the store's clock, which dates the entries.
        now_ms = (await self._books.snapshot(team, [])).now_ms
        upto = f"{now_ms - self._keep_ms - 1}-{_LAST_NUMBER}"
        if not await self._has_entries(team, upto):
            return 0
        try:
            trimmed = await trim(self._books, team, upto=upto, name=self._replica)
        except (CheckpointMovedError, UnreadableCheckpointError, IncompleteLedgerError) as error:
            log.error("not_trimmed", action="not_trimmed", team=team, reason=str(error))  # noqa: TRY400 - the reason says it all
            return 0
        for finding in trimmed.findings:
            log.warning("ledger_finding", action="ledger_finding", team=team, finding=str(finding))
        log.info("trimmed", action="trimmed", team=team, entries=trimmed.entries)
        return trimmed.entries

    async def _has_entries(self, team: TeamId, upto: str) -> bool:
        async for _ in self._books.entries(team, upto=upto):
            return True
        return False
