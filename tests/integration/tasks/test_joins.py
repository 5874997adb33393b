"""Which task a call is a retry of: design rules 10 to 12, in the one script that decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.errors import IdempotencyConflict, PictureExpired, RateLimited
from gateway.domain.ids import TaskId
from gateway.domain.limits import Quotas
from gateway.domain.pricing import NO_CHARGE
from gateway.domain.task import Event, FailureKind, Task
from gateway.store.client import Store
from gateway.tasks.interface import Admitted, Call, Ending, Joined, NotJoinedError, ShelfNote
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.replica import Attendance
from tests.support.factories import a_call, a_team, an_admission
from tests.support.journal import (
    KEEPING,
    LaterClock,
    a_journal,
    admitted,
    finished,
    ledger_in,
    submitted,
)


async def begun(tasks: RedisTaskStore, task: str, call: Call | None = None) -> Task:
    """Admit a call as a task of its own."""
    return (await admitted(tasks, an_admission(task, call=call or a_call()))).task


async def joined(tasks: RedisTaskStore, call: Call, *, as_task: str = "other") -> str | None:
    """Admit a call; return the task it joined, None when it became one of its own."""
    answer = await tasks.admit(an_admission(as_task, call=call))
    return answer.task if isinstance(answer, Joined) else None


async def leave(tasks: RedisTaskStore, task: Task, waiter: str = "req_1") -> None:
    """Let a request go away."""
    await tasks.leave(task.team, task.id, place=task.call, waiter=waiter)


async def test_a_first_call_joins_nothing_that_somebody_waits_for(tasks: RedisTaskStore) -> None:
    """Identical calls at once stay separate pictures."""
    await begun(tasks, "task1")

    assert None is await joined(tasks, a_call("req_2"))


async def test_a_retry_joins_the_task_of_its_first_try(tasks: RedisTaskStore, store: Store) -> None:
    """It costs nothing and writes nothing, also while the first try still seems to wait."""
    await begun(tasks, "task1")
    before = await ledger_in(store)

    assert "task1" == await joined(tasks, a_call("req_2", count=1))
    assert before == await ledger_in(store)


async def test_each_retry_has_a_task_of_its_own(tasks: RedisTaskStore) -> None:
    """Two calls that are both retried find two tasks, the older one first; a third finds none."""
    await begun(tasks, "task1")
    await begun(tasks, "task2", a_call("req_2"))
    found = [
        await joined(tasks, a_call(f"req_{number}", count=1), as_task=f"other{number}")
        for number in (3, 4)
    ]

    assert {"task1", "task2"} == set(found)
    assert None is await joined(tasks, a_call("req_5", count=1), as_task="other5")


async def test_a_later_retry_takes_the_task_of_the_retry_before_it(tasks: RedisTaskStore) -> None:
    """Of tasks last waited for with counts 1 and 0, count 2 is the first one's."""
    await begun(tasks, "retried", a_call("req_1"))
    await joined(tasks, a_call("req_2", count=1))
    await begun(tasks, "fresh", a_call("req_3"))

    assert "retried" == await joined(tasks, a_call("req_4", count=2))
    assert "fresh" == await joined(tasks, a_call("req_5", count=1))


async def test_a_call_without_a_sign_takes_what_nobody_waits_for(tasks: RedisTaskStore) -> None:
    """A task whose request went away is taken once, and then somebody waits for it again."""
    task = await begun(tasks, "task1")
    await leave(tasks, task)

    assert "task1" == await joined(tasks, a_call("req_2"))
    assert None is await joined(tasks, a_call("req_3"))


def beside(store: Store, *present: str, lease_ms: int = 0) -> RedisTaskStore:
    """Return the journal of replica_2, which knows who may still be alive."""
    return a_journal(
        store,
        owner="replica_2",
        attendance=Attendance(frozenset(("replica_2", *present)), lease_ms),
    )


