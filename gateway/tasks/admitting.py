"""The way of a call into the books: the organization's purse first, then the team's, or neither.

Money is held in the organization's slot before the team is asked, and given back when the team
refuses; docs/decisions/007-organization.md walks through every crash. Where there are no budgets
of the organization, its part costs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gateway.background import Background
from gateway.domain.clock import Clock
from gateway.domain.errors import BudgetExceeded, BudgetState, GatewayError, StoreUnavailable
from gateway.domain.ids import TaskId
from gateway.ledger.catch_up import CatchUp
from gateway.ledger.organization import Organization
from gateway.tasks.admissions import ADMIT_WITHIN_MS
from gateway.tasks.interface import (
    AccountChangedError,
    Admission,
    Admitted,
    Joined,
    NotJoinedError,
    TaskStore,
)
from gateway.tasks.patience import until_stored


class Admitting:
    """Admits calls; what is left over when one is refused is given back in the background."""

    def __init__(
        self,
        store: TaskStore,
        organization: Organization,
        catch_up: CatchUp,
        background: Background,
        clock: Clock,
    ) -> None:
        self._store = store
        self._organization = organization
        self._catch_up = catch_up
        self._background = background
        self._clock = clock

    async def admit(self, admission: Admission) -> Admitted | Joined:
        """Admit a call, or join the task it is a retry of. Raises what `TaskStore.admit` raises."""
        try:
            shared = await self._reserve(admission)
        except BudgetExceeded as refusal:
            return await self._joined_or(admission, refusal)
        except StoreUnavailable:
            self._release(admission.id)
            raise
        try:
            admitted = await self._store.admit(admission)
        except StoreUnavailable:
            self._background.step("give_up", self._give_up(admission))
            raise
        except (GatewayError, AccountChangedError):
            self._release(admission.id)
            raise
        if isinstance(admitted, Joined):
            self._release(admission.id)
            return admitted
        return replace(admitted, budgets=(*admitted.budgets, *shared))

    async def join(self, admission: Admission) -> Joined:
        """Join the task this call is a retry of; StoreUnavailable where there is none.

        For a store that may have forgotten the task, until its owner has written it again.
        """
        try:
            joined = await self._store.admit(replace(admission, only_join=True))
        except StoreUnavailable:
            self._background.step("give_up", self._give_up(admission))
            raise
        except NotJoinedError:
            raise StoreUnavailable from None
        if isinstance(joined, Joined):
            return joined
        raise AssertionError("a call that may only join has become a task")

    async def _reserve(self, admission: Admission) -> tuple[BudgetState, ...]:
        await self._catch_up.done()
        return await self._organization.reserve(
            admission.id,
            admission.caller.team.id,
            admission.hold_microusd * admission.images,
            self._clock.now_ms() + ADMIT_WITHIN_MS,
        )

    async def _joined_or(self, admission: Admission, refusal: BudgetExceeded) -> Joined:
        """Join what is paid for already; no more money may be held for a task of its own."""
        try:
            joined = await self._store.admit(replace(admission, only_join=True))
        except NotJoinedError:
            raise refusal from None
        if isinstance(joined, Joined):
            return joined
        raise refusal

    async def _give_up(self, admission: Admission) -> None:
        begun = await until_stored(partial(self._store.give_up, admission))
        if not begun:
            await until_stored(partial(self._organization.release, admission.id))

    def _release(self, task: TaskId) -> None:
        if self._organization.has_budgets:
            release = partial(self._organization.release, task)
            self._background.step("release", until_stored(release))
