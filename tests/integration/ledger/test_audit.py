from __future__ import annotations

import asyncio
import random

import pytest

from gateway.domain.ids import TeamId
from gateway.ledger import audit
from gateway.ledger.audit import IncompleteLedgerError, trim, verify
from gateway.ledger.checkpoint import NOTHING
from gateway.ledger.entries import parse_entry
from gateway.ledger.redis_books import CheckpointMovedError, Correction, RedisBooks, Snapshot
from gateway.store.client import Store
from gateway.store.keyspace import checkpoint_key, ledger_key
from tests.support.ledger import (
    BOTH,
    DAY_WINDOW,
    KEY_WINDOW,
    TEAM,
    TOTAL_WINDOW,
    BookWriter,
    a_hold,
    a_top_up,
    an_end,
    an_opening,
)


async def _some_books(writer: BookWriter) -> list[str]:
    """Write a little of everything; return the ids."""
    entries = [
        an_opening(DAY_WINDOW, 7),
        a_top_up(1_000),
        a_hold("t1", 50),
        a_hold("t2", 60, windows=(DAY_WINDOW, TOTAL_WINDOW)),
        an_end("settle", "t1", hold=50, cost=30, tokens={"image_output": 272}),
        a_hold("t3", 70),
        an_end("possible_charge", "t3", hold=70, cost=70),
        a_hold("t4", 80),
        an_end("release", "t4", hold=80),
    ]
    return [await writer.write(fields) for fields in entries]


async def _found(books: RedisBooks) -> list[str]:
    return [str(finding) for finding in (await verify(books, TEAM)).findings]


async def test_books_that_agree(books: RedisBooks, writer: BookWriter) -> None:
    """Nothing is found, and it is told how much was looked at."""
    await _some_books(writer)
    done = await verify(books, TEAM)

    assert (TEAM, 9, 3, 1, ()) == (
        *(done.team, done.entries, done.windows, done.days),
        done.findings,
    )


async def test_no_books_agree(books: RedisBooks) -> None:
    """A team that never did anything is in order."""
    done = await verify(books, TEAM)

    assert (0, 0, 0, ()) == (done.entries, done.windows, done.days, done.findings)


