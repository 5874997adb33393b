"""A budget that comes while pictures are made holds what they may cost, and books what they do."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from gateway.background import SystemClock
from gateway.domain.accounts import ApiKey, Team
from gateway.domain.errors import BudgetExceeded
from gateway.domain.limits import Budget, Period
from gateway.domain.task import Task
from gateway.ledger.audit import trim, verify
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from gateway.tasks.interface import Admission, Call
from gateway.tasks.redis_tasks import RedisTaskStore
from tests.support.factories import TEAM_ID, a_team, an_admission
from tests.support.journal import (
    a_journal,
    admitted,
    budgets_in,
    failed,
    finished,
    keys_in,
    ledger_in,
    moment_of,
    record_in,
    set_back,
    submitted,
)

OLD = Budget("total", 10**6, Period.TOTAL)
NEW = Budget("month", 1_000, Period.MONTH)
BEFORE = a_team(budgets=(OLD,))
AFTER = a_team(budgets=(OLD, NEW))

#: Where windows of the team are noted that are open.
OPENED = "{t:design}:opened:team:"

SCOPES = ("team", "key", "user")


def admission(
    number: int,
    team: Team = BEFORE,
    *,
    key: ApiKey | None = None,
    user: str = "",
    subject: str = "",
    images: int = 1,
) -> Admission:
    """Ask for pictures of at most 60 micro-dollars each."""
    return an_admission(
        f"task{number}", team=team, key=key, user=user, subject=subject, images=images
    )


def under(scope: str, budget: Budget = NEW, *, key: str = "ci") -> tuple[Team, ApiKey]:
    """Return team and key once a budget of this scope was added."""
    team = a_team(budgets=(OLD, budget)) if scope == "team" else BEFORE
    if scope == "user":
        team = replace(team, user_budgets=(budget,))
    return team, ApiKey(key, budgets=(budget,) if scope == "key" else ())


async def new_in(store: Store) -> tuple[int, int]:
    """Return spent and held of the new budget."""
    return (await budgets_in(store))["month"]


async def end(journal: RedisTaskStore, task: Task, cost: int, *, index: int = 0) -> None:
    """Take a render to its end, and tell it twice."""
    render = await submitted(journal, task, index)
    for _ in range(2):
        await journal.conclude(task, render, finished(cost) if cost else failed())


def ended(opened: str, key: str) -> str:
    """Return a list of opened windows in which this one is over."""
    return re.sub(rf"\d+ {re.escape(key)}", rf"1 {key}", opened)


async def commands_run(store: Store) -> int:
    """Return how many commands the server has run, those inside scripts among them."""
    stats = await store.command("INFO", "commandstats")
    assert isinstance(stats, dict)
    return sum(each["calls"] for each in stats.values())


async def date_back(store: Store, number: int, days: float = 40) -> None:
    """Let a task have been created long ago, by all that the store says of it."""
    long_ago_ms = SystemClock().now_ms() - round(days * 86_400_000)
    await store.command("HSET", f"{{t:design}}:task:task{number}", "created_ms", long_ago_ms)
    await store.command("ZADD", "{t:design}:tasks", long_ago_ms, f"task{number}")


async def findings(store: Store) -> tuple[object, ...]:
    """Return what is wrong with the books."""
    return (await verify(RedisBooks(store), TEAM_ID)).findings


@pytest.mark.parametrize("scope", SCOPES)
async def test_what_is_under_way_is_held_and_booked(
    tasks: RedisTaskStore, store: Store, scope: str
) -> None:
    """All of a team's, a key's own, an end user's own; and each once."""
    mine = (await admitted(tasks, admission(1, user="aaaa"))).task
    other = (await admitted(tasks, admission(2, key=ApiKey("web"), user="bbbb"))).task
    team, key = under(scope)
    third = (await admitted(tasks, admission(3, team, key=key, user="aaaa"))).task
    opened = await new_in(store)
    [last] = [one for one in third.hold.windows if one.name == "month"]
    for task in (mine, other, third):
        await end(tasks, task, 40)

    counted = 3 if scope == "team" else 2
    assert (0, counted * 60) == opened
    assert (counted * 40, 0) == await new_in(store)
    assert scope == last.scope
    assert () == await findings(store)


