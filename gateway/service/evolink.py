"""What EvoLink's own clients ask of their account, told of a team and its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gateway.domain.accounts import Caller
from gateway.domain.catalog import Offer
from gateway.domain.clock import Clock
from gateway.domain.credits import credits_of
from gateway.domain.errors import BudgetState, InvalidRequest, NotFound
from gateway.domain.limits import Scope
from gateway.domain.task import Task
from gateway.domain.unified_ids import PREFIX, task_id_of, unified_id
from gateway.ledger.holds import tightest
from gateway.service.evolink_json import WORDS, Seen, seen
from gateway.service.tasks import MAX_PAGE, Status, TaskService, status_of
from gateway.service.usage import UsageService

#: The list looks at this many tasks, the newest.
LOOKED_AT = 200

#: What is said to be left where no budget limits it: EvoLink's filler (protocols/evolink.md §8).
UNLIMITED = Decimal("99999.9999")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks a list is to have; an empty text is any. Pages count from 1."""

    status: str = ""
    type: str = ""
    model: str = ""
    page: int = 1
    page_size: int = 20

    def fits(self, task: Task) -> bool:
        """Tell whether a task is to be in the list."""
        if self.type not in ("", "image") or self.model not in ("", task.model):
            return False
        status = status_of(task)
        match self.status:
            case "":
                return True
            case "processing":
                # With those that are queued (protocols/evolink.md §4.1).
                return status in (Status.QUEUED, Status.IN_PROGRESS)
            case "cancelled":
                return status is Status.CANCELLED
        return WORDS[status] == self.status


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list, and how many tasks all pages have together."""

    tasks: tuple[Task, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left and what was used, in credits; `unlimited` when no budget is the limit."""

    remaining: Decimal
    used: Decimal
    unlimited: bool


@dataclass(frozen=True, slots=True)
class Credits:
    """The balance of a key, and that of its team."""

    key: Balance
    team: Balance


class EvolinkService:
    """Reads a team's tasks and money in EvoLink's terms. Every method raises StoreUnavailable."""

    def __init__(
        self,
        *,
        tasks: TaskService,
        usage: UsageService,
        clock: Clock,
        find_offer: Callable[[Task], Offer | None],
    ) -> None:
        self._tasks = tasks
        self._usage = usage
        self._clock = clock
        self._find_offer = find_offer

    def seen(self, task: Task) -> Seen:
        """Return a task as it is at this moment."""
        return seen(task, self._clock, self._find_offer(task))

    async def show(self, caller: Caller, unified: str) -> Task:
        """Return a task of the caller's team by its id in EvoLink's form.

        Raises InvalidRequest for a text that is none, NotFound for every other task.
        """
        if not unified.startswith(PREFIX):
            raise InvalidRequest(
                f"Invalid task ID format, must start with '{PREFIX}'",
                param="task_id",
                code="invalid_task_id",
            )
        task_id = task_id_of(unified)
        if task_id is not None:
            task = await self._tasks.show(caller, task_id)
            if unified_id(task.id, task.created_ms) == unified:
                return task
        raise NotFound("The requested task could not be found", code="task_not_found")

    async def batch(self, caller: Caller, unified: Sequence[str]) -> tuple[Task, ...]:
        """Return those of these tasks that there are."""
        found = []
        for each in unified:
            try:
                found.append(await self.show(caller, each))
            except (InvalidRequest, NotFound):
                continue
        return tuple(found)

    async def listed(self, caller: Caller, wanted: Wanted) -> Page:
        """Return a page of the newest tasks that are wanted, out of the last `LOOKED_AT`."""
        fitting: list[Task] = []
        after = ""
        for _ in range(LOOKED_AT // MAX_PAGE):
            tasks = await self._tasks.newest(caller, after=after, limit=MAX_PAGE)
            fitting += [task for task in tasks if wanted.fits(task)]
            if not tasks:
                break
            after = tasks[-1].id
        first = (wanted.page - 1) * wanted.page_size
        return Page(tuple(fitting[first : first + wanted.page_size]), len(fitting))

    async def credits(self, caller: Caller) -> Credits:
        """Return what the budgets of the caller's key and of its team leave, the tightest of each.

        Where there is none, what was used is what was spent in this month.
        """
        usage = await self._usage.own(caller, "", "")
        spend = usage.by_key.get(caller.key_name)
        of_key = [state for state in usage.budgets if state.scope == Scope.KEY]
        of_team = [state for state in usage.budgets if state.scope != Scope.KEY]
        return Credits(
            key=_balance(of_key, 0 if spend is None else spend.cost_microusd),
            team=_balance(of_team, usage.total.cost_microusd),
        )


def _balance(budgets: Sequence[BudgetState], spent_microusd: int) -> Balance:
    budget = tightest(budgets)
    if budget is None:
        return Balance(UNLIMITED, credits_of(spent_microusd), unlimited=True)
    return Balance(
        credits_of(budget.remaining_microusd), credits_of(budget.spent_microusd), unlimited=False
    )
