"""The organization's budgets: one purse for all teams, in a slot of its own.

A script cannot change a team's keys and the organization's in one step when they lie in different
slots, so money is held here *first* and given back when the team refuses. What happens later comes
through the team's outbox (`outbox.py`), and a hold whose task never came to be is freed by
`orphans.py`. docs/decisions/007-organization.md walks through every crash.

A task is settled in *parts* (its renders): each gives back its share of the hold and books its
cost, once. Every method may be repeated; every method raises StoreUnavailable, and may have been
executed then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import orjson

from gateway.domain.clock import Clock
from gateway.domain.errors import BudgetExceeded, BudgetState, StoreUnavailable
from gateway.domain.ids import ORGANIZATION, TaskId, TeamId
from gateway.domain.limits import Budget, Scope
from gateway.domain.task import HeldWindow
from gateway.ledger.holds import ScopedBudget, order_of, state_of, states_of, window_order
from gateway.ledger.months import month_before, month_of
from gateway.store.client import Store
from gateway.store.keyspace import (
    ledger_key,
    organization_hold_key,
    organization_holds_key,
    organization_settled_key,
    spent_month_key,
    spent_total_key,
)
from gateway.store.scripts import Script, load_script

#: What was read from an outbox longer ago than this is refused: it may have been done, and
#: forgotten. It also bounds how far the clocks of gateways and store may be apart.
APPLY_WITHIN_MS = 300_000
#: How long a hold that is over is remembered when nothing can come any more but repetitions, which
#: are refused after `APPLY_WITHIN_MS` (or after `admit_by_ms`, for a reserve).
REMEMBER_MS = 3_600_000
#: Holds that are looked at in one step.
PAGE = 256


@dataclass(frozen=True, slots=True)
class Part:
    """What a part of a task gives back and costs; micro-dollars.

    `hold_microusd` is its share of what was reserved, without what it was raised by; a task that
    holds nothing has no share. A cost below zero corrects an earlier one. `created_ms` is when
    the task was admitted, `read_ms` when this was read from where it is written (both Unix ms).
    """

    team: TeamId
    task: TaskId
    id: str
    hold_microusd: int
    cost_microusd: int
    created_ms: int
    read_ms: int


@dataclass(frozen=True, slots=True)
class Untold:
    """What a team spent while nobody told the organization of it; micro-dollars.

    `spent` is by the quarter of an hour its tasks were admitted in (its start, Unix ms), and
    `older_microusd` what was spent so long ago that only a total still asks for it. `id` is the
    entry's own, as if it were a task; `read_ms` is when it was read.
    """

    team: TeamId
    id: TaskId
    spent: Mapping[int, int]
    older_microusd: int
    read_ms: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A hold as an index names it; `at_ms` is when it is to be looked after, or when it ended."""

    team: TeamId
    task: TaskId
    at_ms: int

    @property
    def member(self) -> str:
        """Return its name in the index."""
        return f"{self.team}:{self.task}"


class LateError(Exception):
    """What was to be booked was read too long ago; it has to be read again."""


