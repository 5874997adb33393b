"""Budgets as they stand, for operators: reading those of a team, and paying into prepaid ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.access.interface import TeamKeys, TeamList
from gateway.domain.ids import TeamId
from gateway.domain.limits import Period, Scope
from gateway.domain.money import format_usd
from gateway.ledger.holds import ScopedBudget, Standing
from gateway.ledger.interface import Ledger, TopUp, TopUpRefusedError, TopUps
from gateway.service.admin import AdminRefusedError, NoSuchError

#: Bytes of randomness in the id of a top-up that was given none.
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Payment:
    """What is to be paid into a prepaid budget, by whom and why; below zero takes back.

    `key` is empty for the team's budget. `id` makes it the same payment however often it is sent;
    empty, it is a new one.
    """

    team: str
    key: str
    budget: str
    delta_microusd: int
    note: str
    who: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment that is booked: its id, its entry in the ledger, and the budget after it."""

    id: str
    entry_id: str
    standing: Standing


class Budgets:
    """Reads budgets and pays into them. Every method raises StoreUnavailable."""

    def __init__(
        self,
        *,
        teams: TeamList,
        ledger: Ledger,
        top_ups: TopUps,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._teams = teams
        self._ledger = ledger
        self._top_ups = top_ups
        self._random_bytes = random_bytes

    async def all(self) -> tuple[Standing, ...]:
        """Return the budgets of all teams and their keys as they stand."""
        entries = await self._teams.read()
        return await self._ledger.standings([each for entry in entries for each in _of(entry)])

    async def of(self, team: str) -> tuple[Standing, ...]:
        """Return the budgets of a team and its keys as they stand. Raises NoSuchError."""
        return await self._ledger.standings(tuple(_of(await self._entry(team))))

    async def pay(self, payment: Payment) -> Paid:
        """Pay into a prepaid budget, once however often it is sent with an id.

        Raises NoSuchError for a team, key or budget there is not, and AdminRefusedError for one
        that is no total, or when more would be taken back than was paid in.
        """
        budget = self._prepaid(await self._entry(payment.team), payment)
        order = TopUp(
            id=payment.id or self._random_bytes(_ID_BYTES).hex(),
            team=budget.team,
            owner=budget.owner,
            budget=budget.budget.name,
            delta_microusd=payment.delta_microusd,
            note=payment.note,
            by=payment.who,
        )
        try:
            done = await self._top_ups.top_up(order)
        except TopUpRefusedError as error:
            raise AdminRefusedError(
                f"${format_usd(error.topped_up_microusd)} was paid in; no more than that can be"
                " taken back, and no more be paid in than can be counted."
            ) from None
        [standing] = await self._ledger.standings([budget])
        return Paid(order.id, done.entry_id, standing)

    async def _entry(self, team: str) -> TeamKeys:
        for entry in await self._teams.read():
            if entry.team.id == TeamId(team):
                return entry
        raise NoSuchError(f"There is no team '{team}'.")

    @staticmethod
    def _prepaid(entry: TeamKeys, payment: Payment) -> ScopedBudget:
        whose = f"key '{payment.key}' of team" if payment.key else "team"
        if payment.key and payment.key not in {key.name for key in entry.keys}:
            raise NoSuchError(f"The team '{payment.team}' has no key '{payment.key}'.")
        for each in _of(entry):
            if (each.owner, each.budget.name) == (payment.key, payment.budget):
                if each.budget.per is not Period.TOTAL:
                    raise AdminRefusedError(
                        f"The budget '{payment.budget}' is per {each.budget.per}; only one that is"
                        " a total can be paid into."
                    )
                return each
        raise NoSuchError(f"The {whose} '{payment.team}' has no budget '{payment.budget}'.")


def _of(entry: TeamKeys) -> Iterator[ScopedBudget]:
    for budget in entry.team.budgets:
        yield ScopedBudget(entry.team.id, Scope.TEAM, "", budget)
    for key in entry.keys:
        for budget in key.budgets:
            yield ScopedBudget(entry.team.id, Scope.KEY, key.name, budget)
