"""Pictures that are paid for and that nobody waits for, until somebody fetches them.

Counted by the scripts that end renders, see requests leave and note answers (lua/unfetched.lua).
"""

from __future__ import annotations

from gateway.domain.clock import Clock
from gateway.domain.ids import TeamId
from gateway.store.client import Store
from gateway.store.keyspace import unfetched_ends_key, unfetched_key
from gateway.store.scripts import load_script

#: Tasks whose pictures are gone are dropped so many at a reading.
DROPPED_AT_ONCE = 1_000


def unfetched_keys(team: TeamId) -> list[str]:
    """Return where a team's pictures are counted that nobody has fetched, as scripts take it."""
    return [unfetched_key(team), unfetched_ends_key(team)]


class Unfetched:
    """Tells what a team has paid for in vain so far."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._read = load_script("tasks/lua/read_unfetched.lua")

    async def microusd(self, team: TeamId) -> int:
        """Return what the pictures cost that could be fetched. Raises StoreUnavailable."""
        reply = await self._store.run(
            self._read,
            unfetched_keys(team),
            [self._clock.now_ms(), DROPPED_AT_ONCE],
        )
        if not isinstance(reply, int):
            raise TypeError("the script answers an integer")
        return reply
