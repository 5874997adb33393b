from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import orjson
import pytest

from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.ids import TaskId
from gateway.domain.limits import Budget, Period
from gateway.domain.task import FailureKind, RenderState, SubmitOrder
from gateway.providers.interface import Running
from gateway.store.client import Store
from gateway.store.keyspace import wake_key
from gateway.tasks.engine import WITHDRAW_AFTER_S, Ticket
from gateway.tasks.live import MovedError
from gateway.tasks.wake import Kind, Message
from tests.support.engine import (
    COST,
    DONE,
    HOLD,
    OFFER,
    TEAM,
    House,
    eventually,
    failures_of,
    open_house,
    over,
    until,
)
from tests.support.factories import a_call, an_admission
from tests.support.journal import (
    LINK,
    TroubledStore,
    keys_in,
    record_in,
    seen_to_by,
)

QUEUED, SUBMITTED = RenderState.QUEUED, RenderState.SUBMITTED


async def messages_to(store: Store, replica: str) -> list[tuple[str, str]]:
    """Return the kinds and tasks of the messages that were left for a replica."""
    entries = await store.command("XRANGE", wake_key(replica), "-", "+")
    told = [orjson.loads(fields[b"message"]) for _, fields in entries]  # type: ignore[misc, union-attr, call-overload]
    return [(one["kind"], one["task"]) for one in told]


async def is_gone(store: TroubledStore) -> bool:
    """Tell whether the task is not there, and every accident has happened."""
    return not store.losing and not await record_in(store)


# Admission.


async def test_a_picture_is_held_submitted_polled_settled_and_stored(house: House) -> None:
    """The whole way: one submit under a key of its own, the true cost, the picture in the store."""
    live = await house.admit()
    held = await house.money()
    await house.poller.poll()
    outcome = await over(live)
    await house.shelf.flush()

    assert (0, HOLD) == held
    assert (COST, 0) == await house.money()
    [key] = house.provider.keys
    assert key.startswith("run_")
    assert [(LINK, "design/task1/0")] == house.fetcher.fetched
    assert {"admit", "queue", "submit", "render", "fetch", "store"} == live.phases_s.keys()
    assert (1, 0) == (len(outcome.delivered), house.sample("tasks_in_flight", provider="evolink"))
    assert ([], {}) == (await seen_to_by(house.store), house.engine.running)
    assert outcome.task.renders == (await house.written()).renders


async def test_a_task_is_in_flight_once_however_many_pictures_it_has(house: House) -> None:
    """It is counted in with its first render and out with its last."""
    house.provider.polls_of = {"up-3": [Running(), DONE]}
    live = await house.admit(images=3)
    counts = []
    for polls in (3, 1):
        counts.append(house.sample("tasks_in_flight", provider="evolink"))
        await house.poller.poll(polls)
    await over(live)

    assert [1, 1, 0] == [*counts, house.sample("tasks_in_flight", provider="evolink")]


async def test_a_refused_call_is_no_task(house: House) -> None:
    """Nothing runs, nothing is held and nothing is ordered."""
    poor = replace(TEAM, budgets=(Budget("month", limit_microusd=1, per=Period.MONTH),))
    with pytest.raises(BudgetExceeded):
        await house.engine.admit(an_admission(team=poor, hold_microusd=HOLD), OFFER)

    assert {} == house.engine.running == await record_in(house.store)
    assert [] == house.provider.keys


async def test_a_caller_that_leaves_during_admission_leaves_the_task_running(
    house: House,
) -> None:
    """Cancelling the request cannot tear admission and submission apart."""
    admitting = asyncio.get_running_loop().create_task(house.admit())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    admitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await admitting
    await house.poller.poll()
    await house.until_in(RenderState.COMPLETED)

    assert (COST, 0) == await house.money()


async def test_an_admission_nobody_heard_of_is_given_up(troubled: TroubledStore) -> None:
    """When the store ran the admission and its answer was lost, the hold is released."""
    troubled.losing = ["admit", "give_up"]
    async with open_house(troubled) as house:
        with pytest.raises(StoreUnavailable):
            await house.admit(images=3)
        await eventually(partial(is_gone, troubled))

        assert (0, 0) == await house.money()
        assert ([], {}) == (house.provider.keys, house.engine.running)


