"""Pictures that are paid for and that nobody waits for, until somebody fetches them.

Counted by the scripts that end renders, see requests leave and note answers (lua/unfetched.lua). A
request that dies with its replica leaves no word: its pictures are counted by whoever reads the sum
and knows that the replica is gone.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.domain.clock import Clock
from gateway.domain.ids import TaskId, TeamId
from gateway.store.client import Store
from gateway.store.keyspace import (
    task_key,
    unfetched_awaited_key,
    unfetched_ends_key,
    unfetched_key,
)
from gateway.store.replies import integer_of
from gateway.store.scripts import load_script
from gateway.tasks.replica import Attendance

#: So many tasks are dropped at a reading, and so many looked at whose request may be gone.
AT_ONCE = 1_000


def unfetched_keys(team: TeamId) -> list[str]:
    """Return where a team's pictures are counted that nobody has fetched, as scripts take it."""
    return [unfetched_key(team), unfetched_ends_key(team), unfetched_awaited_key(team)]


class Unfetched:
    """Tells what a team has paid for in vain so far; `attendance` as `Replica.attendance`."""

    def __init__(
        self, store: Store, clock: Clock, attendance: Callable[[], Attendance | None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._attendance = attendance
        self._read = load_script("tasks/lua/read_unfetched.lua")

    async def microusd(self, team: TeamId) -> int:
        """Return what the pictures cost that could be fetched. Raises StoreUnavailable."""
        attendance = self._attendance() or Attendance(frozenset(), 0)
        reply = await self._store.run(
            self._read,
            unfetched_keys(team),
            [
                self._clock.now_ms(),
                AT_ONCE,
                task_key(team, TaskId("")),
                attendance.lease_ms,
                *attendance.present,
            ],
        )
        return integer_of(reply)
