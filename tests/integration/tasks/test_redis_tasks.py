from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.background import SystemClock
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.limits import Budget, Period
from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis, possible
from gateway.domain.task import Event, FailureKind, RenderState, SubmitOrder, Task
from gateway.store.client import Store
from gateway.tasks.interface import (
    Admission,
    Ending,
    OwnershipLostError,
    RecordMissingError,
)
from gateway.tasks.redis_tasks import ADMIT_WITHIN_MS, RedisTaskStore

TEAM = Team(
    id=TeamId("design"),
    models=("*",),
    budgets=(
        Budget(name="month", limit_microusd=100, per=Period.MONTH),
        Budget(name="total", limit_microusd=250, per=Period.TOTAL),
    ),
)
ORDER = SubmitOrder(provider="evolink", account="evolink:1234", body={"prompt": "a red fox"})
SETTLED = Charge(total_microusd=30, by_category={"image_output": 30}, basis=ChargeBasis.CREDITS)


def admission(task_id: str = "task1", hold: int = 60, team: Team = TEAM) -> Admission:
    """Ask for one low square."""
    return Admission(
        id=TaskId(task_id),
        caller=Caller(team=team, key=ApiKey("ci")),
        user="",
        images=1,
        model="gpt-image-1.5",
        size="1024x1024",
        quality="low",
        hold_microusd=hold,
        order=ORDER,
    )


@pytest.fixture
def tasks(store: Store) -> RedisTaskStore:
    """Keep tasks in the real server."""
    return RedisTaskStore(store, SystemClock(), owner="replica_1", keep_ms=60_000)


async def budgets(store: Store) -> dict[str, tuple[int, int]]:
    """Return spent and held of each budget by name, from the windows themselves."""
    found = {}
    keys = await store.command("KEYS", "{t:design}:budget:*")
    assert isinstance(keys, list)
    for key in keys:
        assert isinstance(key, bytes)
        reply = await store.command("HMGET", key, "spent", "held")
        assert isinstance(reply, list)
        spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
        found[key.split(b":")[5].decode()] = (spent, held)
    return found


async def record(store: Store, task_id: str = "task1") -> dict[str, str]:
    """Return a task's record."""
    fields = await store.command("HGETALL", f"{{t:design}}:task:{task_id}")
    assert isinstance(fields, dict)
    return {name.decode(): value.decode() for name, value in fields.items()}


async def live(store: Store) -> list[bytes]:
    """Return the ids in the live index."""
    members = await store.command("ZRANGE", "{t:design}:live", 0, -1)
    assert isinstance(members, list)
    return members  # type: ignore[return-value]


async def submitted(tasks: RedisTaskStore, hold: int = 60) -> Task:
    """Return a task the upstream has taken."""
    admitted = await tasks.admit(admission(hold=hold))
    task = await tasks.begin_submit(admitted.task, "run_1")
    return await tasks.record_submitted(task, "task-unified-1")


async def test_admission_holds_the_price_and_writes_the_task(
    tasks: RedisTaskStore, store: Store
) -> None:
    """After one admission every budget holds the price and the record can be found."""
    admitted = await tasks.admit(admission())

    assert {"month": (0, 60), "total": (0, 60)} == await budgets(store)
    assert [("month", 40), ("total", 190)] == [
        (state.name, state.remaining_microusd) for state in admitted.budgets
    ]
    written = await record(store)
    assert ("queued", "60", "held", "1") == (
        written["state"],
        written["hold"],
        written["hold_state"],
        written["schema"],
    )
    assert '{"prompt":"a red fox"}' == written["order"]
    assert [b"task1"] == await live(store)


async def test_repeated_admission_holds_once(tasks: RedisTaskStore, store: Store) -> None:
    """The same admission again changes nothing and answers the same."""
    first = await tasks.admit(admission())
    second = await tasks.admit(admission())

    assert first.task.hold == second.task.hold
    assert first.budgets == second.budgets
    assert {"month": (0, 60), "total": (0, 60)} == await budgets(store)