@pytest.mark.parametrize("is_over", [False, True])
async def test_what_was_waited_for_at_a_replica_that_is_gone_is_taken(
    tasks: RedisTaskStore, store: Store, *, is_over: bool
) -> None:
    """A call without a sign gets it, running or finished; the next one finds nothing more."""
    task = await begun(tasks, "task1")
    if is_over:
        await tasks.conclude(task, await submitted(tasks, task), finished())
        await tasks.shelve(task.team, {task.id: ShelfNote({"0": "png 3"})})

    assert "task1" == await joined(beside(store), a_call("req_2"))
    assert None is await joined(beside(store), a_call("req_3"), as_task="task3")


async def test_each_of_those_that_a_gone_replica_leaves_is_taken_once(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Also of those that came to wait there as retries; what others wait for is left alone."""
    living = a_journal(store, owner="replica_3")
    for number in range(3):
        await begun(tasks, f"task{number}", a_call(f"req_{number}"))
    await begun(living, "joined", a_call("req_3"))
    await tasks.leave(a_team().id, TaskId("task1"), place=a_call().fingerprint, waiter="req_1")
    assert "task1" == await joined(living, a_call("req_4"))
    await begun(living, "living", a_call("req_5"))
    assert "task0" == await joined(tasks, a_call("req_6", count=1))

    calls = [a_call(f"new_{number}") for number in range(3)]
    found = [await joined(beside(store, "replica_3"), call, as_task=call.waiter) for call in calls]

    assert ["task0", "task2", None] == found


async def test_nobody_is_gone_before_it_can_be_told(tasks: RedisTaskStore, store: Store) -> None:
    """Not while our own place was not steady, not who is present, not who came in this lease."""
    await begun(tasks, "task1")
    unsteady = a_journal(store, owner="replica_2")
    journals = [unsteady, beside(store, "replica_1"), beside(store, lease_ms=60_000)]

    for number, journal in enumerate(journals):
        assert None is await joined(journal, a_call(f"req_{number}"), as_task=f"other{number}")


async def test_a_gone_replica_leaves_no_delivered_and_no_passing_answers(
    tasks: RedisTaskStore, store: Store
) -> None:
    """What was answered is no orphan; what came of nothing is no answer."""
    task = await begun(tasks, "task1")
    await tasks.conclude(task, await submitted(tasks, task), finished())
    await tasks.shelve(task.team, {task.id: ShelfNote({"0": "png 3"}, delivered=True)})
    nothing = await begun(tasks, "task2", a_call("req_2"))
    gone = Ending(Event.EXPIRE, NO_CHARGE, FailureKind.UPSTREAM_DOWN)
    await tasks.conclude(nothing, nothing.renders[0], gone)

    assert None is await joined(beside(store), a_call("req_3"))


async def test_a_replica_that_comes_back_does_not_send_away_who_joined(
    tasks: RedisTaskStore, store: Store
) -> None:
    """It stood still for longer than its lease; then the request that waited there leaves."""
    task = await begun(tasks, "task1")
    await joined(beside(store), a_call("req_2"))
    await leave(tasks, task, "req_1")

    assert None is await joined(beside(store, "replica_1"), a_call("req_3"))


async def test_who_came_later_is_not_sent_away_by_who_leaves(tasks: RedisTaskStore) -> None:
    """The first try's hang-up is noticed after its retry has come: nothing is an orphan."""
    task = await begun(tasks, "task1")
    await joined(tasks, a_call("req_2", count=1))
    await leave(tasks, task, "req_1")

    assert None is await joined(tasks, a_call("req_3"))


async def test_delivered_answers_are_given_again_for_a_minute(store: Store) -> None:
    """Only to a retry that says it is one, and not for longer."""
    clock = LaterClock()
    tasks = a_journal(store, clock=clock)
    task = await begun(tasks, "task1")
    await tasks.conclude(task, await submitted(tasks, task), finished())
    await tasks.shelve(task.team, {task.id: ShelfNote({"0": "png 3"}, delivered=True)})
    await leave(tasks, task)

    assert None is await joined(tasks, a_call("req_2"), as_task="new")
    assert "task1" == await joined(tasks, a_call("req_3", count=1), as_task="other")

    await store.command("HSET", "{t:design}:task:task1", "delivered_ms", "1")
    await store.command("DEL", "{t:design}:task:new")

    assert None is await joined(tasks, a_call("req_4", count=2), as_task="late")


async def test_an_orphan_that_was_delivered_after_all_is_taken_by_nobody(
    tasks: RedisTaskStore,
) -> None:
    """The goodbye of its request was noted before its answer was."""
    task = await begun(tasks, "task1")
    await tasks.conclude(task, await submitted(tasks, task), finished())
    await leave(tasks, task)
    await tasks.shelve(task.team, {task.id: ShelfNote({"0": "png 3"}, delivered=True)})

    assert None is await joined(tasks, a_call("req_2"))


async def test_what_nobody_fetched_is_kept_for_a_retry_so_long(
    tasks: RedisTaskStore, store: Store
) -> None:
    """An hour after its end it is not given any more."""
    task = await begun(tasks, "task1")
    await tasks.conclude(task, await submitted(tasks, task), finished())
    await leave(tasks, task)
    ended_ms = await store.command("HGET", "{t:design}:task:task1", "ended_ms")
    assert isinstance(ended_ms, bytes)
    long_ago = int(ended_ms) - KEEPING.answer_ms
    await store.command("HSET", "{t:design}:task:task1", "ended_ms", long_ago + 60_000)

    assert "task1" == await joined(tasks, a_call("req_2"))
    await leave(tasks, task, "req_2")
    await store.command("HSET", "{t:design}:task:task1", "ended_ms", long_ago - 60_000)
    assert None is await joined(tasks, a_call("req_3", count=1))


@pytest.mark.parametrize(
    ("failure", "is_told_again"),
    [
        (FailureKind.MODERATION, True),
        (FailureKind.UPSTREAM_DOWN, False),
        (FailureKind.RATE_LIMITED, False),
    ],
)
async def test_only_final_failures_are_told_again(
    tasks: RedisTaskStore, failure: FailureKind, *, is_told_again: bool
) -> None:
    """What passes by itself came of nothing: the retry is a call of its own."""
    task = await begun(tasks, "task1")
    await tasks.conclude(task, task.renders[0], Ending(Event.EXPIRE, NO_CHARGE, failure))

    found = await joined(tasks, a_call("req_2", count=1))
    assert is_told_again == (found == "task1")


async def test_the_retry_of_what_came_of_nothing_takes_no_others_task(
    tasks: RedisTaskStore,
) -> None:
    """Two identical calls, one of which ends with a 503: its retry leaves the other's alone."""
    ended = await begun(tasks, "task1")
    await begun(tasks, "task2", a_call("req_2"))
    gone = Ending(Event.EXPIRE, NO_CHARGE, FailureKind.UPSTREAM_DOWN)
    await tasks.conclude(ended, ended.renders[0], gone)

    assert None is await joined(tasks, a_call("req_3", count=1))


async def test_a_refusal_leaves_a_credit_for_its_retry(tasks: RedisTaskStore) -> None:
    """Sent away for the rate, or by a server that stops, it comes back as a call of its own."""
    team = replace(a_team(), quotas=Quotas(in_flight_images=1))
    await tasks.admit(an_admission("task1", team=team, call=a_call()))
    with pytest.raises(RateLimited):
        await tasks.admit(an_admission("task2", team=team, call=a_call("req_2")))

    assert None is await joined(tasks, a_call("req_3", count=1), as_task="task3")
    assert "task1" == await joined(tasks, a_call("req_4", count=1), as_task="task4")


async def test_a_call_sent_away_twice_comes_back_as_one_of_its_own(tasks: RedisTaskStore) -> None:
    """A server that stops does not look whose retry a call is; its credit goes on with it."""
    await begun(tasks, "task1")
    await tasks.expect_retry(a_team().id, a_call("req_2"))
    await tasks.expect_retry(a_team().id, a_call("req_3", count=1))

    assert None is await joined(tasks, a_call("req_4", count=2), as_task="task4")
    assert "task1" == await joined(tasks, a_call("req_5", count=1))


async def test_a_retry_that_is_sent_away_still_finds_its_task(tasks: RedisTaskStore) -> None:
    """Its first try was paid for, on a server that died; the next one it came to was stopping."""
    await begun(tasks, "task1")
    await tasks.expect_retry(a_team().id, a_call("req_2", count=1))

    assert "task1" == await joined(tasks, a_call("req_3", count=2))


async def test_a_retry_whose_answer_was_lost_still_finds_its_task(tasks: RedisTaskStore) -> None:
    """Whether it ran or not: neither leaves a credit that would buy the picture again."""
    await begun(tasks, "task1")
    for count, does_run in ((1, False), (2, True)):
        unheard = an_admission(f"lost{count}", call=a_call(f"lost{count}", count=count))
        if does_run:
            await tasks.admit(unheard)
        await tasks.give_up(unheard)

    assert "task1" == await joined(tasks, a_call("req_2", count=2))
    assert "task1" == await joined(tasks, a_call("req_3", count=3))


async def test_a_refusal_whose_answer_was_lost_leaves_one_credit(tasks: RedisTaskStore) -> None:
    """However often it is told: one call was sent away, so one retry is a call of its own."""
    team = replace(a_team(), quotas=Quotas(in_flight_images=1))
    await tasks.admit(an_admission("task1", team=team, call=a_call()))
    refused = an_admission("task2", team=team, call=a_call("req_2"))
    for _ in range(2):
        with pytest.raises(RateLimited):
            await tasks.admit(refused)
    await tasks.give_up(refused)
    for _ in range(2):
        await tasks.expect_retry(team.id, a_call("req_9"))

    found = [
        await joined(tasks, a_call(f"req_{number}", count=1), as_task=f"task{number}")
        for number in (3, 4, 5)
    ]
    assert [None, None, "task1"] == found


async def test_a_credit_ends_by_itself(tasks: RedisTaskStore, store: Store) -> None:
    """Later refusals of the same words do not keep that of a client that never came back."""
    await begun(tasks, "task1")
    await tasks.expect_retry(a_team().id, a_call("req_2"))
    [key] = await store.command("KEYS", "{t:design}:refusals:*")  # type: ignore[misc]
    await store.command("ZINCRBY", key, -120_001, "1:req_2")
    await tasks.expect_retry(a_team().id, a_call("req_3", count=0))

    assert None is await joined(tasks, a_call("req_4", count=1), as_task="task4")
    assert "task1" == await joined(tasks, a_call("req_5", count=1))


async def test_a_call_that_waits_by_itself_leaves_no_credit(tasks: RedisTaskStore) -> None:
    """It was not sent away, so no retry of it is to be expected."""
    team = replace(a_team(), quotas=Quotas(in_flight_images=1))
    await tasks.admit(an_admission("task1", team=team, call=a_call()))
    with pytest.raises(RateLimited):
        await tasks.admit(an_admission("task2", team=team, call=a_call("req_2"), patience_ms=5_000))

    assert "task1" == await joined(tasks, a_call("req_3", count=1), as_task="task3")


async def test_a_retry_of_its_own_that_waits_by_itself_stays_one(tasks: RedisTaskStore) -> None:
    """It was sent away before; while it waits for room, its credit is not lost."""
    team = replace(a_team(), quotas=Quotas(in_flight_images=1))
    first = await tasks.admit(an_admission("task1", team=team, call=a_call()))
    await tasks.expect_retry(team.id, a_call("req_2"))
    again = an_admission("task2", team=team, call=a_call("req_3", count=1), patience_ms=5_000)
    with pytest.raises(RateLimited):
        await tasks.admit(again)
    assert isinstance(first, Admitted)
    await tasks.conclude(first.task, await submitted(tasks, first.task), finished())

    assert isinstance(await tasks.admit(again), Admitted)


async def test_an_idempotency_key_decides_alone(tasks: RedisTaskStore, store: Store) -> None:
    """The same key is the same task, another body is refused, a lost record is gone for good."""
    keyed = a_call("req_1", idempotency="k1")
    await begun(tasks, "task1", keyed)

    assert "task1" == await joined(tasks, a_call("req_2", idempotency="k1"))
    assert None is await joined(tasks, a_call("req_3", count=1), as_task="unkeyed")
    with pytest.raises(IdempotencyConflict):
        await joined(tasks, a_call("req_4", idempotency="k1", fingerprint="e" * 32))

    await store.command("DEL", "{t:design}:task:task1")

    with pytest.raises(PictureExpired):
        await joined(tasks, a_call("req_5", idempotency="k1"))


async def test_a_key_whose_call_came_of_nothing_is_free_again(tasks: RedisTaskStore) -> None:
    """Nothing was submitted, so there is no outcome to be told."""
    task = await begun(tasks, "task1", a_call(idempotency="k1"))
    gone = Ending(Event.EXPIRE, NO_CHARGE, FailureKind.UPSTREAM_DOWN)
    await tasks.conclude(task, task.renders[0], gone)

    assert None is await joined(tasks, a_call("req_2", idempotency="k1"))


@pytest.mark.parametrize("call", [a_call(detached=True), a_call(joins=False)])
async def test_some_tasks_are_never_joined(tasks: RedisTaskStore, call: Call) -> None:
    """Nobody is expected to wait for them, or their team does not want it."""
    task = await begun(tasks, "task1", call)
    await leave(tasks, task)

    assert None is await joined(tasks, a_call("req_2", count=1))


async def test_an_admission_nobody_heard_of_lets_its_task_go(tasks: RedisTaskStore) -> None:
    """A retry that joined and never heard so leaves the task for the next one."""
    await begun(tasks, "task1")
    unheard = an_admission("other", call=a_call("req_2", count=1))
    await tasks.admit(unheard)
    await tasks.give_up(unheard)

    assert "task1" == await joined(tasks, a_call("req_3"), as_task="third")


async def test_what_may_only_join_becomes_no_task(tasks: RedisTaskStore, store: Store) -> None:
    """Without a task to join it is refused, and nothing is held."""
    call = an_admission("task1", call=a_call(count=1))
    with pytest.raises(NotJoinedError):
        await tasks.admit(replace(call, only_join=True))

    assert [] == await ledger_in(store)


async def test_the_index_of_a_busy_call_stays_small(tasks: RedisTaskStore, store: Store) -> None:
    """Answers that were delivered long ago are dropped as new calls come."""
    for number in range(20):
        task = await begun(tasks, f"task{number}", a_call(f"req_{number}"))
        await tasks.conclude(task, await submitted(tasks, task), finished())
        await tasks.shelve(task.team, {TaskId(task.id): ShelfNote({"0": "png 3"}, delivered=True)})
        await store.command("HSET", f"{{t:design}}:task:task{number}", "delivered_ms", "1")

    [key] = await store.command("KEYS", "{t:design}:calls:*")  # type: ignore[misc]
    assert 3 >= await store.command("ZCARD", key)  # type: ignore[operator]


async def test_whoever_sees_to_a_task_knows_where_its_calls_wait(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A retry on another replica is told of the end at once; one on the owner's needs no word."""
    task = await begun(tasks, "task1")
    await joined(tasks, a_call("req_2", count=1))
    elsewhere = a_journal(store, owner="replica_2")
    for count in (2, 3):
        await joined(elsewhere, a_call(f"req_{count}", count=count))
    concluded = await tasks.conclude(task, await submitted(tasks, task), finished())

    assert ("replica_2",) == concluded.watchers
