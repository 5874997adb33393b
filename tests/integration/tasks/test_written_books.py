"""Price books on the real store: written with the admission that first names them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.errors import BudgetExceeded
from gateway.domain.limits import Budget, Period
from gateway.domain.price_books import parse_book, written
from gateway.store.client import Store
from gateway.tasks.interface import Admission, Joined
from gateway.tasks.written_books import AGAIN_AFTER_S, KEEP_MS
from tests.support.factories import a_book, a_call, a_team, an_admission
from tests.support.journal import (
    KEEPING,
    LaterClock,
    TroubledStore,
    a_journal,
    admitted,
    keys_in,
)

TEAM = a_team()
BOOK = written(a_book())
KEY = f"{{t:design}}:book:{BOOK.digest}"
LASTS_MS = KEEP_MS + KEEPING.listed_ms


def quoted(task: str = "task1", **changes: object) -> Admission:
    """Return a call that was quoted by `BOOK`."""
    return replace(an_admission(task, team=TEAM), book=BOOK, **changes)  # type: ignore[arg-type]


async def lasts_ms(store: Store) -> int:
    """Return how long the book is kept; below zero where it is not there."""
    reply = await store.command("PTTL", KEY)
    assert isinstance(reply, int)
    return reply


async def test_a_book_is_there_when_its_record_is(store: Store) -> None:
    """Any process reads it as it was, for longer than a task can name it."""
    task = (await admitted(a_journal(store), quoted())).task
    text = await a_journal(store, owner="replica_2").book(TEAM.id, task.book)

    assert text is not None
    assert a_book() == parse_book(replace(BOOK, text=text))
    assert LASTS_MS - 60_000 < await lasts_ms(store) <= LASTS_MS


async def test_a_book_is_written_once_and_then_every_hour(store: Store) -> None:
    """What one process wrote another one does not know of: each of them does it."""
    clock = LaterClock()
    journal = a_journal(store, clock=clock)
    there = []
    for number, passed_s in enumerate((0.0, 1.0, AGAIN_AFTER_S)):
        clock.advance(passed_s)
        await store.command("DEL", KEY)
        await admitted(journal, quoted(f"task{number}"))
        there.append(await journal.book(TEAM.id, BOOK.digest) is not None)
    await store.command("DEL", KEY)
    await admitted(a_journal(store, owner="replica_2"), quoted("task9"))

    assert [True, False, True] == there
    assert await journal.book(TEAM.id, BOOK.digest) is not None


async def test_a_call_that_becomes_no_task_brings_no_book(store: Store) -> None:
    """Refused, or joined to the task it is a retry of: the next that is admitted brings it."""
    poor = a_team(budgets=(Budget(name="month", limit_microusd=1, per=Period.MONTH),))
    journal = a_journal(store)
    with pytest.raises(BudgetExceeded):
        await journal.admit(replace(an_admission("task1", team=poor), book=BOOK))
    refused = await lasts_ms(store)
    await admitted(journal, an_admission("task2", team=TEAM, call=a_call()))
    joined = await journal.admit(quoted("task3", call=a_call("req_2", count=1)))
    after_join = await lasts_ms(store)
    await admitted(journal, quoted("task4"))

    assert isinstance(joined, Joined)
    assert [-2, -2] == [refused, after_join]
    assert await lasts_ms(store) > 0


async def test_a_record_that_is_written_anew_has_its_book_beside_it(store: Store) -> None:
    """A store that has forgotten all is told all, by whoever wrote it."""
    journal = a_journal(store)
    task = (await admitted(journal, quoted())).task
    await store.command_everywhere("FLUSHALL")
    await journal.restore(task, None)

    assert [KEY] == await keys_in(store, "*:book:*")
    assert BOOK.text == await journal.book(TEAM.id, BOOK.digest)


async def test_a_book_that_a_failover_may_have_lost_is_written_again(
    troubled: TroubledStore,
) -> None:
    """With the first admission after the store was in doubt."""
    journal = a_journal(troubled)
    await admitted(journal, quoted())
    await troubled.command("DEL", KEY)
    troubled.doubts_more = 1
    await admitted(journal, quoted("task2"))

    assert BOOK.text == await journal.book(TEAM.id, BOOK.digest)


async def test_an_admission_that_is_repeated_keeps_the_book(store: Store) -> None:
    """The first run has written it; a repetition changes nothing."""
    journal = a_journal(store)
    first = await admitted(journal, quoted())
    again = await admitted(a_journal(store), quoted())

    assert first.task.id == again.task.id
    assert [KEY] == await keys_in(store, "*:book:*")


async def test_calls_without_prices_in_writing_leave_nothing(store: Store) -> None:
    """Their records name no book."""
    task = (await admitted(a_journal(store), an_admission(team=TEAM))).task

    assert "" == task.book
    assert [] == await keys_in(store, "*:book:*")
