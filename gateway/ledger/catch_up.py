"""Brings the organization up to date where a budget comes to it.

A gateway without any tells the organization nothing, or every picture would cost round
trips for a purse that nobody has. What is spent meanwhile is summed in the teams' slots, under a
name of its own, and what is in flight holds nothing. Before the next call is held in the purse, all
of that is put there: docs/decisions/007-organization.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson

from gateway.domain.ids import TaskId, TeamId
from gateway.ledger.organization import Organization
from gateway.ledger.outbox import Outbox
from gateway.store.client import Store
from gateway.store.keyspace import in_flight_key, task_key
from gateway.store.scripts import load_script

#: Tasks that are looked at in one step.
PAGE = 100

Teams = Callable[[], Awaitable[Iterable[TeamId]]]


class CatchUp:
    """Tells the organization what it was not told, and what is in flight, once for each change."""

    def __init__(
        self, store: Store, organization: Organization, outbox: Outbox, teams: Teams
    ) -> None:
        self._store = store
        self._organization = organization
        self._outbox = outbox
        self._teams = teams
        self._one_at_a_time = asyncio.Lock()
        self._enter = load_script("ledger/lua/enter_purse.lua")

    async def done(self) -> None:
        """Return when the organization knows what was spent and what is in flight.

        At once but for the first call after its budgets came. Raises StoreUnavailable; the next
        call tries again then.
        """
        if not self._organization.is_behind and not self._one_at_a_time.locked():
            return
        async with self._one_at_a_time:
            if not self._organization.is_behind:
                return
            # Before it is done: budgets may go and come back meanwhile.
            self._organization.is_behind = False
            try:
                for team in await self._teams():
                    await self._catch_up(team)
                await self._organization.recount()
            except BaseException:  # also when cancelled: the next call has to do it then
                self._organization.is_behind = True
                raise

    async def _catch_up(self, team: TeamId) -> None:
        # First what is in flight: from then on its ends are told, and until then they are gathered.
        await self._hold_in_flight(team)
        await self._outbox.gather(team)
        await self._outbox.flush(team)

    async def _hold_in_flight(self, team: TeamId) -> None:
        cursor = 0
        while True:
            reply: Any = await self._store.command(
                "ZSCAN", in_flight_key(team), cursor, "COUNT", PAGE
            )
            cursor, page = int(reply[0]), reply[1]
            tasks = [TaskId(member.decode()) for member, _ in page]
            if tasks:
                await self._hold(team, tasks)
            if cursor == 0:
                return

    async def _hold(self, team: TeamId, tasks: list[TaskId]) -> None:
        answers: Any = await self._store.run(
            self._enter, [task_key(team, task) for task in tasks], []
        )
        for task, answer in zip(tasks, answers, strict=True):
            if not answer:
                continue
            open_money = orjson.loads(answer)
            await self._organization.restore(
                task, team, open_money["parts"], open_money["created_ms"]
            )
            for part, extra_microusd in open_money["raises"].items():
                await self._organization.raise_hold(task, part, extra_microusd)
