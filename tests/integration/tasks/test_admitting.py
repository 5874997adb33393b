"""The organization's purse and the team's: both, or neither."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.background import Background, SystemClock
from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.limits import Budget, Period
from gateway.ledger.catch_up import CatchUp
from gateway.ledger.organization import Organization
from gateway.ledger.outbox import Outbox
from gateway.store.client import Store
from gateway.tasks.admitting import Admitting
from gateway.tasks.interface import Admitted, Joined
from tests.support.engine import eventually
from tests.support.factories import a_call, a_team, an_admission
from tests.support.journal import TroubledStore, a_journal, admitted, finished, record_in, submitted

SHARED = Budget(name="shared", limit_microusd=150, per=Period.TOTAL)
OWN = a_team(budgets=(Budget(name="own", limit_microusd=100, per=Period.TOTAL),))


class Desk:
    """Admissions into both purses."""

    def __init__(self, store: Store, background: Background) -> None:
        self.organization = Organization(store, SystemClock(), (SHARED,))
        self.journal = a_journal(store)
        outbox = Outbox(store, self.organization, SystemClock())
        self.catch_up = CatchUp(store, self.organization, outbox, self.journal.teams)
        self.admitting = Admitting(
            self.journal, self.organization, self.catch_up, background, SystemClock()
        )

    async def shared(self) -> tuple[int, int]:
        """Return what is spent and held of the organization's budget."""
        [state] = await self.organization.balances()
        return state.spent_microusd, state.held_microusd

    async def given_back(self, held: int = 0) -> bool:
        """Return whether the organization holds so much."""
        return (await self.shared()) == (0, held)


@pytest.fixture
async def desk(store: Store) -> AsyncIterator[Desk]:
    """Admit calls."""
    async with Background(grace_s=5) as background:
        yield Desk(store, background)


async def test_a_call_is_held_in_both(desk: Desk) -> None:
    """For all of its pictures; the answer knows all budgets."""
    admitted = await desk.admitting.admit(
        an_admission("task1", team=OWN, images=2, hold_microusd=30)
    )

    assert isinstance(admitted, Admitted)
    assert (0, 60) == await desk.shared()
    assert {("own", 40), ("shared", 90)} == {
        (state.name, state.remaining_microusd) for state in admitted.budgets
    }


async def test_what_was_spent_before_the_budget_counts_for_the_first_call(
    desk: Desk, store: Store
) -> None:
    """A gateway without a budget of the organization told it nothing; it knows before it holds."""
    journal = a_journal(store)
    task = (await admitted(journal, an_admission("before", hold_microusd=100))).task
    await journal.conclude(task, await submitted(journal, task), finished(100))

    with pytest.raises(BudgetExceeded, match="organization"):
        await desk.admitting.admit(an_admission("task1", hold_microusd=60))
    assert (100, 0) == await desk.shared()


async def test_what_the_team_refuses_goes_back(desk: Desk) -> None:
    """The organization had room, and has it again."""
    with pytest.raises(BudgetExceeded, match="own"):
        await desk.admitting.admit(an_admission("task1", team=OWN, hold_microusd=120))

    assert await eventually(desk.given_back)


async def test_what_the_organization_refuses_reaches_no_team(desk: Desk, store: Store) -> None:
    """Nothing is written, nothing is held."""
    with pytest.raises(BudgetExceeded, match="organization"):
        await desk.admitting.admit(an_admission("task1", hold_microusd=151))

    assert {} == await record_in(store)


async def test_a_retry_joins_and_gives_its_hold_back(desk: Desk) -> None:
    """Also when the organization has nothing left for a call of its own."""
    call, retry = a_call(), a_call("req_2", count=1)
    await desk.admitting.admit(an_admission("task1", hold_microusd=70, call=call))
    joined = await desk.admitting.admit(an_admission("task2", hold_microusd=70, call=retry))
    broke = a_call("req_3", count=2)
    again = await desk.admitting.admit(an_admission("task3", hold_microusd=100, call=broke))

    async def only_the_first() -> bool:
        return await desk.given_back(70)

    assert [Joined("task1"), Joined("task1")] == [joined, again]
    assert await eventually(only_the_first)


async def test_an_admission_nobody_heard_of_is_given_up_in_both(
    store: Store, troubled: TroubledStore
) -> None:
    """The team's part by its script, then the organization's; both can be used again."""
    async with Background(grace_s=5) as background:
        desk = Desk(store, background)
        deaf = Admitting(
            a_journal(troubled), desk.organization, desk.catch_up, background, SystemClock()
        )
        troubled.losing.append("admit")
        with pytest.raises(StoreUnavailable):
            await deaf.admit(an_admission("task1", team=OWN, hold_microusd=60))

        assert await eventually(desk.given_back)
        assert {} == await record_in(store)