async def test_refusal_names_the_budget_and_holds_nothing_anywhere(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A price that does not fit into one budget is held in none."""
    await tasks.admit(admission())
    with pytest.raises(BudgetExceeded) as refusal:
        await tasks.admit(admission("task2", hold=41))

    budget = refusal.value.budget
    assert ("month", 100, 0, 60) == (
        budget.name,
        budget.limit_microusd,
        budget.spent_microusd,
        budget.held_microusd,
    )
    assert "$0.000041" in refusal.value.message
    assert {"month": (0, 60), "total": (0, 60)} == await budgets(store)
    assert [b"task1"] == await live(store)


async def test_price_that_fits_exactly_is_admitted(tasks: RedisTaskStore, store: Store) -> None:
    """The limit itself may be reached, not passed."""
    await tasks.admit(admission("task1", hold=60))
    await tasks.admit(admission("task2", hold=40))

    assert (0, 100) == (await budgets(store))["month"]


async def test_team_without_budgets_is_not_limited(tasks: RedisTaskStore, store: Store) -> None:
    """No budget means no limit, and the task can still be settled."""
    free = replace(TEAM, budgets=())
    admitted = await tasks.admit(admission(team=free))
    task = await tasks.begin_submit(admitted.task, "run_1")
    task = await tasks.record_submitted(task, "up-1")

    assert () == await tasks.conclude(task, Ending(Event.FINISH, SETTLED))
    assert "settled" == (await record(store))["hold_state"]


async def test_sums_beyond_a_double_digit_notation_stay_exact(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Amounts near 2**53 are not written in exponent notation by Lua."""
    rich = replace(
        TEAM, budgets=(Budget(name="month", limit_microusd=2**53 - 1, per=Period.MONTH),)
    )
    huge = 9_000_000_000_000_001
    admitted = await tasks.admit(admission(hold=huge, team=rich))
    task = await tasks.begin_submit(admitted.task, "run_1")
    task = await tasks.record_submitted(task, "up-1")
    charge = Charge(huge, {"image_output": huge}, ChargeBasis.CREDITS)
    [state] = await tasks.conclude(task, Ending(Event.FINISH, charge))

    assert (huge, 0) == (state.spent_microusd, state.held_microusd)
    assert {"month": (huge, 0)} == await budgets(store)


async def test_late_admission_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An admission that reaches the store after its time takes no money."""

    class SlowClock(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() - ADMIT_WITHIN_MS - 1_000

    tasks = RedisTaskStore(store, SlowClock(), owner="replica_1", keep_ms=60_000)
    with pytest.raises(StoreUnavailable):
        await tasks.admit(admission())

    assert {} == await budgets(store)


@pytest.mark.parametrize("order", ["admit first", "give up first", "give up twice"])
async def test_given_up_admission_never_holds_money(
    tasks: RedisTaskStore, store: Store, order: str
) -> None:
    """Whether the lost admission ran before or runs after, nothing stays held."""
    if order == "admit first":
        await tasks.admit(admission())
    await tasks.give_up(admission())
    if order == "give up twice":
        await tasks.give_up(admission())
    if order != "admit first":
        with pytest.raises(StoreUnavailable):
            await tasks.admit(admission())

    assert all(held == 0 for _, held in (await budgets(store)).values())
    assert {} == await record(store)
    assert [] == await live(store)


async def test_giving_up_leaves_a_task_alone_that_has_begun(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A hold whose render may be on its way is not taken back."""
    admitted = await tasks.admit(admission())
    await tasks.begin_submit(admitted.task, "run_1")
    await tasks.give_up(admission())

    assert (0, 60) == (await budgets(store))["month"]


async def test_only_one_attempt_wins_the_right_to_post(tasks: RedisTaskStore) -> None:
    """A second begin of the same render is refused, the winner's own repetition is not."""
    admitted = await tasks.admit(admission())
    first = await tasks.begin_submit(admitted.task, "run_1")
    again = await tasks.begin_submit(admitted.task, "run_1")
    with pytest.raises(OwnershipLostError):
        await tasks.begin_submit(admitted.task, "run_2")

    assert RenderState.SUBMITTING == first.render.state == again.render.state


async def test_decisions_of_a_former_owner_are_refused(tasks: RedisTaskStore, store: Store) -> None:
    """After the epoch moved on, neither begin nor conclude of the old owner counts."""
    admitted = await tasks.admit(admission())
    task = await submitted_from(tasks, admitted.task)
    await store.command("HSET", "{t:design}:task:task1", "epoch", "2")
    with pytest.raises(OwnershipLostError):
        await tasks.conclude(task, Ending(Event.FINISH, SETTLED))

    assert (0, 60) == (await budgets(store))["month"]


async def test_upstream_id_is_recorded_whoever_owns_the_task(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A fact is accepted from any epoch: a known upstream id is never dropped."""
    admitted = await tasks.admit(admission())
    task = await tasks.begin_submit(admitted.task, "run_1")
    await store.command("HSET", "{t:design}:task:task1", "epoch", "2")
    await tasks.record_submitted(task, "task-unified-1")

    written = await record(store)
    assert ("submitted", "task-unified-1") == (written["state"], written["upstream_id"])


async def submitted_from(tasks: RedisTaskStore, task: Task) -> Task:
    """Take an admitted task to its upstream id."""
    return await tasks.record_submitted(await tasks.begin_submit(task, "run_1"), "up-1")


async def test_not_sent_lets_another_attempt_begin(tasks: RedisTaskStore) -> None:
    """A render that was proven unsent may be tried again under a new attempt."""
    admitted = await tasks.admit(admission())
    task = await tasks.begin_submit(admitted.task, "run_1")
    task = await tasks.record_not_sent(task)
    task = await tasks.begin_submit(task, "run_2")

    assert (RenderState.SUBMITTING, "run_2") == (task.render.state, task.render.attempt_id)


async def test_stale_not_sent_cannot_undo_a_newer_attempt(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A repeated fact about an old attempt does not free a render that is being posted."""
    admitted = await tasks.admit(admission())
    first = await tasks.begin_submit(admitted.task, "run_1")
    freed = await tasks.record_not_sent(first)
    await tasks.begin_submit(freed, "run_2")
    with pytest.raises(OwnershipLostError):
        await tasks.record_not_sent(first)

    assert "submitting" == (await record(store))["state"]


async def test_settlement_books_the_truth_and_frees_the_hold(
    tasks: RedisTaskStore, store: Store
) -> None:
    """The hold goes, the cost stays, the prompt is dropped and the books have a line."""
    task = await submitted(tasks)
    ending = Ending(Event.FINISH, SETTLED, links=("https://files/x.png",), usage={"a": 1})
    states = await tasks.conclude(task, ending)

    assert [("month", 30, 0), ("total", 30, 0)] == [
        (state.name, state.spent_microusd, state.held_microusd) for state in states
    ]
    assert {"month": (30, 0), "total": (30, 0)} == await budgets(store)
    written = await record(store)
    assert ("completed", "settled", "30") == (
        written["state"],
        written["hold_state"],
        written["cost"],
    )
    assert "order" not in written
    assert '["https://files/x.png"]' == written["links"]
    assert [b"task1"] == await live(store)
    [_, (_, entry)] = await store.command("XRANGE", "{t:design}:ledger", "-", "+")  # type: ignore[misc, union-attr]
    assert (b"settle", b"30", b"60") == (entry[b"verb"], entry[b"cost"], entry[b"hold"])


async def test_repeated_settlement_changes_nothing(tasks: RedisTaskStore, store: Store) -> None:
    """Settling twice, or releasing after settling, books once."""
    task = await submitted(tasks)
    first = await tasks.conclude(task, Ending(Event.FINISH, SETTLED))
    second = await tasks.conclude(task, Ending(Event.FINISH, SETTLED))
    third = await tasks.conclude(task, Ending(Event.FAIL, NO_CHARGE))

    assert first == second == third
    assert {"month": (30, 0), "total": (30, 0)} == await budgets(store)
    assert 2 == await store.command("XLEN", "{t:design}:ledger")


async def test_settlement_above_the_hold_is_not_clamped(
    tasks: RedisTaskStore, store: Store
) -> None:
    """The upstream's truth is booked, and the overrun budget admits nothing more."""
    task = await submitted(tasks)
    charge = Charge(130, {"image_output": 130}, ChargeBasis.CREDITS)
    [month, _] = await tasks.conclude(task, Ending(Event.FINISH, charge))
    with pytest.raises(BudgetExceeded):
        await tasks.admit(admission("task2", hold=1))

    assert -30 == month.remaining_microusd
    assert (130, 0) == (await budgets(store))["month"]


@pytest.mark.parametrize(
    ("event", "begun", "failure", "spent"),
    [
        (Event.REJECT, True, FailureKind.MODERATION, 0),
        (Event.LOSE_TRACK, True, FailureKind.SUBMIT_UNKNOWN, 60),
        (Event.EXPIRE, False, FailureKind.DEADLINE, 0),
    ],
)
async def test_endings_before_the_upstream_took_it(
    tasks: RedisTaskStore,
    store: Store,
    event: Event,
    begun: bool,
    failure: FailureKind,
    spent: int,
) -> None:
    """What was not created is released; what nobody can account for counts as spent."""
    task = (await tasks.admit(admission())).task
    if begun:
        task = await tasks.begin_submit(task, "run_1")
    charge = possible(60) if spent else NO_CHARGE
    await tasks.conclude(task, Ending(event, charge, failure=failure))

    assert (spent, 0) == (await budgets(store))["month"]
    assert failure.value == (await record(store))["failure"]
    assert [] == await live(store)


async def test_settle_touches_the_windows_of_the_hold_only(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A hold of one month is settled in that month, whatever the calendar says by then."""
    task = await submitted(tasks)

    class NextYear(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() + 400 * 86_400_000

    later = RedisTaskStore(store, NextYear(), owner="replica_1", keep_ms=60_000)
    await later.conclude(task, Ending(Event.FINISH, SETTLED))

    assert {"month": (30, 0), "total": (30, 0)} == await budgets(store)


async def test_lost_record_is_reported_and_written_anew_over_budget(
    tasks: RedisTaskStore, store: Store
) -> None:
    """When the store lost its memory, the owner writes task and hold again and settles."""
    task = await submitted(tasks)
    await store.command_everywhere("FLUSHALL")
    with pytest.raises(RecordMissingError):
        await tasks.conclude(task, Ending(Event.FINISH, SETTLED))
    for number in range(3):
        await tasks.admit(admission(f"other{number}", hold=33))
    await tasks.restore(task)

    assert (0, 159) == (await budgets(store))["month"]
    await tasks.conclude(task, Ending(Event.FINISH, SETTLED))
    assert (30, 99) == (await budgets(store))["month"]


async def test_a_hold_written_anew_goes_back_to_its_own_windows(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Even a year later, and with the windows gone too, at once and with their own expiry."""
    task = await submitted(tasks)

    class NextYear(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() + 400 * 86_400_000

    await store.command_everywhere("FLUSHALL")
    later = RedisTaskStore(store, NextYear(), owner="replica_1", keep_ms=60_000)
    await later.restore(task)
    await later.conclude(task, Ending(Event.FINISH, SETTLED))

    assert {"month": (30, 0), "total": (30, 0)} == await budgets(store)
    keys = await store.command("KEYS", "{t:design}:budget:team::month:*")
    assert isinstance(keys, list)
    expires_in_ms = await store.command("PTTL", keys[0])  # type: ignore[arg-type]
    assert isinstance(expires_in_ms, int)
    assert 62 * 86_400_000 < expires_in_ms < 94 * 86_400_000


async def test_shelving_takes_tasks_out_of_the_live_index(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A stored picture is noted on its record; ids the store does not know do no harm."""
    task = await submitted(tasks)
    await tasks.conclude(task, Ending(Event.FINISH, SETTLED, links=("https://files/x.png",)))
    await tasks.shelve(TEAM.id, [task.id, TaskId("unheard-of")])

    assert [] == await live(store)
    assert "1" == (await record(store))["stored"]
    assert {} == await record(store, "unheard-of")


async def test_records_expire_after_they_are_over(tasks: RedisTaskStore, store: Store) -> None:
    """A running task never expires, a finished one does, and so do windows long gone."""
    task = await submitted(tasks)
    running = await store.command("PTTL", "{t:design}:task:task1")
    await tasks.conclude(task, Ending(Event.FINISH, SETTLED))
    over = await store.command("PTTL", "{t:design}:task:task1")
    keys = await store.command("KEYS", "{t:design}:budget:team::month:*")
    assert isinstance(keys, list)
    window = await store.command("PTTL", keys[0])  # type: ignore[arg-type]

    assert -1 == running
    assert isinstance(over, int)
    assert 0 < over <= 60_000
    assert isinstance(window, int)
    assert window > 62 * 86_400_000
    assert -1 == await store.command("PTTL", "{t:design}:budget:team::total:0")