async def test_every_wrong_counter_is_a_finding(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """In a window, in a sum, in a window that no entry knows, and one that is gone."""
    await _some_books(writer)
    [day] = [key for key in await books.counter_keys(TEAM) if ":rollup:" in key]
    sum_name = '["ci","gpt-image-1.5","evolink","images"]'
    unknown = "{t:design}:budget:team::month:1793491200000"
    await store.command("HINCRBY", DAY_WINDOW, "spent", 1)
    await store.command("HINCRBY", day, sum_name, 1)
    await store.command("HSET", unknown, "held", 5)
    await store.command("DEL", TOTAL_WINDOW)

    assert {
        f"{DAY_WINDOW}: spent is $0.000108, by the ledger $0.000107",
        f"{unknown}: held is $0.000005, by the ledger $0.00",
        f"{TOTAL_WINDOW}: held is $0.00, by the ledger $0.00006",
        f"{TOTAL_WINDOW}: topped_up is $0.00, by the ledger $0.001",
        f"rollup {day[-8:]} ci/gpt-image-1.5/evolink/images: is 2, by the ledger 1",
    } == set(await _found(books))


async def test_lost_entries_are_found(books: RedisBooks, writer: BookWriter, store: Store) -> None:
    """Counters that nothing explains any more are differences, too."""
    await _some_books(writer)
    await store.command("DEL", ledger_key(TEAM))

    assert 5 <= len(await _found(books))


async def test_an_entry_that_cannot_be_read_is_the_only_finding(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """What it did to counters is unknown, so that they are not complained of."""
    await _some_books(writer)
    entry_id = await store.command("XADD", ledger_key(TEAM), "*", "verb", "lend", "task", "t2")
    await store.command("HINCRBY", DAY_WINDOW, "held", 5)
    assert isinstance(entry_id, bytes)

    assert [f"entry {entry_id.decode()}: the verb 'lend' is not known here"] == await _found(books)


async def test_a_correction_agrees(books: RedisBooks, writer: BookWriter) -> None:
    """What `adjust` writes is what `verify` expects of it."""
    await _some_books(writer)
    end = await books.end_of(TEAM, "t3")
    assert end is not None
    await books.adjust(TEAM, parse_entry(end), Correction("a1", -20, "not on the bill", "kim"))

    assert [] == await _found(books)


async def test_many_windows_are_compared_in_batches(books: RedisBooks, writer: BookWriter) -> None:
    """Each of them, also where one batch does not hold them all, and every day."""
    per_batch = audit.WINDOWS_AT_ONCE
    windows = [
        f"{{t:design}}:budget:team::minute:{1795435200000 + n}" for n in range(per_batch + 3)
    ]
    for day in range(audit.DAYS_AT_ONCE + 1):
        created_ms = 1795435200000 - day * 86_400_000
        hold = await writer.write(a_hold(f"t{day}", 5, windows=windows))
        await writer.write(
            an_end("settle", f"t{day}", hold=5, cost=3, windows=windows, created_ms=created_ms)
        )
        assert hold
    done = await verify(books, TEAM)

    assert (per_batch + 3, audit.DAYS_AT_ONCE + 1, ()) == (done.windows, done.days, done.findings)


async def test_books_are_verified_while_they_are_written(
    books: RedisBooks, writer: BookWriter
) -> None:
    """Nothing stands still for it: no difference that is none, however busy the team is."""
    randomness = random.Random(7)
    done = asyncio.Event()

    async def work(name: str) -> None:
        number = 0
        while not done.is_set():
            number += 1
            task = f"{name}{number}"
            minute = f"{{t:design}}:budget:team::minute:{1795435200000 + number * 60_000}"
            windows = (*BOTH, minute)
            await writer.write(a_hold(task, 50, windows))
            cost = randomness.randrange(60)
            verb = "settle" if cost else "release"
            await writer.write(an_end(verb, task, hold=50, cost=cost, windows=windows))

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(work(name), name=name)
        audits = [await verify(books, TEAM) for _ in range(25)]
        done.set()

    assert [()] * 25 == [each.findings for each in audits]
    assert audits[0].entries < audits[-1].entries


async def test_a_trim_leaves_books_that_agree(books: RedisBooks, writer: BookWriter) -> None:
    """Wherever it cuts, also between a hold and its end; again and again."""
    ids = await _some_books(writer)
    for last in (ids[3], ids[5], ids[-1]):
        await trim(books, TEAM, upto=last, name="x")

        assert [] == await _found(books)
        assert ids[ids.index(last) + 1 :] == [raw.id async for raw in books.entries(TEAM)]

    await writer.write(an_end("settle", "t2", hold=60, cost=40, windows=(DAY_WINDOW, TOTAL_WINDOW)))

    assert [] == await _found(books)
    assert {"t2:0"} == (await books.checkpoint(TEAM)).holds.keys()


async def test_a_trim_tells_what_it_removed(books: RedisBooks, writer: BookWriter) -> None:
    """And what was wrong with entries that can no longer be looked at."""
    last = await writer.write(a_hold("t1", 50))
    end = await writer.write(an_end("settle", "t1", hold=50, cost=3, categories={"a": 2}))
    first = await trim(books, TEAM, upto=last, name="x")
    second = await trim(books, TEAM, upto=end, name="x")
    nothing = await trim(books, TEAM, upto=end, name="x")

    assert (1, ()) == (first.entries, first.findings)
    assert (1, 1) == (second.entries, len(second.findings))
    assert (0, ()) == (nothing.entries, nothing.findings)


async def test_wrong_counters_are_found_after_a_trim(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """A checkpoint is what the entries say, never what the counters say."""
    ids = await _some_books(writer)
    await store.command("HINCRBY", KEY_WINDOW, "held", 1)
    before = await _found(books)
    await trim(books, TEAM, upto=ids[-1], name="x")

    assert 1 == len(before)
    assert before == await _found(books)


async def test_windows_that_have_expired_are_left_out(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """A checkpoint would grow for ever; what still exists stays, however old it is."""
    old = [f"{{t:design}}:budget:team::minute:{n}" for n in range(1, audit.WINDOWS_AT_ONCE + 2)]
    await writer.write(a_hold("t1", 5, windows=old))
    last = await writer.write(an_end("settle", "t1", hold=5, cost=3, windows=old))
    await store.command("DEL", *old[1:])
    await trim(books, TEAM, upto=last, name="x")

    assert old[:1] == list((await books.checkpoint(TEAM)).windows)
    assert [] == await _found(books)


async def test_entries_that_cannot_be_read_are_not_trimmed(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """No state can stand in for what nobody understands."""
    await writer.write(a_hold("t1", 5))
    last = await store.command("XADD", ledger_key(TEAM), "*", "verb", "lend")
    assert isinstance(last, bytes)
    with pytest.raises(IncompleteLedgerError, match="the verb 'lend' is not known here"):
        await trim(books, TEAM, upto=last.decode(), name="x")

    assert NOTHING == await books.checkpoint(TEAM)
    assert 2 == len([raw async for raw in books.entries(TEAM)])


async def test_a_trim_meanwhile_starts_the_verification_anew(
    books: RedisBooks, writer: BookWriter
) -> None:
    """Entries that go while they are read are missed by nobody."""
    ids = await _some_books(writer)
    looking = _TrimsMeanwhile(books, [ids[3], ids[5]])
    done = await verify(looking, TEAM)

    assert ((), 3) == (done.findings, done.entries)


async def test_a_ledger_that_is_always_trimmed_is_given_up(
    books: RedisBooks, writer: BookWriter
) -> None:
    """A finding would be wrong, and waiting for ever is no answer."""
    ids = await _some_books(writer)
    with pytest.raises(CheckpointMovedError):
        await verify(_TrimsMeanwhile(books, ids), TEAM)


async def test_a_checkpoint_that_changes_while_it_is_read(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """Half of one and half of another is no state at all."""
    last = await writer.write(a_hold("t1", 5))
    await trim(books, TEAM, upto=last, name="x")
    changing = _Changing(store)
    with pytest.raises(CheckpointMovedError):
        await changing.checkpoint(TEAM)


class _TrimsMeanwhile(RedisBooks):
    """Real books that somebody else trims each time the counters have been looked for."""

    def __init__(self, books: RedisBooks, cuts: list[str]) -> None:
        super().__init__(books._store)
        self._cuts = list(cuts)

    async def counter_keys(self, team: TeamId) -> set[str]:
        found = await super().counter_keys(team)
        if self._cuts:
            await trim(RedisBooks(self._store), team, upto=self._cuts.pop(0), name="other")
        return found


class _Changing(RedisBooks):
    """Real books whose checkpoint is replaced right after it was read."""

    async def snapshot(self, team: TeamId, keys: object) -> Snapshot:
        await self._store.command("HSET", checkpoint_key(team), "last", "9-9")
        return await super().snapshot(team, [])
