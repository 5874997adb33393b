"""The permits of all replicas on Redis or Valkey: who is in flight where, and how fast."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.domain.ids import TeamId
from gateway.store.client import Store
from gateway.store.keyspace import pace_key, permits_key, turns_key
from gateway.store.replies import fields_of, texts_of
from gateway.store.scripts import load_script
from gateway.tasks.gate import Capacity, Granted, Permit


class RedisPermits:
    """Implements `Permits` for the process `replica`."""

    def __init__(self, store: Store, *, replica: str) -> None:
        self._store = store
        self._replica = replica
        self._acquire = load_script("tasks/lua/permit_acquire.lua")
        self._slow_down = load_script("tasks/lua/permit_slow_down.lua")

    async def acquire(self, account: str, capacity: Capacity, wanted: Sequence[Permit]) -> Granted:
        """Grant permits in this order as far as there is room; a held one is granted again."""
        reply = await self._store.run(
            self._acquire,
            [permits_key(account), pace_key(account), turns_key(account)],
            [
                self._replica,
                capacity.max_in_flight,
                capacity.max_submits_per_second,
                *(word for permit in wanted for word in (permit.render_id, permit.team)),
            ],
        )
        match reply:
            case [list(render_ids), int(wait_ms), int(full), int(version)]:
                return Granted(
                    render_ids=frozenset(texts_of(render_ids)),
                    wait_s=wait_ms / 1000,
                    full=bool(full),
                    pace_version=version,
                )
        raise TypeError("the script answers four values")

    async def register(self, account: str, permits: Sequence[Permit]) -> None:
        """Write down renders that are in flight already, whether there is room or not."""
        pairs = (word for permit in permits for word in (permit.render_id, permit.team))
        await self._store.command("HSET", permits_key(account), *pairs)

    async def release(self, account: str, render_ids: Sequence[str]) -> None:
        """Give permits back; those that are not held do not matter."""
        await self._store.command("HDEL", permits_key(account), *render_ids)

    async def slow_down(
        self, account: str, capacity: Capacity, *, pace_version: int, pause_s: float
    ) -> None:
        """Lower the pace unless it was lowered since, and submit nothing for `pause_s`."""
        await self._store.run(
            self._slow_down,
            [pace_key(account)],
            [capacity.max_submits_per_second, pace_version, math.ceil(pause_s * 1000)],
        )

    async def holders(self, account: str) -> Sequence[Permit]:
        """Return every permit of the account."""
        holders = fields_of(await self._store.command("HGETALL", permits_key(account)))
        return [Permit(render_id, TeamId(team)) for render_id, team in holders.items()]
