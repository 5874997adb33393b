from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.ids import TaskId
from gateway.domain.pricing import NO_CHARGE, ChargeBasis, possible
from gateway.domain.task import Event, FailureKind, Render, RenderState, Result, Task
from gateway.store.client import Store
from gateway.tasks import records
from gateway.tasks.interface import (
    Ending,
    OwnershipLostError,
    RecordMissingError,
    Restored,
    ShelfNote,
)
from gateway.tasks.records import UnreadableTaskError
from gateway.tasks.redis_tasks import RedisTaskStore, is_final
from tests.support.budgeted import TEAM, a_new, admission
from tests.support.factories import a_render
from tests.support.journal import (
    LINK,
    LaterClock,
    a_charge_of,
    a_journal,
    admitted,
    budgets_in,
    failed,
    finished,
    keys_in,
    ledger_in,
    record_in,
    seen_to_by,
    submitted,
)

YEAR_S = 400 * 86_400.0


async def test_only_one_attempt_wins_the_right_to_post(tasks: RedisTaskStore) -> None:
    """A second begin of the same render is refused, the winner's own repetition is not."""
    task = await a_new(tasks)
    [render] = task.renders
    first = await tasks.begin_submit(task, render, "run_1")
    again = await tasks.begin_submit(task, render, "run_1")
    with pytest.raises(OwnershipLostError):
        await tasks.begin_submit(task, render, "run_2")

    assert first == again
    assert (RenderState.SUBMITTING, 1) == (first.state, first.tries)


async def test_renders_go_their_own_ways(tasks: RedisTaskStore) -> None:
    """What happens to one render of a task leaves the others where they are."""
    task = await a_new(tasks, hold=10, images=3)
    await submitted(tasks, task, 1)
    render = await tasks.begin_submit(task, task.renders[2], "run_2")
    await tasks.lose_track(task, render)
    read = await tasks.read(TEAM.id, task.id)

    assert read is not None
    assert ["queued", "submitted", "unknown"] == [one.state for one in read.renders]
    assert ["", "up-1", ""] == [one.upstream_id for one in read.renders]


async def test_the_journal_tells_what_memory_knows(tasks: RedisTaskStore) -> None:
    """A task that was written, moved on and read is the one in memory."""
    task = await a_new(tasks, hold=10, images=3)
    first = await submitted(tasks, task, 0)
    second = await tasks.begin_submit(task, task.renders[1], "run_1")
    task = task.with_render(first).with_render(second)
    concluded = await tasks.conclude(task, first, finished())

    assert task.with_render(concluded.render) == await tasks.read(TEAM.id, task.id)


async def test_what_nobody_wrote_cannot_be_read(tasks: RedisTaskStore, store: Store) -> None:
    """There is no such task, or it is of a gateway that is newer than this one."""
    task = await a_new(tasks)
    await store.command("HSET", "{t:design}:task:task1", "schema", "3")

    assert None is await tasks.read(TEAM.id, TaskId("unheard-of"))
    with pytest.raises(UnreadableTaskError):
        await tasks.read(TEAM.id, task.id)


async def a_former_owner(tasks: RedisTaskStore, store: Store, *, state: str) -> tuple[Task, Render]:
    """Return a task of three in a state, as its first owner knows it after it was taken over."""
    task = await a_new(tasks, hold=10, images=3)
    render = task.renders[1]
    if state != "queued":
        render = await tasks.begin_submit(task, render, "run_1")
    if state == "submitted":
        render = await tasks.record_submitted(task, render, "up-1")
    taken = await a_journal(store, owner="replica_2").take(TEAM.id, task.id, owner="replica_1")
    assert taken is not None
    return task, render


async def test_decisions_of_a_former_owner_are_refused(tasks: RedisTaskStore, store: Store) -> None:
    """After the task was taken over nothing is begun, tried again, or ended by the old owner."""
    task, render = await a_former_owner(tasks, store, state="submitted")
    decisions = (
        tasks.begin_submit(task, task.renders[0], "run_0"),
        tasks.retry(task, render),
        tasks.conclude(task, render, finished()),
    )
    for decision in decisions:
        with pytest.raises(OwnershipLostError):
            await decision

    assert (0, 30) == (await budgets_in(store))["month"]
    assert ["queued", "submitted"] == [
        (await record_in(store))[f"{index}:state"] for index in (0, 1)
    ]