async def test_users_that_the_books_did_not_know_are_found(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Before their team's first user budget, tasks remember whom the call named all the same."""
    task = (await admitted(tasks, admission(1, subject="aaaa"))).task
    team, key = under("user")
    await admitted(tasks, admission(2, team, key=key, user="aaaa"))
    await end(tasks, task, 40)

    assert (40, 60) == await new_in(store)
    assert () == await findings(store)


async def test_a_call_that_does_not_fit_beside_them_is_refused(
    tasks: RedisTaskStore, store: Store
) -> None:
    """What is under way is held over the limit if need be; the refusal tells it, and it stays."""
    task = (await admitted(tasks, admission(1, images=3))).task
    team = replace(AFTER, budgets=(OLD, replace(NEW, limit_microusd=100)))
    with pytest.raises(BudgetExceeded) as refusal:
        await admitted(tasks, admission(2, team))
    with pytest.raises(BudgetExceeded):
        await admitted(tasks, admission(3, team))
    held = await new_in(store)
    for index in range(3):
        await end(tasks, task, 20, index=index)
    await admitted(tasks, admission(4, replace(AFTER, budgets=(OLD, NEW))))

    assert (0, 180) == (refusal.value.budget.spent_microusd, refusal.value.budget.held_microusd)
    assert (0, 180) == held
    assert (60, 60) == await new_in(store)
    assert () == await findings(store)


async def test_of_several_pictures_those_not_settled_are_held(
    tasks: RedisTaskStore, store: Store
) -> None:
    """What was settled is in the sums, what was raised is held as raised; a later raise counts."""
    task = (await admitted(tasks, admission(1, images=3))).task
    first, second, third = [await submitted(tasks, task, index) for index in range(3)]
    await tasks.conclude(task, first, finished(50))
    await tasks.raise_hold(task, second, 7)
    await admitted(tasks, admission(2, AFTER))
    opened = await new_in(store)
    await tasks.raise_hold(task, third, 5)
    await tasks.raise_hold(task, second, 7)
    raised = await new_in(store)
    await tasks.conclude(task, second, failed())
    await tasks.conclude(task, third, finished(64))
    widened = [line for line in await ledger_in(store) if line["verb"] == "widen"]

    assert (50, 67 + 60 + 60) == opened
    assert (50, 67 + 65 + 60) == raised
    assert (114, 60) == await new_in(store)
    assert [("1", "67"), ("2", "60")] == [(line["render"], line["amount"]) for line in widened]
    assert () == await findings(store)


async def test_whoever_takes_the_task_over_knows_the_window(
    tasks: RedisTaskStore, store: Store
) -> None:
    """The record has it: the new owner's answers tell the budget, and its end settles in it."""
    task = (await admitted(tasks, admission(1))).task
    await admitted(tasks, admission(2, AFTER))
    taker = a_journal(store, owner="replica_2")
    taken = await taker.take(TEAM_ID, task.id, owner="replica_1")
    assert taken is not None
    render = await submitted(taker, taken)
    concluded = await taker.conclude(taken, render, finished(40))

    assert ["total", "month"] == [window.name for window in taken.hold.windows]
    assert [("total", 40), ("month", 40)] == [
        (state.name, state.spent_microusd) for state in concluded.budgets
    ]
    assert (40, 60) == await new_in(store)
    assert () == await findings(store)


async def test_what_is_given_up_frees_the_new_window(tasks: RedisTaskStore, store: Store) -> None:
    """An admission whose answer was never heard holds nothing there either."""
    unheard = admission(1, user="aaaa", images=2)
    await admitted(tasks, unheard)
    await admitted(tasks, admission(2, AFTER))
    held = await new_in(store)
    await tasks.give_up(unheard)
    await tasks.give_up(unheard)

    assert ((0, 180), (0, 60)) == (held, await new_in(store))
    assert () == await findings(store)
    assert 0 == await store.command("EXISTS", "{t:design}:in_flight:aaaa")


async def test_repetitions_hold_nothing_twice(tasks: RedisTaskStore, store: Store) -> None:
    """The opening call again, the old call again, a cancelled task, an end that is told twice."""
    old, new = admission(1), admission(2, AFTER)
    task = (await admitted(tasks, old)).task
    for _ in range(2):
        await tasks.admit(new)
        await tasks.admit(old)
    await tasks.cancel(TEAM_ID, task.id)
    held = await new_in(store)
    render = await submitted(tasks, task)
    for _ in range(2):
        await tasks.conclude(task, render, finished(40))

    assert ((0, 120), (40, 60)) == (held, await new_in(store))
    assert () == await findings(store)


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_window_that_turns_takes_nothing_of_before(
    tasks: RedisTaskStore, store: Store, scope: str
) -> None:
    """What was created before a window began is counted where it was."""
    task = (await admitted(tasks, admission(1, user="aaaa"))).task
    await date_back(store, 1)
    team, key = under(scope)
    await admitted(tasks, admission(2, team, key=key, user="aaaa"))
    await end(tasks, task, 40)

    assert (0, 60) == await new_in(store)
    assert "widen" not in [line["verb"] for line in await ledger_in(store)]
    assert () == await findings(store)


async def test_a_window_whose_predecessor_holds_a_task_leaves_it_there(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A gateway's clock ahead of the store's dates a task into the window after its own."""
    minute = Budget("month", 1_000, Period.MONTH)
    team = a_team(budgets=(minute,))
    task = (await admitted(tasks, admission(1, team))).task
    [window] = task.hold.windows
    assert window.resets_at_ms is not None
    start = window.starts_at_ms
    # The window that is open becomes the one before: its end is where the current one begins.
    facts = (await record_in(store))["held"]
    facts = facts.replace(str(window.resets_at_ms), str(start)).replace(
        f'"starts_at_ms":{start}', f'"starts_at_ms":{start - 1}'
    )
    key = window.key.replace(str(start), str(start - 1))
    await store.command("RENAME", window.key, key)
    await store.command(
        "HSET",
        "{t:design}:task:task1",
        "held",
        facts.replace(window.key, key),
        "windows",
        f'["{key}"]',
    )
    second = (await admitted(tasks, admission(2, team))).task
    held = await store.command("HGET", second.hold.windows[0].key, "held")

    assert (window.key, b"60") == (second.hold.windows[0].key, held)


async def test_a_budget_of_another_period_by_the_same_name_is_new(
    tasks: RedisTaskStore, store: Store
) -> None:
    """It is its windows that count: the day's hold is no hold of the month."""
    day, month = (Budget("cap", 1_000, period) for period in (Period.DAY, Period.TOTAL))
    task = (await admitted(tasks, admission(1, a_team(budgets=(day,))))).task
    second = (await admitted(tasks, admission(2, a_team(budgets=(month,))))).task
    await end(tasks, task, 40)
    spent, held = await store.command(  # type: ignore[misc]
        "HMGET", second.hold.windows[0].key, "spent", "held"
    )

    assert (b"40", b"60") == (spent, held)
    assert () == await findings(store)


async def test_minute_budgets_hold_what_began_in_the_minute(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Their sums start empty, but what is under way is known exactly."""
    left_ms = 60_000 - SystemClock().now_ms() % 60_000
    await asyncio.sleep(left_ms / 1000 if left_ms < 5_000 else 0)
    task = (await admitted(tasks, admission(1))).task
    minute = replace(NEW, per=Period.MINUTE)
    await admitted(tasks, admission(2, a_team(budgets=(OLD, minute))))
    await end(tasks, task, 40)

    assert (40, 60) == await new_in(store)
    assert () == await findings(store)


async def test_a_checkpoint_knows_what_was_widened(tasks: RedisTaskStore, store: Store) -> None:
    """Trimmed before the end of the hold, the books still agree after it."""
    task = (await admitted(tasks, admission(1))).task
    await admitted(tasks, admission(2, AFTER))
    books = RedisBooks(store)
    last = (await books.snapshot(TEAM_ID, [])).last
    await trim(books, TEAM_ID, upto=last, name="one")
    await end(tasks, task, 40)

    assert () == await findings(store)
    assert 1 == (await verify(books, TEAM_ID)).entries


async def test_a_task_the_store_forgot_is_found_by_the_window_again(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Written anew from what its owner remembers, it is under way when the window is opened."""
    moment = await moment_of(store)
    task = (await admitted(tasks, admission(1))).task
    await admitted(tasks, admission(2, AFTER))
    await set_back(store, moment)
    await tasks.restore(task, Call("call_task1", "req_task1"))
    await admitted(tasks, admission(3, AFTER))
    held = await new_in(store)
    await end(tasks, task, 40)

    assert ((0, 120), (40, 60)) == (held, await new_in(store))
    assert () == await findings(store)


async def test_a_task_written_anew_opens_windows_for_the_others(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Whichever comes back first: what a window's opening finds under way is held in it."""
    moment = await moment_of(store)
    old = (await admitted(tasks, admission(1))).task
    new = (await admitted(tasks, admission(2, AFTER))).task
    await set_back(store, moment)
    for task in (old, new):
        await tasks.restore(task, None)

    assert (0, 120) == await new_in(store)
    assert () == await findings(store)


async def test_a_raise_that_was_forgotten_is_held_there_too(
    tasks: RedisTaskStore, store: Store
) -> None:
    """What the owner remembers of a raise goes to the windows of the record, not of its memory."""
    task = (await admitted(tasks, admission(1))).task
    render = await submitted(tasks, task)
    await admitted(tasks, admission(2, AFTER))
    remembered = task.with_render(replace(render, raised_microusd=9))
    await tasks.restore(remembered, None)
    raised = await new_in(store)
    await tasks.conclude(task, render, finished(40))

    assert ((0, 129), (40, 60)) == (raised, await new_in(store))
    assert () == await findings(store)


@pytest.mark.parametrize("scope", SCOPES)
async def test_who_does_not_know_the_budget_yet_counts_in_it(
    tasks: RedisTaskStore, store: Store, scope: str
) -> None:
    """A gateway that takes the settings over later holds its calls in windows opened elsewhere."""
    team, key = under(scope)
    await admitted(tasks, admission(1, team, key=key, user="aaaa"))
    late = a_journal(store, owner="replica_2")
    mine = await admitted(late, admission(2, subject="aaaa", images=2))
    again = await admitted(late, admission(2, subject="aaaa", images=2))
    other = await admitted(late, admission(3, key=ApiKey("web"), subject="bbbb"))
    held = await new_in(store)
    await end(late, mine.task, 40)
    await end(late, mine.task, 0, index=1)
    await end(late, other.task, 40)

    taken = await tasks.take(TEAM_ID, mine.task.id, owner="replica_2")
    assert taken is not None
    counted = 1 if scope == "team" else 0
    assert ["total", "month"] == [window.name for window in taken.hold.windows]
    assert ["total"] == [budget.name for budget in mine.budgets]
    assert mine.task.id == again.task.id
    assert (0, 180 + counted * 60) == held
    assert (40 + counted * 40, 60) == await new_in(store)
    assert () == await findings(store)


async def test_all_windows_of_an_owner_are_known(tasks: RedisTaskStore, store: Store) -> None:
    """Opened one after the other; one that is over is forgotten when the next one comes."""
    await admitted(tasks, admission(1, AFTER))
    last = replace(NEW, name="last", per=Period.TOTAL)
    await admitted(tasks, admission(2, a_team(budgets=(OLD, NEW, last))))
    await admitted(a_journal(store, owner="replica_2"), admission(3))
    budgets = await budgets_in(store)
    [key] = await keys_in(store, "{t:design}:budget:team::month:*")
    opened = await store.command("GET", OPENED)
    assert isinstance(opened, bytes)
    await store.command("SET", OPENED, ended(opened.decode(), key))
    await admitted(tasks, admission(4, a_team(budgets=(replace(NEW, name="next"),))))
    noted = await store.command("GET", OPENED)
    assert isinstance(noted, bytes)

    assert {"total": (0, 180), "month": (0, 180), "last": (0, 180)} == budgets
    assert (True, False) == (b":last:" in noted, b":month:" in noted)


async def test_a_budget_that_goes_and_comes_back_missed_nothing(
    tasks: RedisTaskStore, store: Store
) -> None:
    """In its window it counts whether it is there or not, and refuses only while it is."""
    tight = a_team(budgets=(OLD, replace(NEW, limit_microusd=100)))
    await admitted(tasks, admission(1, tight))
    without = (await admitted(tasks, admission(2))).task
    await end(tasks, without, 40)
    with pytest.raises(BudgetExceeded) as refusal:
        await admitted(tasks, admission(3, tight))

    assert (40, 60) == (refusal.value.budget.spent_microusd, refusal.value.budget.held_microusd)


async def test_windows_that_are_over_are_let_go(tasks: RedisTaskStore, store: Store) -> None:
    """Nothing begins in them any more, and the note of them goes with the last."""
    await admitted(tasks, admission(1, a_team(budgets=(NEW,))))
    [key] = await keys_in(store, "{t:design}:budget:team::month:*")
    opened = await store.command("GET", OPENED)
    assert isinstance(opened, bytes)
    words = opened.decode()
    changed = ended(words, key)
    goes_ms: Any = await store.command("PEXPIRETIME", OPENED)
    assert changed != words
    await store.command("SET", OPENED, changed)
    await admitted(tasks, admission(2))

    assert (0, 60) == await new_in(store)
    assert f" {goes_ms} {key}" in words


async def test_a_task_written_anew_is_held_in_what_others_opened(
    tasks: RedisTaskStore, store: Store
) -> None:
    """A store that comes back without it, and another gateway's call before its owner's memory."""
    moment = await moment_of(store)
    task = (await admitted(tasks, admission(1))).task
    await set_back(store, moment)
    await admitted(a_journal(store, owner="replica_2"), admission(2, AFTER))
    await tasks.restore(task, None)
    held = await new_in(store)
    await end(tasks, task, 40)

    assert ((0, 120), (40, 60)) == (held, await new_in(store))
    assert () == await findings(store)


async def test_a_task_of_before_a_window_is_not_written_into_it(
    tasks: RedisTaskStore, store: Store
) -> None:
    """What counts is when it was created, as if it had never been lost."""
    moment = await moment_of(store)
    task = (await admitted(tasks, admission(1))).task
    await set_back(store, moment)
    await admitted(a_journal(store, owner="replica_2"), admission(2, AFTER))
    long_ago_ms = task.created_ms - 40 * 86_400_000
    await tasks.restore(replace(task, created_ms=long_ago_ms), None)

    assert (0, 60) == await new_in(store)


async def test_a_task_is_written_into_one_window_of_a_budget(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Dated into the window after its own, it goes back to where it was, and nowhere else."""
    moment = await moment_of(store)
    task = (await admitted(tasks, admission(1, a_team(budgets=(NEW,))))).task
    await set_back(store, moment)
    new = (await admitted(a_journal(store, owner="replica_2"), admission(2, AFTER))).task
    [window] = task.hold.windows
    start_ms = window.starts_at_ms
    day_before_ms = start_ms - 86_400_000
    key = window.key.replace(str(start_ms), str(day_before_ms))
    before = replace(window, key=key, starts_at_ms=day_before_ms, resets_at_ms=start_ms)
    await tasks.restore(replace(task, hold=replace(task.hold, windows=(before,))), None)
    held = [await store.command("HGET", key, "held") for key in (before.key, window.key)]

    assert window.key == new.hold.windows[1].key
    assert [b"60", b"60"] == held


async def test_a_task_whose_record_named_no_subject_is_written_anew(
    tasks: RedisTaskStore, store: Store
) -> None:
    """Records of before have the end user only where the books know it."""
    team, key = under("user")
    moment = await moment_of(store)
    task = (await admitted(tasks, admission(1, team, key=key, user="aaaa"))).task
    await set_back(store, moment)
    await tasks.restore(replace(task, subject=""), None)
    await end(tasks, task, 40)

    assert (40, 0) == await new_in(store)
    assert () == await findings(store)


async def test_thousands_under_way(tasks: RedisTaskStore, store: Store) -> None:
    """More than a command takes names of at once; and of those that are gone nothing is held."""
    await admitted(tasks, admission(1))
    gone = [word for number in range(9_000) for word in (1, f"gone{number}")]
    await store.command("ZADD", "{t:design}:in_flight", *gone)
    await admitted(tasks, admission(2, AFTER))

    assert (0, 120) == await new_in(store)
    assert () == await findings(store)


async def test_what_is_off_the_list_is_under_way_all_the_same(
    tasks: RedisTaskStore, store: Store
) -> None:
    """The list of a team's tasks goes back only so far; a total goes back to the beginning."""
    await admitted(tasks, admission(1))
    await store.command("ZREM", "{t:design}:tasks", "task1")
    await admitted(tasks, admission(2, a_team(budgets=(OLD, replace(NEW, per=Period.TOTAL)))))

    assert (0, 120) == await new_in(store)
    assert () == await findings(store)


async def test_what_is_over_is_left_alone(tasks: RedisTaskStore, store: Store) -> None:
    """Of tasks that were created in the window, those that hold nothing stay as they are."""
    for number in (1, 2):
        await admitted(tasks, admission(number))
        await date_back(store, number, days=0.5)
    task = (await admitted(tasks, admission(3))).task
    await end(tasks, task, 40)
    before = await record_in(store, "task3")
    minute = replace(NEW, per=Period.MINUTE)
    await admitted(tasks, admission(4, a_team(budgets=(OLD, minute))))

    assert before == await record_in(store, "task3")
    assert () == await findings(store)


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_turn_looks_at_no_more_than_what_began_in_it(
    tasks: RedisTaskStore, store: Store, scope: str
) -> None:
    """With hundreds under way that began before, opening a window reads none of their records."""
    for number in range(300):
        await admitted(tasks, admission(number, user=f"{number:04x}"))
        await date_back(store, number, days=0.5)
    team, key_after = under(scope, replace(NEW, per=Period.MINUTE))
    before = await commands_run(store)
    await admitted(tasks, admission(1_000, team, key=key_after, user="aaaa"))
    inside = await commands_run(store) - before

    assert (0, 60) == await new_in(store)
    assert inside < 60


async def test_nobody_is_left_in_the_index_of_users(tasks: RedisTaskStore, store: Store) -> None:
    """With a user's last picture its place there is gone."""
    task = (await admitted(tasks, admission(1, subject="aaaa", images=2))).task
    await end(tasks, task, 40)
    between = await store.command("SMEMBERS", "{t:design}:in_flight:aaaa")
    await end(tasks, task, 0, index=1)

    assert {b"task1"} == set(between)  # type: ignore[arg-type]
    assert 0 == await store.command("EXISTS", "{t:design}:in_flight:aaaa")
