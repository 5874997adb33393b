"""What the organization is still to be told about a team's tasks, and who tells it.

Every movement of a team's money leaves an entry in the team's own slot, written by the very script
that moves it: a hash by ``<task>:<part>``, so that a settlement takes the place of a raise that was
not told yet. Here entries are read, applied in the organization's slot, and only then taken away.
A crash in between repeats an entry; its part is marked there, so that nothing happens twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any

import orjson
import structlog

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.ledger.months import month_after, month_before, month_of, month_start_ms
from gateway.ledger.organization import LateError, Organization, Part, Untold
from gateway.store.client import Store
from gateway.store.keyspace import outbox_key, spent_month_key, spent_total_key
from gateway.store.scripts import load_script

log = structlog.get_logger(__name__)

#: How long the entries of a team that was noted are gathered.
FLUSH_EVERY_S = 0.25
#: How often all teams are looked through, for entries whose gateway did not get to tell them.
PASS_EVERY_S = 15.0
#: Entries that are read at once.
PAGE = 200

Teams = Callable[[], Awaitable[Sequence[TeamId]]]


def outbox_field(task: TaskId, part: str) -> str:
    """Return the name of a part's entry; a part's id is any text of its own within its task."""
    return f"{task}:{part}"


def settlement(*, hold_microusd: int, cost_microusd: int, created_ms: int) -> str:
    """Return the entry of a part that is over: what it gives back and what it cost.

    `hold_microusd` is the part's share of what was reserved, without raises (0 for a correction,
    whose cost may be negative); `created_ms` is when its task was admitted.
    """
    fields = {"hold": hold_microusd, "cost": cost_microusd, "created_ms": created_ms}
    return orjson.dumps(fields).decode()


def raised(extra_microusd: int) -> str:
    """Return the entry of a part that holds so much more in all than its share."""
    return orjson.dumps({"raise": extra_microusd}).decode()


class Outbox:
    """Tells the organization what the teams' slots have for it."""

    def __init__(self, store: Store, organization: Organization, clock: Clock) -> None:
        self._store = store
        self._organization = organization
        self._clock = clock
        self._noted: set[TeamId] = set()
        self._acknowledge = load_script("ledger/lua/outbox_acknowledge.lua")
        self._gather = load_script("ledger/lua/outbox_gather.lua")

    def note(self, team: TeamId) -> None:
        """Remember to flush this team within a moment, together with what else comes."""
        self._noted.add(team)

    async def flush(self, team: TeamId) -> None:
        """Tell the organization all that the team's outbox has by now.

        Raises StoreUnavailable; what was not taken away then is told again.
        """
        cursor = 0
        while True:
            read_ms = self._clock.now_ms()
            reply: Any = await self._store.command("HSCAN", outbox_key(team), cursor, "COUNT", PAGE)
            cursor, page = int(reply[0]), reply[1]
            told = [
                (field, entry)
                for field, entry in page.items()
                if await self._tell(team, field.decode(), entry, read_ms)
            ]
            if told:
                words = list(chain.from_iterable(told))
                await self._store.run(self._acknowledge, [outbox_key(team)], words)
            if cursor == 0:
                return

    async def gather(self, team: TeamId) -> None:
        """Have what was settled while nobody told the organization told with the next flush.

        Raises StoreUnavailable.
        """
        month = month_of(self._clock.now_ms())
        months = [month_before(month), month]
        await self._store.run(
            self._gather,
            [
                outbox_key(team),
                spent_total_key(team),
                *(spent_month_key(team, name) for name in months),
            ],
            [team, *(month_start_ms(name) for name in (*months, month_after(month)))],
        )

    async def flush_noted(self) -> None:
        """Flush the teams that were noted. Raises StoreUnavailable; they stay noted then."""
        for team in sorted(self._noted):
            # Before it is read: what is noted meanwhile may have come too late for this time.
            self._noted.discard(team)
            try:
                await self.flush(team)
            except StoreUnavailable:
                self._noted.add(team)
                raise

    async def run(self, teams: Teams) -> None:
        """Flush noted teams at once and all teams now and then, for ever."""
        all_due_s = self._clock.monotonic_s()
        while True:
            try:
                await self.flush_noted()
                if self._clock.monotonic_s() >= all_due_s:
                    for team in await teams():
                        if self._organization.has_budgets:
                            # Of gateways whose settings have no budget for it, as ours had none.
                            await self.gather(team)
                        await self.flush(team)
                    all_due_s = self._clock.monotonic_s() + PASS_EVERY_S
            except StoreUnavailable:
                pass  # what is not told stays in the outbox
            await asyncio.sleep(FLUSH_EVERY_S)

    async def _tell(self, team: TeamId, field: str, entry: bytes, read_ms: int) -> bool:
        """Apply one entry; tell whether it is done with."""
        task, _, part = field.partition(":")
        try:
            match _parsed(entry):
                case {"hold": int(hold), "cost": int(cost), "created_ms": int(created_ms)}:
                    await self._organization.settle(
                        Part(team, TaskId(task), part, hold, cost, created_ms, read_ms)
                    )
                case {"untold": list(spent), "older": int(older)}:
                    await self._organization.book_untold(
                        Untold(team, TaskId(task), dict(spent), older, read_ms)
                    )
                case {"raise": int(extra)}:
                    await self._organization.raise_hold(TaskId(task), part, extra)
                case _:
                    # Of a newer gateway (design rule 23), or a defect: not dropped, not in the way.
                    log.error("outbox_unreadable", action="outbox_unreadable", team=team, task=task)
                    return False
        except LateError:
            log.warning("outbox_late", action="outbox_late", team=team, task=task)
            return False
        return True


def _parsed(entry: bytes) -> object:
    try:
        return orjson.loads(entry)
    except orjson.JSONDecodeError:
        return None