async def test_losing_track_is_a_decision(tasks: RedisTaskStore, store: Store) -> None:
    """Who takes a task over follows it by itself; the old owner's doubt is no fact."""
    task, render = await a_former_owner(tasks, store, state="submitting")
    with pytest.raises(OwnershipLostError):
        await tasks.lose_track(task, render)

    assert "submitting" == (await record_in(store))["1:state"]


@pytest.mark.parametrize(
    ("fact", "state", "upstream_id"),
    [("submitted", "submitted", "up-1"), ("not sent", "queued", "")],
)
async def test_facts_are_written_down_whoever_owns_the_task(
    tasks: RedisTaskStore, store: Store, fact: str, state: str, upstream_id: str
) -> None:
    """Only who posted a render knows what became of it; it hears that it is another's by now."""
    task, render = await a_former_owner(tasks, store, state="submitting")
    telling = (
        tasks.record_submitted(task, render, "up-1")
        if fact == "submitted"
        else tasks.record_not_sent(task, render)
    )
    with pytest.raises(OwnershipLostError):
        await telling

    written = await record_in(store)
    assert (state, upstream_id) == (written["1:state"], written.get("1:upstream_id", ""))


async def test_a_late_upstream_id_lifts_the_unknown(tasks: RedisTaskStore, store: Store) -> None:
    """An answer that came after all is followed, until the render was written off."""
    task = await a_new(tasks)
    begun = await tasks.begin_submit(task, task.renders[0], "run_1")
    await tasks.lose_track(task, begun)
    await tasks.record_submitted(task, begun, "up-1")

    written = await record_in(store)
    assert ("submitted", "up-1") == (written["0:state"], written["0:upstream_id"])


async def test_an_upstream_id_is_kept_even_when_it_comes_too_late(
    tasks: RedisTaskStore, store: Store
) -> None:
    """After the write-off nothing moves, but an operator can still look the task up."""
    task = await a_new(tasks)
    begun = await tasks.begin_submit(task, task.renders[0], "run_1")
    await tasks.conclude(task, begun, Ending(Event.WRITE_OFF, possible(60)))
    with pytest.raises(OwnershipLostError):
        await tasks.record_submitted(task, begun, "up-1")

    written = await record_in(store)
    assert ("unknown", "up-1") == (written["0:state"], written["0:upstream_id"])
    assert (60, 0) == (await budgets_in(store))["month"]


async def test_not_sent_lets_another_attempt_begin(tasks: RedisTaskStore) -> None:
    """A render that was proven unsent may be tried again under a new attempt."""
    task = await a_new(tasks)
    render = await tasks.begin_submit(task, task.renders[0], "run_1")
    render = await tasks.record_not_sent(task, render)
    render = await tasks.begin_submit(task, render, "run_2")

    assert (RenderState.SUBMITTING, "run_2", 2) == (render.state, render.attempt_id, render.tries)


