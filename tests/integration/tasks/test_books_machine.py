"""The books against a plain model: any order of admissions, ends, new budgets and losses."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gateway.domain.accounts import ApiKey, Team
from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.limits import Budget, Period, Quotas
from gateway.domain.task import Event, Render, Task
from gateway.ledger.audit import verify
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from gateway.tasks.interface import Admission, OwnershipLostError, RecordMissingError
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import TEAM_ID, an_admission
from tests.support.journal import a_journal, admitted, failed, finished
from tests.support.valkey import ValkeyProcess

T = TypeVar("T")

TEAM_LIMIT, KEY_LIMIT = 1_000, 600
KEYS = ("ci", "web")
USERS = ("aaaa", "bbbb")
EXAMPLES, STEPS = 60, 50

INDEXES = st.integers(0, 2)


#: What everybody has from the beginning: scope and budget.
FIRST = (
    ("team", Budget("month", TEAM_LIMIT, Period.MONTH)),
    ("key", Budget("total", KEY_LIMIT, Period.TOTAL)),
)


class Place(NamedTuple):
    """Whose window of which budget it is."""

    scope: str
    owner: str
    name: str


#: The team's window of the first budget.
TEAMS = Place("team", "", "month")


@dataclass
class KeptRender:
    """What the model knows of a render."""

    hold: int
    raised: bool = False
    state: str = "queued"
    cost: int = 0


@dataclass
class Kept:
    """What the model knows of a task; `lost` ones have no record any more, and stay held."""

    key: str
    user: str
    admission: Admission
    renders: list[KeptRender]
    places: set[Place] = field(default_factory=set)
    task: Task | None = None
    owner: int = 0
    given_up: bool = False
    lost: bool = False
    refused: bool = False

    @property
    def held(self) -> int:
        """What is held for it."""
        if self.given_up or self.refused:
            return 0
        return sum(render.hold for render in self.renders if render.state != "ended")

    @property
    def cost(self) -> int:
        """What was booked for it."""
        return sum(render.cost for render in self.renders)

    @property
    def is_under_way(self) -> bool:
        """Whether a window that is opened now finds it."""
        return not self.lost and any(render.state != "ended" for render in self.renders)

    def is_of(self, place: Place) -> bool:
        """Whether a budget of this scope and owner counts it."""
        return place.owner == {"team": "", "key": self.key, "user": self.user}[place.scope]

    def in_state(self, index: int, *states: str) -> Render | None:
        """Return a render as the product knows it, when the model has it in one of these states."""
        if self.task is None or self.lost or self.given_up or index >= len(self.renders):
            return None
        return self.task.renders[index] if self.renders[index].state in states else None


class Books(RuleBasedStateMachine):
    """Drives the scripts and the model side by side."""

    url = ""
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.store = Store(self.url, timeout_ms=5_000)
        self.journals = [a_journal(self.store, owner=f"replica_{number}") for number in range(3)]
        self.kept: list[Kept] = []
        self.budgets: list[tuple[str, Budget]] = list(FIRST)
        self.opened: set[Place] = set()
        self.overrun = 0

    @initialize()
    def begin_with_nothing(self) -> None:
        """Each history has a store of its own."""
        self.run(self.store.command_everywhere("FLUSHALL"))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.runner.run(work)

    def teardown(self) -> None:
        """Close the connection."""
        self.run(self.store.__aexit__())
        self.runner.close()

    def journal(self, kept: Kept) -> RedisTaskStore:
        """Return the journal of the replica that sees to a task."""
        return self.journals[kept.owner]

    def held(self, place: Place) -> int:
        """Return what the model says is held in a window: of tasks that are known to be in it."""
        return sum(kept.held for kept in self.kept if place in kept.places)

    def spent(self, place: Place) -> int:
        """Return what the model says is spent in a window: all that its owner ever spent."""
        return sum(kept.cost for kept in self.kept if kept.is_of(place))

    def admission(
        self, known: list[tuple[str, Budget]], key: str, user: str, hold: int, images: int
    ) -> Admission:
        """Ask for pictures by the budgets that a gateway knows."""
        budgets = {
            scope: tuple(budget for owned, budget in known if owned == scope)
            for scope in ("team", "key", "user")
        }
        quotas = Quotas(in_flight_images=1_000)
        return an_admission(
            f"task{len(self.kept)}",
            team=Team(
                TEAM_ID, ("*",), budgets["team"], quotas=quotas, user_budgets=budgets["user"]
            ),
            key=ApiKey(key, budgets=budgets["key"]),
            user=user,
            images=images,
            hold_microusd=hold,
        )

    @rule(
        scope=st.sampled_from(["team", "key", "user"]),
        limit=st.integers(1, TEAM_LIMIT),
        period=st.sampled_from([Period.MONTH, Period.TOTAL]),
    )
    def add_budget(self, scope: str, limit: int, period: Period) -> None:
        """A budget comes while pictures are being made; the next call of its scope opens it."""
        if len(self.budgets) < len(FIRST) + 3:
            self.budgets.append((scope, Budget(f"new{len(self.budgets)}", limit, period)))

    @rule(
        target=tasks,
        key=st.sampled_from(KEYS),
        user=st.sampled_from(USERS),
        hold=st.integers(1, 200),
        images=st.integers(1, 3),
        is_late=st.booleans(),
    )
    def admit(self, key: str, user: str, hold: int, images: int, is_late: bool) -> Kept:
        """A call is admitted exactly when all of it fits into every budget, beside all others.

        A gateway that is late with the settings knows those of the beginning, and counts in all.
        """
        known = list(FIRST) if is_late else self.budgets
        wanted = self.admission(known, key, user, hold, images)
        kept = Kept(key, user, wanted, [KeptRender(hold) for _ in range(images)], refused=True)
        owners = {"team": "", "key": key, "user": user}
        limits = {
            Place(scope, owners[scope], budget.name): budget.limit_microusd
            for scope, budget in known
        }
        for place in limits.keys() - self.opened:
            self.open(place)
        price = hold * images
        fits = all(
            self.spent(place) + self.held(place) + price <= limit for place, limit in limits.items()
        )
        self.kept.append(kept)
        try:
            kept.task = self.run(admitted(self.journal(kept), wanted)).task
        except BudgetExceeded:
            assert not fits
        else:
            assert fits
            kept.refused = False
            kept.places = {place for place in self.opened if kept.is_of(place)}
        return kept

    def open(self, place: Place) -> None:
        """Take into a window what its owner has under way."""
        self.opened.add(place)
        for kept in self.kept:
            if kept.is_of(place) and kept.is_under_way:
                kept.places.add(place)

    @rule(kept=tasks)
    def admit_again(self, kept: Kept) -> None:
        """Repeating an admission that ran changes nothing; one that was given up stays so."""
        if kept.refused or kept.lost or kept.owner:
            return
        try:
            self.run(self.journal(kept).admit(kept.admission))
        except StoreUnavailable:
            assert kept.given_up
        else:
            assert not kept.given_up

    @rule(kept=tasks)
    def give_up(self, kept: Kept) -> None:
        """Giving up releases what is only held, and nothing else."""
        if kept.refused or kept.lost or kept.owner:
            return
        self.run(self.journal(kept).give_up(kept.admission))
        if all(render.state == "queued" for render in kept.renders):
            kept.given_up = True

    @rule(kept=tasks, index=INDEXES)
    def begin(self, kept: Kept, index: int) -> None:
        """Only a queued render can begin."""
        if render := kept.in_state(index, "queued"):
            attempt = f"run_{kept.admission.id}_{index}_{render.tries}"
            self.moved(kept, index, "begun", self.begun(kept, render, attempt))

    def begun(self, kept: Kept, render: Render, attempt: str) -> Render:
        """Win the right to post a render, and hear it twice."""
        assert kept.task is not None
        journal, task = self.journal(kept), kept.task
        first = self.run(journal.begin_submit(task, render, attempt))
        assert first == self.run(journal.begin_submit(task, render, attempt))
        return first

    @rule(kept=tasks, index=INDEXES)
    def not_sent(self, kept: Kept, index: int) -> None:
        """A proven non-connection puts a render back, with its hold."""
        if (render := kept.in_state(index, "begun")) and kept.task is not None:
            back = self.run(self.journal(kept).record_not_sent(kept.task, render))
            self.moved(kept, index, "queued", back)

    @rule(kept=tasks, index=INDEXES)
    def submitted(self, kept: Kept, index: int) -> None:
        """The upstream's id is noted."""
        if (render := kept.in_state(index, "begun")) and kept.task is not None:
            noted = self.run(self.journal(kept).record_submitted(kept.task, render, "up-1"))
            self.moved(kept, index, "submitted", noted)

    @rule(kept=tasks, index=INDEXES)
    def try_again(self, kept: Kept, index: int) -> None:
        """What failed at no charge is queued again, with its hold."""
        if (render := kept.in_state(index, "submitted")) and kept.task is not None:
            back = self.run(self.journal(kept).retry(kept.task, render))
            self.moved(kept, index, "queued", back)

    def moved(self, kept: Kept, index: int, state: str, render: Render) -> None:
        """Note where a render is now."""
        assert kept.task is not None
        kept.task = kept.task.with_render(render)
        kept.renders[index].state = state

    @rule(kept=tasks, index=INDEXES, extra=st.integers(1, 300), times=st.integers(1, 2))
    def raise_hold(self, kept: Kept, index: int, extra: int, times: int) -> None:
        """A hold is raised once, whatever the budgets say."""
        render = kept.in_state(index, "submitted", "ended")
        if render is None or kept.task is None:
            return
        for _ in range(times):
            self.run(self.journal(kept).raise_hold(kept.task, render, extra))
        known = kept.renders[index]
        if known.state == "submitted" and not known.raised:
            known.hold, known.raised = known.hold + extra, True
            self.overrun += extra
            self.moved(kept, index, "submitted", replace(render, raised_microusd=extra))

    @rule(kept=tasks, index=INDEXES, cost=st.integers(0, 500), times=st.integers(1, 3))
    def conclude(self, kept: Kept, index: int, cost: int, times: int) -> None:
        """A hold ends once; what it cost is booked, also above the hold."""
        render = kept.in_state(index, "submitted")
        if render is None or kept.task is None:
            return
        ending = finished(cost) if cost else failed()
        ends = [
            self.run(self.journal(kept).conclude(kept.task, render, ending)) for _ in range(times)
        ]
        self.moved(kept, index, "ended", ends[0].render)
        kept.renders[index].cost = cost
        self.overrun += max(cost - kept.renders[index].hold, 0)

    @rule(kept=tasks, index=INDEXES)
    def conclude_too_early(self, kept: Kept, index: int) -> None:
        """A render that was not submitted cannot be finished."""
        render = kept.in_state(index, "queued")
        if render is None or kept.task is None:
            return
        ahead = render.after(Event.BEGIN, attempt_id="x").after(Event.SUBMIT, upstream_id="y")
        self.refused_to(kept, self.journal(kept), kept.task, ahead)

    def refused_to(self, kept: Kept, journal: RedisTaskStore, task: Task, render: Render) -> None:
        """Try to end a render, in vain."""
        try:
            self.run(journal.conclude(task, render, finished(1)))
        except OwnershipLostError:
            return
        raise AssertionError(f"{kept.admission.id} was settled")

    @rule(kept=tasks, index=INDEXES, by=st.integers(1, 2))
    def take_over(self, kept: Kept, index: int, by: int) -> None:
        """The new owner reads what the old one knew, and the old one decides nothing any more."""
        if kept.task is None or kept.lost or kept.given_up:
            return
        old, task = self.journal(kept), kept.task
        kept.owner = (kept.owner + by) % 3
        taken = self.run(self.journal(kept).take(task.team, task.id, owner=task.owner))
        assert taken is not None
        assert task.epoch + 1 == taken.epoch
        kept.task = taken
        self.same_but_for_windows(kept, task, taken)
        if render := kept.in_state(index, "submitted"):
            self.refused_to(kept, old, task, render)

    def same_but_for_windows(self, kept: Kept, task: Task, taken: Task) -> None:
        """Compare what was in memory with what is written; windows that were made since are new."""
        assert task.renders == taken.renders
        assert task.hold.amount_microusd == taken.hold.amount_microusd
        assert task.hold.windows == taken.hold.windows[: len(task.hold.windows)]
        places = [Place(each.scope, each.owner, each.name) for each in taken.hold.windows]
        assert sorted(kept.places) == sorted(places)

    @rule(kept=consumes(tasks))
    def lose_record(self, kept: Kept) -> None:
        """The store loses one record and keeps the windows; the owner notices at the end."""
        render = kept.in_state(0, "submitted")
        if render is None or kept.task is None:
            return
        self.run(self.store.command("DEL", f"{{t:design}}:task:{kept.admission.id}"))
        try:
            self.run(self.journal(kept).conclude(kept.task, render, failed()))
        except RecordMissingError:
            # Its holds cannot be told from others' any more; what is lost stays held.
            kept.lost = True
            return
        raise AssertionError("a lost record was settled")

    @rule()
    def audit(self) -> None:
        """The ledger, read from its beginning, says what every counter and every sum says."""
        assert () == self.run(verify(RedisBooks(self.store), TEAM_ID)).findings

    @invariant()
    def windows_are_what_the_model_says(self) -> None:
        """Every counter equals the model's after every step, and holds never pass a limit."""
        expected = {place: (self.spent(place), self.held(place)) for place in self.opened}

        assert expected == self.run(self.found())
        assert sum(expected.get(TEAMS, ())) <= TEAM_LIMIT + self.overrun

    async def found(self) -> dict[Place, tuple[int, int]]:
        """Return spent and held of each window."""
        found = {}
        keys = await self.store.command("KEYS", "{t:design}:budget:*")
        assert isinstance(keys, list)
        for key in keys:
            spent, held = await self.store.command("HMGET", key, "spent", "held")  # type: ignore[misc, arg-type]
            place = Place(*key.decode().split(":")[3:6])  # type: ignore[union-attr]
            found[place] = (int(spent), int(held))  # type: ignore[arg-type]
        return found


def test_any_history_leaves_the_books_as_the_model(valkey_process: ValkeyProcess) -> None:
    """Thousands of random steps: every counter is what a plain model says, after each."""
    Books.url = valkey_process.url
    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