class Organization:
    """The purse that all teams share; without `budgets` nothing is held, and costs are summed."""

    def __init__(self, store: Store, clock: Clock, budgets: Sequence[Budget]) -> None:
        self._store = store
        self._clock = clock
        self._budgets: tuple[ScopedBudget, ...] = ()
        self._ever_had = False
        #: Whether a budget has come: `catch_up.py` makes it count, and takes this back.
        self.is_behind = False
        self.limit(budgets)
        self._reserve = load_script("ledger/lua/organization_reserve.lua")
        self._raise = load_script("ledger/lua/organization_raise.lua")
        self._settle = load_script("ledger/lua/organization_settle.lua")
        self._release = load_script("ledger/lua/organization_release.lua")
        self._catch_up = load_script("ledger/lua/organization_catch_up.lua")
        self._recount = load_script("ledger/lua/organization_recount.lua")
        self._due = load_script("ledger/lua/organization_due.lua")
        self._forget = load_script("ledger/lua/organization_forget.lua")

    def limit(self, budgets: Sequence[Budget]) -> None:
        """Take these budgets in place of the last ones, from the next `reserve` on.

        What is held stays held where it is; what budgets that are new have to hold of it is told by
        `is_behind`.
        """
        known = {_place_of(scoped.budget) for scoped in self._budgets}
        if not known.issuperset(map(_place_of, budgets)):
            self.is_behind = True
        self._budgets = tuple(
            ScopedBudget(ORGANIZATION, Scope.ORGANIZATION, "", budget) for budget in budgets
        )
        self._ever_had = self._ever_had or bool(budgets)

    @property
    def has_budgets(self) -> bool:
        """Whether there is a purse to tell of what is spent.

        True for good once there were budgets: what was held under them is to be given back.
        """
        return self._ever_had

    async def reserve(
        self, task: TaskId, team: TeamId, amount_microusd: int, admit_by_ms: int
    ) -> tuple[BudgetState, ...]:
        """Hold a call's price in every budget, before its team is asked; return the budgets.

        `admit_by_ms` is when the team's admission will be refused at the latest: from then on a
        hold without a task is an orphan. Raises BudgetExceeded. A task that was released, or
        whose hold is over, is refused with StoreUnavailable.
        """
        choices = self._choices(self._clock.now_ms())
        return await self._hold(task, team, amount_microusd, choices, admit_by_ms=admit_by_ms)

    async def restore(
        self, task: TaskId, team: TeamId, parts: Mapping[str, int], created_ms: int
    ) -> tuple[BudgetState, ...]:
        """Hold money again that the store has lost, or that no budget held; also over budget.

        Design rule 18; and where a budget comes while the task is in flight.

        `parts` is what each part of the task was reserved for in micro-dollars; those that are
        settled here hold nothing more.
        """
        choices = [choice[:1] for choice in self._choices(created_ms)]
        return await self._hold(
            task, team, sum(parts.values()), choices, admit_by_ms=created_ms, anew=parts
        )

    async def raise_hold(self, task: TaskId, part: str, extra_microusd: int) -> None:
        """Hold more for a part, whatever the limits say: `extra_microusd` more in all.

        The highest amount counts, in whatever order they come; nothing happens to a part that is
        settled, and to a task that holds nothing.
        """
        await self._run_in_windows(
            self._raise,
            [organization_hold_key(task), ledger_key(ORGANIZATION)],
            [task, part, extra_microusd],
            self._window_keys(self._clock.now_ms()),
        )

    async def settle(self, part: Part) -> None:
        """Give back a part's share of the hold with what it was raised by, and book its cost.

        Never clamped. Books the cost also when nothing is held for it. Raises LateError.
        """
        windows = [choice[0].key for choice in self._choices(part.created_ms)]
        order = {
            "id": part.task,
            "team": part.team,
            "part": part.id,
            "hold": part.hold_microusd,
            "cost": part.cost_microusd,
            "apply_by_ms": part.read_ms + APPLY_WITHIN_MS,
            "created_ms": part.created_ms,
            "owner": f"{Scope.ORGANIZATION}|",
            "windows": windows,
        }
        answer = await self._run_in_windows(
            self._settle,
            [
                organization_hold_key(part.task),
                organization_holds_key(),
                organization_settled_key(),
                ledger_key(ORGANIZATION),
                spent_month_key(ORGANIZATION, month_of(part.created_ms)),
                spent_total_key(ORGANIZATION),
            ],
            [orjson.dumps(order)],
            self._window_keys(part.created_ms),
        )
        if answer[0] == b"late":
            raise LateError(part.task)

    async def book_untold(self, untold: Untold) -> None:
        """Book what a team spent before anybody told us, in sums and windows. Raises LateError."""
        months = sorted({month_of(bucket_ms) for bucket_ms in untold.spent})
        windows = list(chain.from_iterable(self._choices(self._clock.now_ms())))
        spent = [
            (bucket_ms, months.index(month_of(bucket_ms)) + 1, cost)
            for bucket_ms, cost in untold.spent.items()
        ]
        if untold.older_microusd:
            spent.append((0, 0, untold.older_microusd))
        order = {
            "id": untold.id,
            "team": untold.team,
            "apply_by_ms": untold.read_ms + APPLY_WITHIN_MS,
            "owner": f"{Scope.ORGANIZATION}|",
            "months": len(months),
            "spent": spent,
            "windows": [window_order(window) for window in windows],
        }
        answer = await self._store.run(
            self._catch_up,
            [
                organization_hold_key(untold.id),
                organization_settled_key(),
                ledger_key(ORGANIZATION),
                spent_total_key(ORGANIZATION),
                *(spent_month_key(ORGANIZATION, month) for month in months),
                *(window.key for window in windows),
            ],
            [orjson.dumps(order)],
        )
        if answer == b"late":
            raise LateError(untold.id)

    async def recount(self) -> None:
        """Let windows that were opened before know what was spent while nobody named them.

        That is of budgets that went and came back: the sums have it.
        """
        now_ms = self._clock.now_ms()
        if choices := self._choices(now_ms):
            await self._store.run(
                self._recount,
                [
                    ledger_key(ORGANIZATION),
                    *self._sums(now_ms),
                    *(window.key for choice in choices for window in choice),
                ],
                [orjson.dumps(order_of(self._budgets, choices))],
            )

    async def release(self, task: TaskId) -> None:
        """Give back all that is held for a task that never came to be, nor ever will.

        Only when its team has refused it for good, or a tombstone makes sure of that.
        """
        await self._run_in_windows(
            self._release,
            [organization_hold_key(task), organization_holds_key(), ledger_key(ORGANIZATION)],
            [task, REMEMBER_MS],
            self._window_keys(self._clock.now_ms()),
        )

    async def balances(self) -> tuple[BudgetState, ...]:
        """Return every budget in its current window."""
        choices = self._choices(self._clock.now_ms())
        return tuple([await self._balance(choice[0]) for choice in choices])

    async def orphans(self, older_than_ms: int) -> tuple[Kept, ...]:
        """Return open holds, oldest first, whose admission was refused this long ago at the latest.

        Whether there is a task knows only the team's slot.
        """
        return await self._older(organization_holds_key(), older_than_ms)

    async def postpone(self, hold: Kept, until_ms: int) -> None:
        """Leave an open hold alone until then: its task is there."""
        await self._store.command("ZADD", organization_holds_key(), "XX", until_ms, hold.member)

    async def settled(self, older_than_ms: int) -> tuple[Kept, ...]:
        """Return holds, oldest first, that were over this long ago and are not forgotten."""
        return await self._older(organization_settled_key(), older_than_ms)

    async def forget(self, holds: Sequence[Kept]) -> None:
        """Let holds expire that are over and that no outbox has anything of any more."""
        await self._store.run(
            self._forget,
            [organization_settled_key(), *(organization_hold_key(hold.task) for hold in holds)],
            [REMEMBER_MS, *(word for hold in holds for word in (hold.member, hold.at_ms))],
        )

    async def _hold(
        self,
        task: TaskId,
        team: TeamId,
        amount_microusd: int,
        choices: Sequence[Sequence[HeldWindow]],
        *,
        admit_by_ms: int,
        anew: Mapping[str, int] | None = None,
    ) -> tuple[BudgetState, ...]:
        if not self._budgets:
            return ()
        by_key = {window.key: window for choice in choices for window in choice}
        order = {
            "id": task,
            "team": team,
            "amount": amount_microusd,
            "admit_by_ms": admit_by_ms,
            "anew": anew is not None,
            "parts": dict(anew or {}),
            "budgets": order_of(self._budgets, choices),
        }
        reply: Any = await self._store.run(
            self._reserve,
            [
                organization_hold_key(task),
                organization_holds_key(),
                organization_settled_key(),
                ledger_key(ORGANIZATION),
                *self._sums(self._clock.now_ms()),
                *by_key,
            ],
            [orjson.dumps(order)],
        )
        match reply:
            case [b"held", list(keys), list(flat)]:
                # Repeated after a change of budgets, it is held in windows that we cannot name.
                return states_of([by_key[key.decode()] for key in keys], flat) if flat else ()
            case [b"over_budget", bytes(key), int(spent), int(held), int(limit)]:
                window = replace(by_key[key.decode()], limit_microusd=limit)
                budget = state_of(window, spent, held)
                raise BudgetExceeded(budget, price_microusd=amount_microusd)
            case _:
                # Late, given up, or the clocks are a whole window apart: nothing was written.
                raise StoreUnavailable

    def _sums(self, now_ms: int) -> tuple[str, str, str]:
        """Name the sums from which windows of about this moment are opened."""
        month = month_of(now_ms)
        return (
            spent_month_key(ORGANIZATION, month_before(month)),
            spent_month_key(ORGANIZATION, month),
            spent_total_key(ORGANIZATION),
        )

    async def _balance(self, window: HeldWindow) -> BudgetState:
        reply: Any = await self._store.command("HMGET", window.key, "spent", "held", "topped_up")
        return state_of(window, *(int(value or 0) for value in reply))

    async def _older(self, key: str, older_than_ms: int) -> tuple[Kept, ...]:
        reply: Any = await self._store.run(self._due, [key], [older_than_ms, PAGE])
        return tuple(
            _kept(member.decode(), score)
            for member, score in zip(reply[::2], reply[1::2], strict=True)
        )

    def _window_keys(self, moment_ms: int) -> list[str]:
        """Return the windows of a hold of about this moment, if budgets are as they were."""
        return [window.key for window in chain.from_iterable(self._choices(moment_ms))]

    def _choices(self, moment_ms: int) -> list[tuple[HeldWindow, ...]]:
        """Return the windows of each budget that a moment is in or near, the one it is in first."""
        return [budget.candidates(moment_ms) for budget in self._budgets]

    async def _run_in_windows(
        self, script: Script, keys: list[str], arguments: list[str | int | bytes], guess: list[str]
    ) -> list[Any]:
        """Run a script on the windows of a hold; it tells which they are when we guess wrong."""
        answer: Any = await self._store.run(script, [*keys, *guess], arguments)
        if answer[0] == b"windows":
            held_in = [key.decode() for key in answer[1]]
            answer = await self._store.run(script, [*keys, *guess, *held_in], arguments)
        return list(answer)


def _place_of(budget: Budget) -> tuple[object, ...]:
    """Return what decides which windows a budget counts in."""
    return budget.name, budget.per, budget.timezone


def _kept(member: str, score: bytes) -> Kept:
    team, _, task = member.partition(":")
    return Kept(TeamId(team), TaskId(task), int(score))