async def test_stale_not_sent_cannot_undo_a_newer_attempt(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A repeated fact about an old attempt does not free a render that is being posted."""
    task = await a_new(tasks)
    first = await tasks.begin_submit(task, task.renders[0], "run_1")
    freed = await tasks.record_not_sent(task, first)
    await tasks.begin_submit(task, freed, "run_2")
    with pytest.raises(OwnershipLostError):
        await tasks.record_not_sent(task, first)

    assert "submitting" == (await record_in(store))["0:state"]


async def test_a_failed_render_goes_back_into_the_queue(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Its hold stays, the upstream's old id is forgotten, and its tries are remembered."""
    task = await a_new(tasks)
    render = await submitted(tasks, task)
    again = await tasks.retry(task, render)
    repeated = await tasks.retry(task, render)
    read = await tasks.read(TEAM.id, task.id)

    assert again == repeated
    assert read is not None
    assert (again,) == read.renders
    assert (RenderState.QUEUED, "", 1, 0) == (
        *(again.state, again.upstream_id),
        *(again.tries, again.submitted_ms),
    )
    assert (0, 60) == (await budgets_in(store))["month"]


async def test_a_raised_hold_passes_every_limit_once(tasks: RedisTaskStore, store: Store) -> None:
    """What the upstream has set aside cannot be taken back: the budgets show it (rule 13)."""
    task = await a_new(tasks, hold=40, images=2)
    render = await submitted(tasks, task, 1)
    for _ in range(2):
        await tasks.raise_hold(task, render, 70)

    assert {"month": (0, 150), "total": (0, 150)} == await budgets_in(store)
    *_, line = await ledger_in(store)
    assert ("raise", "70", "1") == (line["verb"], line["amount"], line["render"])
    await tasks.conclude(task, render, finished())
    assert (30, 40) == (await budgets_in(store))["month"]
    await tasks.raise_hold(task, render, 70)
    assert (30, 40) == (await budgets_in(store))["month"]


async def test_what_has_ended_is_not_raised(tasks: RedisTaskStore, store: Store) -> None:
    """There is no hold any more that could be made larger."""
    task = await a_new(tasks)
    render = await submitted(tasks, task)
    await tasks.conclude(task, render, finished())
    await tasks.raise_hold(task, render, 70)

    assert (30, 0) == (await budgets_in(store))["month"]


async def test_the_hold_of_a_lost_record_cannot_be_raised(
    tasks: RedisTaskStore, store: Store
) -> None:
    """The owner is told, and writes the task anew first."""
    task = await a_new(tasks)
    render = await submitted(tasks, task)
    await store.command_everywhere("FLUSHALL")
    with pytest.raises(RecordMissingError):
        await tasks.raise_hold(task, render, 70)


async def test_settlement_books_the_truth_and_frees_the_hold(
    tasks: RedisTaskStore, store: Store
) -> None:
    """The hold goes, the cost stays, the prompt is dropped and the books have a line."""
    task = await a_new(tasks)
    concluded = await tasks.conclude(task, await submitted(tasks, task), finished())

    assert [("month", 30, 0), ("total", 30, 0)] == [
        (state.name, state.spent_microusd, state.held_microusd) for state in concluded.budgets
    ]
    assert {"month": (30, 0), "total": (30, 0)} == await budgets_in(store)
    assert Result(30, ChargeBasis.CREDITS, links=(LINK,)) == concluded.render.result
    written = await record_in(store)
    assert ("completed", "30") == (written["0:state"], written["0:cost"])
    assert "order" not in written
    assert f'["{LINK}"]' == written["0:links"]
    assert ["task1"] == await seen_to_by(store)
    [_, entry] = await ledger_in(store)
    assert ("settle", "30", "60") == (entry["verb"], entry["cost"], entry["hold"])


async def test_a_task_ends_with_its_last_render(tasks: RedisTaskStore, store: Store) -> None:
    """One picture, one failure, one unknown: the books are the sum, and nothing ends before."""
    task = await a_new(tasks, hold=30, images=3)
    renders = [await submitted(tasks, task, index) for index in (0, 1)]
    begun = await tasks.begin_submit(task, task.renders[2], "run_2")
    steps = []
    for render, ending in (
        (renders[0], finished(cost_microusd=10)),
        (renders[1], failed()),
        (begun, Ending(Event.WRITE_OFF, possible(30))),
    ):
        await tasks.conclude(task, render, ending)
        written = await record_in(store)
        expires = await store.command("PTTL", "{t:design}:task:task1")
        steps.append(
            ((await budgets_in(store))["month"], "order" in written, expires == -1, written["open"])
        )

    assert [
        ((10, 60), True, True, "2"),
        ((10, 30), True, True, "1"),
        ((40, 0), False, False, "0"),
    ] == steps
    assert ["settle", "release", "possible_charge"] == [
        line["verb"] for line in (await ledger_in(store))[3:]
    ]


async def test_room_in_flight_is_made_by_each_render(tasks: RedisTaskStore, store: Store) -> None:
    """Images in progress are counted one by one, and none is left after the last."""
    task = await a_new(tasks, hold=30, images=2)
    left = []
    for index in (0, 1):
        await tasks.conclude(task, await submitted(tasks, task, index), finished())
        left.append(await store.command("ZSCORE", "{t:design}:in_flight", "task1"))

    assert [1.0, None] == left


async def test_repeated_settlement_changes_nothing(tasks: RedisTaskStore, store: Store) -> None:
    """Settling twice, or releasing after settling, books once."""
    task = await a_new(tasks, hold=30, images=2)
    render = await submitted(tasks, task)
    first = await tasks.conclude(task, render, finished())
    second = await tasks.conclude(task, render, finished())
    third = await tasks.conclude(task, render, failed())

    assert first.budgets == second.budgets == third.budgets
    assert {"month": (30, 30), "total": (30, 30)} == await budgets_in(store)
    assert "1" == (await record_in(store))["open"]
    assert 3 == len(await ledger_in(store))


async def test_settlement_above_the_hold_is_not_clamped(
    tasks: RedisTaskStore, store: Store
) -> None:
    """The upstream's truth is booked, and the overrun budget admits nothing more."""
    task = await a_new(tasks)
    concluded = await tasks.conclude(task, await submitted(tasks, task), finished(130))
    with pytest.raises(BudgetExceeded):
        await tasks.admit(admission("task2", hold=1))

    assert -30 == concluded.budgets[0].remaining_microusd
    assert (130, 0) == (await budgets_in(store))["month"]


@pytest.mark.parametrize(
    ("event", "begun", "failure", "spent"),
    [
        (Event.REJECT, True, FailureKind.MODERATION, 0),
        (Event.WRITE_OFF, True, FailureKind.SUBMIT_UNKNOWN, 60),
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
    task = await a_new(tasks)
    [render] = task.renders
    if begun:
        render = await tasks.begin_submit(task, render, "run_1")
    charge = possible(60) if spent else NO_CHARGE
    await tasks.conclude(task, render, Ending(event, charge, failure=failure))

    assert (spent, 0) == (await budgets_in(store))["month"]
    assert failure.value == (await record_in(store))["0:failure"]
    assert [] == await seen_to_by(store)


async def test_a_render_that_was_not_submitted_cannot_be_finished(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Memory that is ahead of the journal decides nothing (rule 2)."""
    task = await a_new(tasks)
    ahead = task.renders[0].after(Event.BEGIN, attempt_id="x").after(Event.SUBMIT, upstream_id="y")
    with pytest.raises(OwnershipLostError):
        await tasks.conclude(task, ahead, finished())

    assert (0, 60) == (await budgets_in(store))["month"]


async def test_settle_touches_the_windows_of_the_hold_only(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A hold of one month is settled in that month, whatever the calendar says by then."""
    task = await a_new(tasks)
    render = await submitted(tasks, task)
    await a_journal(store, clock=LaterClock(YEAR_S)).conclude(task, render, finished())

    assert {"month": (30, 0), "total": (30, 0)} == await budgets_in(store)


@pytest.mark.parametrize(
    ("failure", "upstream_id", "cost", "final"),
    [
        # What passes is a new call for a retry, unless something was ordered or charged.
        (FailureKind.UPSTREAM_DOWN, "", 0, False),
        (FailureKind.WITHDRAWN, "", 0, False),
        (FailureKind.UPSTREAM_DOWN, "up-1", 0, True),
        (FailureKind.UPSTREAM_DOWN, "", 1, True),
        (FailureKind.MODERATION, "", 0, True),
        (None, "up-1", 30, True),
    ],
)
def test_which_ends_a_retry_is_answered_with(
    failure: FailureKind | None, upstream_id: str, cost: int, final: bool
) -> None:
    """Only what came of nothing, by no fault of the call, is tried as a new one (rule 12)."""
    render = a_render(upstream_id=upstream_id)

    assert final is is_final(render, Ending(Event.FAIL, a_charge_of(cost), failure))


async def test_lost_record_is_reported_and_written_anew_over_budget(
    tasks: RedisTaskStore, store: Store
) -> None:
    """When the store lost its memory, the owner writes task and holds again and settles."""
    task = await a_new(tasks, hold=20, images=3)
    ended = await tasks.conclude(task, await submitted(tasks, task, 2), finished())
    render = await submitted(tasks, task, 0)
    task = task.with_render(render).with_render(ended.render)
    await store.command_everywhere("FLUSHALL")
    with pytest.raises(RecordMissingError):
        await tasks.conclude(task, render, finished())
    for number in range(3):
        await tasks.admit(admission(f"other{number}", hold=33))
    restored = await tasks.restore(task, None)

    # One of the three had ended: it is held again, for its cost to be booked again.
    assert Restored(behind=True, unsettled=(2,)) == restored
    assert (0, 159) == (await budgets_in(store))["month"]
    await tasks.conclude(task, *records.ended_by(ended.render))
    assert (30, 139) == (await budgets_in(store))["month"]
    assert task == await tasks.read(TEAM.id, task.id)
    await tasks.conclude(task, render, finished())
    assert (60, 119) == (await budgets_in(store))["month"]


async def test_writing_anew_what_is_there_changes_nothing(
    tasks: RedisTaskStore, store: Store
) -> None:
    """The record was there after all, or this is a repetition: it holds nothing twice."""
    task = await a_new(tasks)
    await submitted(tasks, task)
    before = await record_in(store)
    restored = await tasks.restore(task, None)

    assert Restored(behind=False, unsettled=()) == restored
    assert before == await record_in(store)
    assert (0, 60) == (await budgets_in(store))["month"]


async def test_a_hold_written_anew_goes_back_to_its_own_windows(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Even a year later, and with the windows gone too, at once and with their own expiry."""
    task = await a_new(tasks)
    render = await submitted(tasks, task)
    await store.command_everywhere("FLUSHALL")
    later = a_journal(store, clock=LaterClock(YEAR_S))
    await later.restore(task.with_render(render), None)
    await later.conclude(task, render, finished())

    assert {"month": (30, 0), "total": (30, 0)} == await budgets_in(store)
    [key] = await keys_in(store, "{t:design}:budget:team::month:*")
    expires_in_ms = await store.command("PTTL", key)
    assert isinstance(expires_in_ms, int)
    assert 62 * 86_400_000 < expires_in_ms < 94 * 86_400_000


async def test_a_hold_of_a_window_that_is_over_is_written_back_to_it(
    tasks: RedisTaskStore, store: Store
) -> None:
    """By the store's clock as well: the one that runs by now has nothing to do with it."""
    task = await a_new(tasks)
    render = await submitted(tasks, task)
    over = tuple(
        replace(window, key=f"{window.key}0", starts_at_ms=0, resets_at_ms=86_400_000)
        for window in task.hold.windows
    )
    await store.command_everywhere("FLUSHALL")
    old = replace(task, hold=replace(task.hold, windows=over)).with_render(render)
    await tasks.restore(old, None)

    held = [await store.command("HGET", window.key, "held") for window in over]
    assert [b"60"] * len(over) == held
    assert len(over) == len(await keys_in(store, "{t:design}:budget:*"))


async def test_what_was_begun_is_ended_without_memory_to_spare(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A full store takes nothing new; every step of what there is, and its money, it takes."""
    finishing = await a_new(tasks)
    failing = (await admitted(tasks, admission("task2", 10))).task
    await store.command_everywhere("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await tasks.admit(admission("task3", 10))
        await tasks.conclude(finishing, await submitted(tasks, finishing), finished())
        await tasks.conclude(failing, await submitted(tasks, failing), failed())
        await tasks.shelve(
            finishing.team, {finishing.id: ShelfNote({"0": "png 3"}, delivered=True)}
        )
        await tasks.leave(failing.team, failing.id, place=failing.call, waiter="req_1")
    finally:
        await store.command_everywhere("CONFIG", "SET", "maxmemory", "0")

    assert {"month": (30, 0), "total": (30, 0)} == await budgets_in(store)


async def test_a_lost_record_moves_nowhere(tasks: RedisTaskStore, store: Store) -> None:
    """What is not there is not a fence: the owner is told, rather than that it lost the task."""
    task = await a_new(tasks)
    begun = await tasks.begin_submit(task, task.renders[0], "run_1")
    await store.command_everywhere("FLUSHALL")
    for step in (
        tasks.begin_submit(task, task.renders[0], "run_2"),
        tasks.record_submitted(task, begun, "up-1"),
    ):
        with pytest.raises(RecordMissingError):
            await step


async def test_records_expire_after_they_are_over(tasks: RedisTaskStore, store: Store) -> None:
    """A running task never expires, a finished one does, and so do windows long gone."""
    task = await a_new(tasks)
    running = await store.command("PTTL", "{t:design}:task:task1")
    await tasks.conclude(task, await submitted(tasks, task), finished())
    over = await store.command("PTTL", "{t:design}:task:task1")
    [key] = await keys_in(store, "{t:design}:budget:team::month:*")
    window = await store.command("PTTL", key)

    assert -1 == running
    assert isinstance(over, int)
    assert 0 < over <= 60_000
    assert isinstance(window, int)
    assert window > 62 * 86_400_000
    assert -1 == await store.command("PTTL", "{t:design}:budget:team::total:0")