async def test_a_retry_waits_for_the_task_of_its_call(house: House) -> None:
    """It becomes no task of its own: nothing more is held, and nothing is ordered."""
    first = await house.call("task1", call=a_call("req_1"))
    await house.engine.leave(first)
    retry = await house.call("task2", call=a_call("req_2", count=1))

    assert Ticket(TEAM.id, TaskId("task1"), "req_2", first.place, True, first.live) == retry
    assert (0, HOLD) == await house.money()
    await until(lambda: len(house.provider.keys) == 1)


async def test_a_retry_finds_in_the_journal_what_memory_knows(house: House) -> None:
    """A task that is over here is read from there, so what was gathered is written down first."""
    first = await house.call("task1", call=a_call("req_1"))
    assert first.live is not None
    await house.poller.poll()
    await over(first.live)
    held_back = house.shelf.holds(TEAM.id, TaskId("task1"))
    retry = await house.call("task2", call=a_call("req_2", count=1))

    assert held_back
    assert (True, None) == (retry.joined, retry.live)
    assert (await house.written()).over


# Tasks of others.


async def test_a_task_of_another_is_gone_on_with(house: House) -> None:
    """It runs here from now on, is counted, and its decisions are ours."""
    live = await house.adopt(SUBMITTED)
    outcome = await over(live)

    assert ("replica_1", 2) == (live.task.owner, live.task.epoch)
    assert 1 == len(outcome.delivered)
    assert (COST, 0) == await house.money()
    assert 1 == house.sample("recovered_tasks_total")
    assert 0 == house.sample("tasks_in_flight", provider="evolink")


async def test_a_task_that_runs_here_is_not_run_twice(house: House) -> None:
    """Whatever finds it, it goes on as it was."""
    live = await house.admit()
    house.engine.adopt(live.task)
    await house.poller.poll()
    await over(live)

    assert {} == house.engine.running
    assert 1 == len(house.provider.keys)
    assert 0 == house.sample("recovered_tasks_total")


async def test_a_task_of_a_provider_that_is_gone_is_left_alone(house: House) -> None:
    """Nobody here can follow it: it stays where an operator finds it."""
    live = await house.admit()
    order = SubmitOrder("elsewhere", "elsewhere:1", {})
    house.engine.adopt(replace(live.task, id=TaskId("task2"), order=order))

    assert ["task1"] == list(house.engine.running)


async def test_a_task_that_was_cancelled_before_is_cancelled_here(house: House) -> None:
    """What its team has said is in the record; what was submitted is followed all the same."""
    task = await house.left_behind(QUEUED, SUBMITTED)
    await house.journal.cancel(task.team, task.id)
    outcome = await over(await house.take(task))

    assert [FailureKind.WITHDRAWN, None] == failures_of(outcome)
    assert (COST, 0) == await house.money()
    assert [] == house.provider.keys


async def test_who_waits_elsewhere_is_told_of_the_end(house: House) -> None:
    """The former owner's requests read the journal: it is whole when they are told to."""
    await over(await house.adopt(SUBMITTED))

    assert [("over", "task1")] == await eventually(partial(messages_to, house.store, "replica_0"))
    assert (await house.written()).over


# Handing over.


async def test_tasks_are_handed_over_to_whoever_comes(house: House) -> None:
    """All are nobody's and none runs here; who waits for them is told that they have moved."""
    lives = [await house.admit(task, images=2) for task in ("task1", "task2")]
    await until(lambda: len(house.poller.delays_s) == 4)
    await a_replica(house, "replica_2")
    await house.engine.hand_over()
    for live in lives:
        with pytest.raises(MovedError):
            await over(live)

    assert ([], {}) == (house.poller.delays_s, house.engine.running)
    assert (["task1", "task2"], []) == (
        await seen_to_by(house.store, ""),
        await seen_to_by(house.store),
    )
    assert [("handed_over", "")] == await messages_to(house.store, "replica_2")
    assert 0 == house.sample("tasks_in_flight", provider="evolink")
    assert (0, 4 * HOLD) == await house.money()


