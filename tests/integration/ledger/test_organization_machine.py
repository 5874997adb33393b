"""The organization's purse against a plain model: any order of steps, crashes and repetitions.

A crash is a step that never follows another, so nothing needs to be killed: every sequence of steps
of any gateway may stop anywhere here and be taken up by a sweep or a flush.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Any, TypeVar

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gateway.background import SystemClock
from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.ids import ORGANIZATION, TaskId, TeamId
from gateway.domain.limits import Budget, Period
from gateway.ledger.audit import verify
from gateway.ledger.organization import Organization, Part
from gateway.ledger.orphans import Orphans
from gateway.ledger.outbox import Outbox, outbox_field, raised, settlement
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from gateway.store.keyspace import organization_hold_key, outbox_key
from gateway.store.scripts import load_script
from tests.support.organization import TeamSide, lives_ms, purse
from tests.support.valkey import ValkeyProcess

T = TypeVar("T")

CLOCK = SystemClock()
TEAMS = (TeamId("design"), TeamId("web"))
DAY_LIMIT, EVER_LIMIT = 600, 2_000
DAY_MS = 86_400_000
#: So that every hold is due for a sweep.
AT_ONCE_MS = -(10**9)
EXAMPLES, STEPS = 40, 40


@dataclass
class Known:
    """What the model knows of a task: its parts' shares, and what became of them."""

    id: TaskId
    team: TeamId
    shares: list[int]
    created_ms: int
    #: 'none', 'held' or 'over', as the organization has it.
    hold: str = "none"
    windows: tuple[str, ...] = ()
    open: int = 0
    raises: dict[int, int] = field(default_factory=dict)
    #: 'none', 'there', 'gone' (expired after its end) or 'refused' (for good).
    record: str = "none"
    #: Cost of each part that ended in the team's slot, and those the organization has booked.
    ended: dict[int, int] = field(default_factory=dict)
    booked: set[int] = field(default_factory=set)
    #: Entries in the outbox, and those that some gateway has read and not yet dealt with.
    told: dict[int, str] = field(default_factory=dict)
    read: dict[int, tuple[str, int]] = field(default_factory=dict)


