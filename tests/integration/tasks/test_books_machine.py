"""The books against a plain model: any order of admissions, ends, repetitions and losses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.background import SystemClock
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.limits import Budget, Period, Quotas
from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis
from gateway.domain.task import Event, SubmitOrder, Task
from gateway.store.client import Store
from gateway.tasks.interface import Admission, Ending, OwnershipLostError, RecordMissingError
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.valkey import ValkeyProcess

TEAM_LIMIT, KEY_LIMIT = 1_000, 600
KEYS = ("ci", "web")
EXAMPLES, STEPS = 60, 50


def admission(number: int, key: str, hold: int) -> Admission:
    """Ask for one picture with one of two keys, each with a budget of its own."""
    month = Budget("month", TEAM_LIMIT, Period.MONTH)
    team = Team(TeamId("design"), ("*",), (month,), quotas=Quotas(in_flight_images=1_000))
    return Admission(
        id=TaskId(f"task{number}"),
        caller=Caller(team, ApiKey(key, budgets=(Budget("total", KEY_LIMIT, Period.TOTAL),))),
        user="",
        images=1,
        model="gpt-image-1.5",
        size="1024x1024",
        quality="low",
        hold_microusd=hold,
        order=SubmitOrder("evolink", "evolink:1", {}),
    )


@dataclass
class Kept:
    """What the model knows of a task."""

    key: str
    hold: int
    admission: Admission
    task: Task | None = None
    cost: int = 0
    state: str = "unheard"


class Books(RuleBasedStateMachine):
    """Drives the scripts and the model side by side."""

    url = ""
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.store = Store(self.url, timeout_ms=5_000)
        self.journal = RedisTaskStore(self.store, SystemClock(), owner="replica_1", keep_ms=600_000)
        self.run(self.store.command_everywhere("FLUSHALL"))
        self.kept: list[Kept] = []
        self.overrun = 0

    def run(self, work: object) -> object:
        """Run a coroutine to its end."""
        return self.runner.run(work)  # type: ignore[arg-type]

    def teardown(self) -> None:
        """Close the connection."""
        self.run(self.store.__aexit__())
        self.runner.close()

    def held(self, key: str = "") -> int:
        """Return what the model says is held, of one key or of all."""
        return sum(
            kept.hold
            for kept in self.kept
            if kept.state in {"held", "begun", "submitted"} and key in {"", kept.key}
        )

    def spent(self, key: str = "") -> int:
        """Return what the model says is spent, of one key or of all."""
        return sum(kept.cost for kept in self.kept if key in {"", kept.key})

    @rule(target=tasks, key=st.sampled_from(KEYS), hold=st.integers(1, 400))
    def admit(self, key: str, hold: int) -> Kept:
        """A call is admitted exactly when it fits into both budgets."""
        kept = Kept(key, hold, admission(len(self.kept), key, hold))
        self.kept.append(kept)
        fits = (
            self.spent() + self.held() + hold <= TEAM_LIMIT
            and self.spent(key) + self.held(key) + hold <= KEY_LIMIT
        )
        try:
            kept.task = self.run(self.journal.admit(kept.admission)).task  # type: ignore[attr-defined]
        except BudgetExceeded:
            assert not fits
            kept.state = "refused"
        else:
            assert fits
            kept.state = "held"
        return kept

    @rule(kept=tasks)
    def admit_again(self, kept: Kept) -> None:
        """Repeating an admission that ran changes nothing; one that was given up stays so."""
        if kept.state in {"refused", "gone"}:
            return
        if kept.state == "given up":
            try:
                self.run(self.journal.admit(kept.admission))
            except StoreUnavailable:
                return
            raise AssertionError("a given-up admission was let in")
        self.run(self.journal.admit(kept.admission))

    @rule(kept=tasks)
    def give_up(self, kept: Kept) -> None:
        """Giving up releases what is only held, and nothing else."""
        if kept.state == "refused":
            return
        self.run(self.journal.give_up(kept.admission))
        if kept.state == "held":
            kept.state = "given up"

    @rule(kept=tasks)
    def begin(self, kept: Kept) -> None:
        """Only a held render can begin; a repetition by the winner is fine."""
        if kept.task is None or kept.state not in {"held", "begun"}:
            return
        attempt = f"run_{kept.admission.id}"
        if kept.state == "held":
            kept.task = self.run(self.journal.begin_submit(kept.task, attempt))  # type: ignore[assignment]
            kept.state = "begun"

    @rule(kept=tasks)
    def not_sent(self, kept: Kept) -> None:
        """A proven non-connection puts a render back, with its hold."""
        if kept.task is not None and kept.state == "begun":
            kept.task = self.run(self.journal.record_not_sent(kept.task))  # type: ignore[assignment]
            kept.state = "held"

    @rule(kept=tasks)
    def submitted(self, kept: Kept) -> None:
        """The upstream's id is noted."""
        if kept.task is not None and kept.state == "begun":
            kept.task = self.run(self.journal.record_submitted(kept.task, "up-1"))  # type: ignore[assignment]
            kept.state = "submitted"

    @rule(kept=tasks, cost=st.integers(0, 500), times=st.integers(1, 3))
    def conclude(self, kept: Kept, cost: int, times: int) -> None:
        """A hold ends once; what it cost is booked, also above the hold."""
        if kept.task is None or kept.state != "submitted":
            return
        charge = Charge(cost, {"image_output": cost}, ChargeBasis.CREDITS) if cost else NO_CHARGE
        for _ in range(times):
            self.run(
                self.journal.conclude(
                    kept.task, Ending(Event.FINISH if cost else Event.FAIL, charge)
                )
            )
        kept.state, kept.cost = "ended", cost
        self.overrun += max(cost - kept.hold, 0)

    @rule(kept=tasks)
    def conclude_too_early(self, kept: Kept) -> None:
        """A render that was not submitted cannot be finished."""
        if kept.task is None or kept.state != "held":
            return
        ahead = kept.task
        ahead = Task(**{name: getattr(ahead, name) for name in ahead.__slots__})
        render = ahead.render.after(Event.BEGIN, attempt_id="x").after(
            Event.SUBMIT, upstream_id="y"
        )
        forged = Task(
            **{
                name: render if name == "render" else getattr(ahead, name)
                for name in ahead.__slots__
            }
        )
        try:
            self.run(
                self.journal.conclude(
                    forged,
                    Ending(Event.FINISH, Charge(1, {"image_output": 1}, ChargeBasis.CREDITS)),
                )
            )
        except OwnershipLostError:
            return
        raise AssertionError("a queued render was settled")

    @rule(kept=consumes(tasks))
    @precondition(lambda self: self.kept)
    def lose_record(self, kept: Kept) -> None:
        """The store loses one record and keeps the windows; the owner notices at the end."""
        if kept.task is None or kept.state != "submitted":
            return
        self.run(self.store.command("DEL", f"{{t:design}}:task:{kept.admission.id}"))
        try:
            self.run(self.journal.conclude(kept.task, Ending(Event.FAIL, NO_CHARGE)))
        except RecordMissingError:
            # Its hold cannot be told from others' any more; what is lost stays held.
            kept.state = "submitted"
            kept.task = None
            return
        raise AssertionError("a lost record was settled")

    @invariant()
    def windows_are_what_the_model_says(self) -> None:
        """Every counter equals the model's after every step, and holds never pass a limit."""
        expected = {"team": (self.spent(), self.held())} | {
            key: (self.spent(key), self.held(key)) for key in KEYS
        }
        found = dict.fromkeys(expected, (0, 0))
        keys = self.run(self.store.command("KEYS", "{t:design}:budget:*"))
        for key in keys:  # type: ignore[attr-defined]
            spent, held = self.run(self.store.command("HMGET", key, "spent", "held"))  # type: ignore[misc]
            parts = key.decode().split(":")
            found[parts[4] or "team"] = (int(spent), int(held))

        assert expected == found
        assert self.spent() + self.held() <= TEAM_LIMIT + self.overrun


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