async def a_replica(house: House, name: str) -> None:
    """Let another replica be alive."""
    async with open_house(house.store, owner=name):
        await house.replica.renew()


async def test_a_render_that_is_being_posted_is_waited_for(house: House) -> None:
    """Nobody else can learn what became of it: its task is handed over with its upstream id."""
    answered = asyncio.Event()

    async def slowly() -> None:
        await answered.wait()

    house.provider.before_submit = slowly
    live = await house.admit()
    await house.until_in(RenderState.SUBMITTING)
    async with asyncio.TaskGroup() as group:
        handing = group.create_task(house.engine.hand_over())
        await asyncio.sleep(0.15)
        waited = not handing.done()
        answered.set()
    written = await house.written()

    assert waited
    assert (SUBMITTED, "up-1", "") == (
        *(written.renders[0].state, written.renders[0].upstream_id),
        written.owner,
    )
    with pytest.raises(MovedError):
        await over(live)


async def test_a_task_whose_record_is_lost_is_not_handed_over_into_nothing(
    troubled: TroubledStore,
) -> None:
    """The picture may be paid for: its owner writes it down again before it goes (rule 18)."""
    async with open_house(troubled) as house:
        await house.admit()
        await until(lambda: len(house.poller.delays_s) == 1)
        troubled.forgetting = ["move"]
        await house.engine.hand_over()

        assert SUBMITTED == (await house.written()).renders[0].state
        assert (0, HOLD) == await house.money()


async def test_what_was_handed_over_is_finished_by_another(house: House) -> None:
    """Submitted once, followed by the next owner, settled once."""
    await house.admit()
    await until(lambda: len(house.poller.delays_s) == 1)
    await house.engine.hand_over()
    async with open_house(house.store, owner="replica_2", provider=house.provider) as second:
        outcome = await over(await second.take(await house.written()))

        assert (1, 1) == (len(outcome.delivered), len(house.provider.keys))
        assert (COST, 0) == await house.money()


# Leaving and cancelling.


async def a_queued_call(house: House) -> Ticket:
    """Make a call whose render waits for room behind another's."""
    await house.admit("task1")
    await house.until_in(SUBMITTED)
    return await house.call("task2")


async def test_a_queued_task_that_is_left_is_withdrawn_after_a_while(store: Store) -> None:
    """It keeps its place for a retry meanwhile; then it is released."""
    async with open_house(store, max_in_flight=1) as house:
        ticket = await a_queued_call(house)
        await house.engine.leave(ticket)
        withdrawal_s = house.poller.delays_s[-1]
        await house.poller.poll(2)
        assert ticket.live is not None
        outcome = await over(ticket.live)

        assert pytest.approx(withdrawal_s, abs=0.5) == WITHDRAW_AFTER_S
        assert [FailureKind.WITHDRAWN] == failures_of(outcome)
        assert (COST, 0) == await house.money()


async def test_a_task_that_a_retry_has_come_for_is_not_withdrawn(store: Store) -> None:
    """Somebody waits for it again when its time is up."""
    async with open_house(store, max_in_flight=1) as house:
        ticket = await a_queued_call(house)
        await house.engine.leave(ticket)
        again = a_call("req_again", fingerprint="call_task2", count=1)
        retry = await house.call("task3", call=again)
        await house.poller.poll(2)
        await house.poller.poll()
        assert ticket.live is not None
        outcome = await over(ticket.live)

        assert (True, "task2") == (retry.joined, retry.task)
        assert 1 == len(outcome.delivered)


async def test_a_submitted_task_that_is_left_goes_on(house: House) -> None:
    """Its picture is paid for: it is made, stored and kept for a retry."""
    ticket = await house.call()
    await house.until_in(SUBMITTED)
    await house.engine.leave(ticket)
    await house.poller.poll(2)
    assert ticket.live is not None
    outcome = await over(ticket.live)

    assert 1 == len(outcome.delivered)
    assert (COST, 0) == await house.money()


