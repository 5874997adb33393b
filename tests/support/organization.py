"""A stand-in for a team's side of the organization's money: a record, a tombstone, an outbox.

It keeps the two promises that admission and settlement keep: a tombstoned id is never admitted, and
a part's entry is written in the same step that ends it.
"""

from __future__ import annotations

from typing import Any

from gateway.domain.ids import TaskId, TeamId
from gateway.ledger.months import month_of
from gateway.store.client import Store
from gateway.store.keyspace import (
    organization_hold_key,
    outbox_key,
    spent_month_key,
    spent_total_key,
    task_key,
    tombstone_key,
)
from gateway.store.scripts import Script

_ADMIT = Script(
    "stand_in_admit",
    """#!lua
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 'given_up'
end
redis.call('HSET', KEYS[1], 'state', 'queued')
return 'admitted'
""",
)
_TELL = Script(
    "stand_in_tell",
    """#!lua
redis.call('HSET', KEYS[1], ARGV[1], '1')
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 'done'
""",
)
_SPEND = Script(
    "stand_in_spend",
    """#!lua
redis.call('HINCRBY', KEYS[1], ARGV[1] .. '|untold|', ARGV[2])
redis.call('HINCRBY', KEYS[2], 'untold|', ARGV[2])
return 'done'
""",
)


class TeamSide:
    """The team's slot, as far as the organization looks into it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def admit(self, team: TeamId, task: TaskId) -> bool:
        """Write the task's record unless it was given up."""
        keys = [task_key(team, task), tombstone_key(team, task)]
        return await self._store.run(_ADMIT, keys, []) == b"admitted"

    async def tell(self, team: TeamId, field: str, entry: str) -> None:
        """End or raise a part: record and entry in one step."""
        task = TaskId(field.partition(":")[0])
        await self._store.run(_TELL, [task_key(team, task), outbox_key(team)], [field, entry])

    async def spend(self, team: TeamId, bucket_ms: int, microusd: int) -> None:
        """Settle something in a quarter of an hour, and tell nobody."""
        keys = [spent_month_key(team, month_of(bucket_ms)), spent_total_key(team)]
        await self._store.run(_SPEND, keys, [bucket_ms, microusd])

    async def expire(self, team: TeamId, task: TaskId) -> None:
        """Let the record go, as it does some time after its end."""
        await self._store.command("DEL", task_key(team, task))

    async def untold(self, team: TeamId) -> dict[str, str]:
        """Return what the outbox has."""
        reply: Any = await self._store.command("HGETALL", outbox_key(team))
        return {field.decode(): entry.decode() for field, entry in reply.items()}

    async def buried(self, team: TeamId, task: TaskId) -> bool:
        """Tell whether there is a tombstone."""
        return await self._store.command("EXISTS", tombstone_key(team, task)) == 1


async def purse(store: Store) -> dict[str, tuple[int, int]]:
    """Return (spent, held) of every window of the organization, by budget and start."""
    prefix = "{org}:budget:organization::"
    keys: Any = await store.command("KEYS", "{org}:budget:*")
    found = {}
    for key in keys:
        reply: Any = await store.command("HMGET", key, "spent", "held")
        found[key.decode().removeprefix(prefix)] = (int(reply[0]), int(reply[1]))
    return found


async def lives_ms(store: Store, task: TaskId) -> int:
    """Return how long the hold of a task is kept: -1 as long as needed, -2 when it is gone."""
    reply = await store.command("PTTL", organization_hold_key(task))
    assert isinstance(reply, int)
    return reply