class Purse(RuleBasedStateMachine):
    """Drives scripts and model side by side."""

    url = ""
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.store = Store(self.url, timeout_ms=5_000)
        self.run(self.store.command_everywhere("FLUSHALL"))
        self.team_side = TeamSide(self.store)
        self.acknowledge_script = load_script("ledger/lua/outbox_acknowledge.lua")
        self.known: list[Known] = []
        self.spent: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        #: What was booked, by when its task was admitted: what a new window starts from.
        self.sums: list[tuple[int, int]] = []
        #: What teams spent and told nobody, by quarters of an hour; then what is in their outboxes.
        self.untold: dict[TeamId, Counter[int]] = {team: Counter() for team in TEAMS}
        self.gathered: dict[TeamId, list[Counter[int]]] = {team: [] for team in TEAMS}
        self.spent_untold = 0
        self.budgets: tuple[Budget, ...] = ()
        self.budgets_are(12, with_ever=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.runner.run(work)

    def teardown(self) -> None:
        """Let everything come to its end; then the books agree and nothing is held."""
        try:
            self.all_ends()
        finally:
            self.run(self.store.__aexit__())
            self.runner.close()

    @rule(hours=st.sampled_from([6, 12, 18]), with_ever=st.booleans())
    def budgets_are(self, hours: int, *, with_ever: bool) -> None:
        """The settings change: the day begins elsewhere, so the windows are others."""
        hour_now = CLOCK.now_ms() // 3_600_000 % 24
        # Far from midnight there, so that the day does not change under the test.
        zone = timezone(timedelta(hours=hours - hour_now))
        day = Budget("day", DAY_LIMIT, Period.DAY, zone)
        ever = Budget("ever", EVER_LIMIT, Period.TOTAL)
        self.budgets = (day, ever) if with_ever else (day,)
        self.organization = Organization(self.store, CLOCK, self.budgets)
        self.outbox = Outbox(self.store, self.organization, CLOCK)
        self.orphans = Orphans(self.store, self.organization, self.outbox, CLOCK)

    def windows_at(self, moment_ms: int) -> dict[str, tuple[int, int]]:
        """Return the windows of a moment by name, each with its beginning and its limit."""
        found = {}
        for budget in self.budgets:
            if budget.per is Period.TOTAL:
                found["ever:0"] = (0, EVER_LIMIT)
                continue
            offset = budget.timezone.utcoffset(None)
            assert offset is not None
            offset_ms = round(offset.total_seconds()) * 1000
            start_ms = moment_ms - (moment_ms + offset_ms) % DAY_MS
            found[f"day:{start_ms}"] = (start_ms, DAY_LIMIT)
        return found

    def opened(self, windows: dict[str, tuple[int, int]]) -> None:
        """Let the model open windows that are new: they start from what was spent in them."""
        for name, (start_ms, _) in windows.items():
            if name not in self.spent:
                bucket_ms = start_ms - start_ms % 900_000
                self.spent[name] = sum(cost for at_ms, cost in self.sums if at_ms >= bucket_ms)
                self.held[name] = 0

    @rule(
        target=tasks,
        team=st.sampled_from(TEAMS),
        shares=st.lists(st.integers(0, 200), min_size=1, max_size=3),
        hold=st.sampled_from([True, True, True, False]),
        days_old=st.sampled_from([0, 0, 1, 3]),
    )
    def begin(self, team: TeamId, shares: list[int], days_old: int, *, hold: bool) -> Known:
        """A call comes: it is held when it fits into every budget; one of before has no hold."""
        now_ms = CLOCK.now_ms()
        created_ms = now_ms if hold else now_ms - days_old * DAY_MS
        task = Known(TaskId(f"t{len(self.known)}"), team, shares, created_ms)
        self.known.append(task)
        if not hold:
            task.record = "there"
            assert self.run(self.team_side.admit(team, task.id))
            return task
        windows = self.windows_at(now_ms)
        self.opened(windows)
        fits = all(
            self.spent[name] + self.held[name] + sum(shares) <= limit
            for name, (_, limit) in windows.items()
        )
        try:
            self.run(self.organization.reserve(task.id, team, sum(shares), now_ms + 60_000))
        except BudgetExceeded:
            assert not fits
            task.record = "refused"
            return task
        assert fits
        task.hold, task.windows, task.open = "held", tuple(windows), sum(shares)
        self.held.update(dict.fromkeys(windows, task.open))
        return task

    @rule(task=tasks)
    def reserve_again(self, task: Known) -> None:
        """A repetition, or one that comes late, holds nothing more; one that is over, nothing."""
        if task.hold in {"none", "forgotten"}:
            return
        again = self.organization.reserve(
            task.id, task.team, sum(task.shares), CLOCK.now_ms() + 60_000
        )
        try:
            self.run(again)
        except StoreUnavailable:
            assert task.hold == "over"
        else:
            assert task.hold == "held"

    @rule(task=tasks)
    def admit(self, task: Known) -> None:
        """The team admits what was reserved, unless somebody has given it up."""
        if task.hold == "none" or task.record != "none":
            return
        admitted = self.run(self.team_side.admit(task.team, task.id))
        buried = self.run(self.team_side.buried(task.team, task.id))

        assert admitted is not buried
        assert buried or task.hold == "held"
        task.record = "refused" if buried else "there"

    @rule(task=tasks)
    def refuse(self, task: Known) -> None:
        """The team refuses for good; what was held is given back, perhaps only by a sweep."""
        if task.record == "none":
            task.record = "refused"

    @rule(task=tasks, times=st.integers(1, 2))
    def release(self, task: Known, times: int) -> None:
        """Whoever was refused gives the hold back."""
        if task.record != "refused" or task.hold == "none":
            return
        for _ in range(times):
            self.run(self.organization.release(task.id))
        self.free(task)

    def free(self, task: Known) -> None:
        """Let the model give back all that is open."""
        if task.hold == "held":
            self.held.subtract(dict.fromkeys(task.windows, task.open))
            task.hold, task.open = "over", 0

    @rule(task=tasks, part=st.integers(0, 2), extra=st.integers(1, 300))
    def tell_raise(self, task: Known, part: int, extra: int) -> None:
        """The upstream's estimate is above the hold: the team's slot notes it for us."""
        if task.record == "there" and part < len(task.shares) and part not in task.ended:
            self.tell(task, part, raised(extra))

    @rule(task=tasks, part=st.integers(0, 2), cost=st.integers(0, 400))
    def end_part(self, task: Known, part: int, cost: int) -> None:
        """A render ends: its settlement takes the place of a raise that was not told."""
        if task.record != "there" or part >= len(task.shares) or part in task.ended:
            return
        task.ended[part] = cost
        share = task.shares[part] if task.hold != "none" else 0
        entry = settlement(hold_microusd=share, cost_microusd=cost, created_ms=task.created_ms)
        self.tell(task, part, entry)

    def tell(self, task: Known, part: int, entry: str) -> None:
        """Write an entry as the scripts of the team do."""
        task.told[part] = entry
        self.run(self.team_side.tell(task.team, outbox_field(task.id, str(part)), entry))

    @rule(task=tasks)
    def expire_record(self, task: Known) -> None:
        """The record goes some time after the last render, told or not."""
        if task.record == "there" and len(task.ended) == len(task.shares):
            task.record = "gone"
            self.run(self.team_side.expire(task.team, task.id))

    @rule(task=tasks, part=st.integers(0, 2))
    def read_entry(self, task: Known, part: int) -> None:
        """A gateway reads an entry, and then takes its time."""
        if part in task.told:
            task.read[part] = (task.told[part], CLOCK.now_ms())

    @rule(task=tasks, part=st.integers(0, 2))
    def apply_read(self, task: Known, part: int) -> None:
        """It applies what it read, however often others have done so, and may crash after."""
        if part not in task.read:
            return
        entry, read_ms = task.read[part]
        if entry.startswith('{"raise"'):
            extra = int(entry.removeprefix('{"raise":').removesuffix("}"))
            self.run(self.organization.raise_hold(task.id, str(part), extra))
            self.model_raise(task, part, extra)
            return
        share = task.shares[part] if task.hold != "none" else 0
        self.run(
            self.organization.settle(
                Part(
                    task.team,
                    task.id,
                    str(part),
                    share,
                    task.ended[part],
                    task.created_ms,
                    read_ms,
                )
            )
        )
        self.model_book(task, part)

    @rule(task=tasks, part=st.integers(0, 2))
    def acknowledge_read(self, task: Known, part: int) -> None:
        """It acknowledges what it applied: only what still says the same goes away."""
        if part not in task.read or (part in task.ended and part not in task.booked):
            return
        entry, _ = task.read[part]
        if part not in task.ended and task.raises.get(part, 0) == 0 and task.hold == "held":
            return
        name = outbox_field(task.id, str(part))
        self.run(self.store.run(self.acknowledge_script, [outbox_key(task.team)], [name, entry]))
        if task.told.get(part) == entry:
            del task.told[part]

    @rule(
        team=st.sampled_from(TEAMS),
        cost=st.integers(1, 100),
        days_old=st.sampled_from([0, 0, 1, 3]),
    )
    def spend_untold(self, team: TeamId, cost: int, days_old: int) -> None:
        """A gateway without a budget of the organization settles something."""
        moment_ms = CLOCK.now_ms() - days_old * DAY_MS
        bucket_ms = moment_ms - moment_ms % 900_000
        self.run(self.team_side.spend(team, bucket_ms, cost))
        self.untold[team][bucket_ms] += cost
        self.spent_untold += cost

    @rule(team=st.sampled_from(TEAMS), times=st.integers(1, 2))
    def gather(self, team: TeamId, times: int) -> None:
        """One with budgets has it told; it may crash before it tells."""
        for _ in range(times):
            self.run(self.outbox.gather(team))
        if self.untold[team]:
            self.gathered[team].append(self.untold[team])
            self.untold[team] = Counter()

    @rule(team=st.sampled_from(TEAMS))
    def flush(self, team: TeamId) -> None:
        """Everything a team has to tell is told, and taken away."""
        self.run(self.outbox.flush(team))
        self.model_flush(team)

    def model_flush(self, team: TeamId) -> None:
        """Let the model do the same."""
        for task in self.known:
            if task.team != team:
                continue
            for part, entry in task.told.items():
                if entry.startswith('{"raise"'):
                    extra = int(entry.removeprefix('{"raise":').removesuffix("}"))
                    self.model_raise(task, part, extra)
                else:
                    self.model_book(task, part)
            task.told.clear()
        for spent in self.gathered[team]:
            self.model_untold(spent)
        self.gathered[team].clear()

    def model_untold(self, spent: Counter[int]) -> None:
        """Book it in the sums, and in those windows of today that are opened."""
        names = self.windows_at(CLOCK.now_ms())
        for bucket_ms, cost in spent.items():
            self.sums.append((bucket_ms, cost))
            for name, (start_ms, _) in names.items():
                if name in self.spent and bucket_ms >= start_ms:
                    self.spent[name] += cost

    def model_raise(self, task: Known, part: int, extra: int) -> None:
        """Hold the highest of all raises, as long as the part is not settled."""
        more = extra - task.raises.get(part, 0)
        if task.hold == "held" and part not in task.booked and more > 0:
            task.raises[part] = extra
            task.open += more
            self.held.update(dict.fromkeys(task.windows, more))

    def model_book(self, task: Known, part: int) -> None:
        """Book a part once: in the windows of its hold, else in those of its admission."""
        if part in task.booked:
            return
        task.booked.add(part)
        cost = task.ended[part]
        now_open = self.windows_at(task.created_ms).keys() & self.spent.keys()
        if task.hold == "held":
            self.model_widen(task, now_open)
            taken = task.shares[part] + task.raises.get(part, 0)
            task.open -= taken
            self.held.subtract(dict.fromkeys(task.windows, taken))
            windows = task.windows
            if task.open == 0:
                task.hold = "over"
        else:
            windows = tuple(now_open)
        self.spent.update(dict.fromkeys(windows, cost))
        self.sums.append((task.created_ms, cost))

    def model_widen(self, task: Known, names: Iterable[str]) -> None:
        """Hold what is open of a task in windows of budgets that came after it, too."""
        for name in names:
            if name not in task.windows:
                task.windows += (name,)
                self.held[name] += task.open

    @rule(task=tasks)
    def hold_in_flight(self, task: Known) -> None:
        """Budgets have come: what is in flight is held in theirs."""
        if task.hold != "held" or task.record != "there":
            return
        parts = {str(part): share for part, share in enumerate(task.shares)}
        self.run(self.organization.restore(task.id, task.team, parts, task.created_ms))
        windows = self.windows_at(task.created_ms)
        self.opened(windows)
        self.model_widen(task, windows)

    @rule()
    def recount(self) -> None:
        """Windows that were there learn what was spent while their budget was gone."""
        self.run(self.organization.recount())
        for name, (start_ms, _) in self.windows_at(CLOCK.now_ms()).items():
            if name in self.spent:
                bucket_ms = start_ms - start_ms % 900_000
                known = sum(cost for at_ms, cost in self.sums if at_ms >= bucket_ms)
                self.spent[name] = max(self.spent[name], known)

    @rule()
    def sweep(self) -> None:
        """Whoever looks after old holds frees those without a task, and forgets those told."""
        self.run(self.orphans.sweep(grace_ms=AT_ONCE_MS, settled_for_ms=AT_ONCE_MS))
        for task in self.known:
            if task.hold != "held" or task.record == "there":
                continue
            if task.told:
                self.model_flush(task.team)
            else:
                self.free(task)

    @rule(task=tasks)
    def forget(self, task: Known) -> None:
        """An hour passes: a hold that was let go is gone, and so is whatever was read before."""
        if self.run(lives_ms(self.store, task.id)) > 0:
            assert not task.told.keys() & task.booked, "forgotten too early"
            assert task.hold != "held"
            self.run(self.store.command("DEL", organization_hold_key(task.id)))
            task.read.clear()
            task.hold = "none" if task.hold == "none" else "forgotten"
            # Nor can an admission of it be on its way any more.
            task.record = "refused" if task.record == "none" else task.record

    @invariant()
    def the_purse_is_what_the_model_says(self) -> None:
        """Every counter of every window, after every step."""
        names = self.spent.keys()

        assert {name: (self.spent[name], self.held[name]) for name in names} == self.run(
            purse(self.store)
        )

    def all_ends(self) -> None:
        """Every task ends, every gateway lives again: nothing is held, all is booked once."""
        for task in self.known:
            for part in range(len(task.shares)):
                self.end_part(task, part, 1)
            self.expire_record(task)
            if task.record == "none":
                task.record = "refused"
        for team in TEAMS:
            self.gather(team, 1)
            self.flush(team)
        self.sweep()
        self.the_purse_is_what_the_model_says()
        audit = self.run(verify(RedisBooks(self.store), ORGANIZATION))
        total: Any = self.run(self.store.command("HGET", "{org}:spent:total", "organization|"))

        assert [] == [str(finding) for finding in audit.findings]
        assert {0} >= set(self.held.values())
        told = sum(sum(task.ended.values()) for task in self.known)
        assert told + self.spent_untold == int(total or 0)


def test_any_history_leaves_the_purse_as_the_model(valkey_process: ValkeyProcess) -> None:
    """Random steps of many gateways: every counter is what a plain model says, after each."""
    Purse.url = valkey_process.url
    run_state_machine_as_test(
        Purse,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