async def test_a_task_that_nobody_waits_for_is_never_withdrawn(house: House) -> None:
    """It was asked for so; there is nobody who could leave it."""
    ticket = await house.call(call=a_call(detached=True))
    await house.engine.leave(ticket)
    await until(lambda: len(house.poller.delays_s) == 1)

    assert [1.0] == [pytest.approx(delay_s, abs=0.5) for delay_s in house.poller.delays_s]
    assert not await house.journal.is_left(ticket.team, ticket.task)


async def test_cancelling_a_task_that_runs_here(store: Store) -> None:
    """What is queued is released at once; what was submitted is followed and paid for."""
    async with open_house(store, max_in_flight=1) as house:
        live = await house.admit(images=2)
        await until(lambda: len(house.poller.delays_s) == 1)
        found = await house.engine.cancel(live.task.team, live.task.id)
        await house.poller.poll()
        outcome = await over(live)

        assert found
        assert 1 == failures_of(outcome).count(FailureKind.WITHDRAWN)
        assert (COST, 0) == await house.money()


async def test_cancelling_a_task_that_another_sees_to(house: House) -> None:
    """Its owner is told, and finds it in the record besides."""
    task = await house.left_behind(QUEUED)
    found = await house.engine.cancel(task.team, task.id)

    assert found
    assert [("cancel", "task1")] == await messages_to(house.store, "replica_0")
    assert (await house.written()).cancelled


async def test_cancelling_what_is_not_there(house: House) -> None:
    """There is no such task."""
    assert not await house.engine.cancel(TEAM.id, TaskId("unheard-of"))


# News.


async def test_a_callback_makes_the_next_poll_happen_now(house: House) -> None:
    """It wakes: what became of the task is asked, and the poll that waited does not come again."""
    house.provider.polls = [Running(), Running(), DONE]
    live = await house.admit()
    await house.poller.poll()
    await house.later(60.0)
    await house.poller.poll()
    before = house.poller.delays_s
    house.engine.hear(Message(Kind.CALLED_BACK, TEAM.id, live.task.id))
    after = house.poller.delays_s
    await house.poller.poll()

    assert 1 == len((await over(live)).delivered)
    assert before[0] > 1.0
    assert [0.0] == [pytest.approx(delay_s, abs=0.1) for delay_s in after]


@pytest.mark.parametrize(
    "message",
    [
        Message(Kind.CALLED_BACK, TEAM.id, TaskId("unheard-of")),
        Message(Kind.CALLED_BACK, TEAM.id, TaskId("task1"), render=7),
        Message(Kind.CANCEL, TEAM.id, TaskId("unheard-of")),
        Message(Kind.HANDED_OVER),
        Message(Kind.OVER, TEAM.id, TaskId("task1")),
    ],
)
async def test_news_that_concern_nothing_here(house: House, message: Message) -> None:
    """Messages may be late, repeated or wrong: they change nothing."""
    live = await house.admit()
    await until(lambda: len(house.poller.delays_s) == 1)
    house.engine.hear(message)
    delays_s = house.poller.delays_s
    await house.poller.poll()

    assert 1 == len((await over(live)).delivered)
    assert [1.0] == [pytest.approx(delay_s, abs=0.5) for delay_s in delays_s]


async def test_a_delivery_is_noted(house: House) -> None:
    """A moment later it is in the journal."""
    ticket = await house.call()
    house.engine.delivered(ticket)
    await house.shelf.flush()

    assert "delivered_ms" in await record_in(house.store)


async def test_a_call_that_was_sent_away_may_come_again(house: House) -> None:
    """Its retry is a call of its own, although it says that it is a retry."""
    house.engine.expect_retry(TEAM.id, a_call())
    await eventually(partial(keys_in, house.store, "{t:design}:refusals:*"))
    first = await house.call("task1", call=a_call("req_1"))
    retry = await house.call("task2", call=a_call("req_2", count=1))
    later = await house.call("task3", call=a_call("req_3", count=2))

    assert [False, False, True] == [ticket.joined for ticket in (first, retry, later)]
