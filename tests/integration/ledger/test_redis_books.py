from __future__ import annotations

from dataclasses import replace
from datetime import date

import orjson
import pytest

from gateway.domain.ids import TeamId
from gateway.ledger import redis_books
from gateway.ledger.checkpoint import NOTHING, Checkpoint
from gateway.ledger.entries import Counters, Entry, parse_entry
from gateway.ledger.redis_books import (
    PAGE,
    BelowZeroError,
    CheckpointMovedError,
    Corrected,
    Correction,
    RedisBooks,
)
from gateway.ledger.rollups import Line, SumKey
from gateway.store.client import Store
from gateway.store.keyspace import checkpoint_key, ledger_key, staged_checkpoint_key
from tests.support.clock import NOON_MS
from tests.support.ledger import (
    BOTH,
    DAY_WINDOW,
    KEY_WINDOW,
    TEAM,
    TOTAL_WINDOW,
    BookWriter,
    a_hold,
    a_top_up,
    an_adjustment,
    an_end,
    an_opening,
)

NOON = date(2026, 11, 23)
GIVE_BACK = Correction(id="a1", delta_microusd=-20, reason="not on the bill", by="kim")
MONTH_SUMS, TOTAL_SUMS = "{t:design}:spent:202611", "{t:design}:spent:total"


async def _hash(store: Store, key: str) -> dict[str, str]:
    reply = await store.command("HGETALL", key)
    assert isinstance(reply, dict)
    return {name.decode(): value.decode() for name, value in reply.items()}


async def _charge(books: RedisBooks, writer: BookWriter, cost: int = 50) -> Entry:
    """Book a possible charge of a task that was admitted at noon."""
    await writer.write(a_hold("t1", 50), at=f"{NOON_MS}-0")
    await writer.write(
        an_end("possible_charge", "t1", hold=50, cost=cost, created_ms=NOON_MS),
        at=f"{NOON_MS + 1}-0",
    )
    end = await books.end_of(TEAM, "t1")
    assert end is not None
    return parse_entry(end)


async def test_entries_come_in_order_over_several_pages(
    books: RedisBooks, writer: BookWriter
) -> None:
    """Every entry once, whatever a page holds; bounds are after the one, up to the other."""
    count = 2 * PAGE + 1
    for index in range(count):
        await writer.write(a_top_up(1, op=str(index)), at=f"{index + 1}-0")
    ids = [f"{index + 1}-0" for index in range(count)]

    assert ids == [raw.id async for raw in books.entries(TEAM)]
    assert ids[5:-3] == [raw.id async for raw in books.entries(TEAM, after=ids[4], upto=ids[-4])]
    assert [] == [raw.id async for raw in books.entries(TEAM, after=ids[-1])]
    assert [] == [raw.id async for raw in books.entries(TeamId("nobody"))]


async def test_entries_are_read_as_they_were_written(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """Field by field; a byte that is no text does not stop the reading."""
    fields = a_hold("t1", 50)
    await writer.write(fields, at="1-0")
    await store.command("XADD", ledger_key(TEAM), "2-0", "verb", b"\xff")

    assert [fields, {"verb": "\ufffd"}] == [raw.fields async for raw in books.entries(TEAM)]


async def test_whether_there_are_books(books: RedisBooks, writer: BookWriter, store: Store) -> None:
    """From the first entry on; a checkpoint stands for those that were trimmed."""
    before = await books.has(TEAM)
    await _charge(books, writer)
    written = await books.has(TEAM)
    await store.command("DEL", ledger_key(TEAM))
    none = await books.has(TEAM)
    await store.command("HSET", checkpoint_key(TEAM), "a", "field")

    assert (before, written, none, await books.has(TEAM)) == (False, True, False, True)


async def test_the_end_of_a_task(books: RedisBooks, writer: BookWriter) -> None:
    """Its hold while it runs, then its end, which corrections do not hide."""
    assert None is await books.end_of(TEAM, "t1")
    await writer.write(a_hold("t1", 50), at="1-0")
    for index in range(PAGE):
        await writer.write(a_top_up(1, op=str(index)), at=f"{index + 2}-0")
    running = await books.end_of(TEAM, "t1")
    await writer.write(an_end("possible_charge", "t1", hold=50, cost=50))
    await writer.write(an_adjustment("t1", -1))
    ended = await books.end_of(TEAM, "t1")

    assert ("hold", "possible_charge") == (
        running and running.fields["verb"],
        ended and ended.fields["verb"],
    )
    assert None is await books.end_of(TEAM, "t2")


async def test_a_snapshot_is_counters_and_the_last_entry_in_them(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """A hash that does not exist is empty; the moment is the store's."""
    last = await writer.write(a_hold("t1", 50))
    snapshot = await books.snapshot(TEAM, [DAY_WINDOW, TOTAL_WINDOW])
    seconds = await store.command("TIME")
    assert isinstance(seconds, tuple)

    assert (last, "") == (snapshot.last, snapshot.checkpoint)
    assert {DAY_WINDOW: {"held": "50"}, TOTAL_WINDOW: {}} == snapshot.hashes
    assert 0 <= seconds[0] * 1000 + 999 - snapshot.now_ms < 5_000


async def test_a_snapshot_of_nothing(books: RedisBooks) -> None:
    """A team without books has neither entries nor a checkpoint."""
    snapshot = await books.snapshot(TEAM, [])

    assert ("", "", {}) == (snapshot.last, snapshot.checkpoint, snapshot.hashes)


async def test_counters_are_found_wherever_they_come_from(books: RedisBooks, store: Store) -> None:
    """Every window and rollup of this team, among many other keys."""
    await store.command(
        "MSET", *(word for n in range(3 * PAGE) for word in (f"{{t:design}}:task:{n}", "x"))
    )
    mine = {DAY_WINDOW, KEY_WINDOW, "{t:design}:rollup:20261123"}
    for key in (*mine, "{t:designer}:budget:team::day:1", "{t:design}:budgets", "budget:x"):
        await store.command("HSET", key, "spent", 1)

    assert mine == await books.counter_keys(TEAM)


async def test_rollups_are_lines_by_day(books: RedisBooks, writer: BookWriter) -> None:
    """Days outside of the range are left out; days without sums have no lines."""
    await writer.write(a_hold("t1", 50), at=f"{NOON_MS}-0")
    await writer.write(an_end("settle", "t1", hold=50, cost=30), at=f"{NOON_MS + 1}-0")
    sums = {"cost": 30, "images": 1, "cost:image_output": 30}

    assert {
        Line(TEAM, NOON, SumKey("ci", "gpt-image-1.5", "evolink", measure), value)
        for measure, value in sums.items()
    } == set(await books.rollups(TEAM, date(2026, 11, 20), NOON))
    assert [] == await books.rollups(TEAM, date(2026, 11, 20), date(2026, 11, 22))


async def test_a_correction_is_booked_wherever_the_charge_counts(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """In the windows of the charge, in its day's sums, and in the sums for new budgets."""
    charge = await _charge(books, writer)
    bucket = f"{NOON_MS}|"
    for field in ("team|", "key|ci"):
        await store.command("HSET", MONTH_SUMS, bucket + field, 50)
        await store.command("HSET", TOTAL_SUMS, field, 50)
    done = await books.adjust(TEAM, charge, GIVE_BACK)

    assert 30 == done.total_microusd
    assert ["30", "30"] == [(await _hash(store, key))["spent"] for key in BOTH]
    assert {bucket + "team|": "30", bucket + "key|ci": "30"} == await _hash(store, MONTH_SUMS)
    assert {"team|": "30", "key|ci": "30"} == await _hash(store, TOTAL_SUMS)
    assert {"cost": 30, "possible": 50, "adjusted": -20, "cost:image_output": 50} == {
        line.sum.measure: line.value for line in await books.rollups(TEAM, NOON, NOON)
    }
    assert 0 < await _pttl(store, "{t:design}:rollup:20261123") <= 400 * 86_400_000


async def _pttl(store: Store, key: str) -> int:
    reply = await store.command("PTTL", key)
    assert isinstance(reply, int)
    return reply


async def test_a_correction_stands_in_the_ledger(books: RedisBooks, writer: BookWriter) -> None:
    """With who, why, and everything its sums are told apart by."""
    charge = await _charge(books, writer)
    done = await books.adjust(TEAM, replace(charge, user="9f86d081884c7d65"), GIVE_BACK)
    *_, raw = [raw async for raw in books.entries(TEAM)]

    assert done.entry_id == raw.id
    assert {
        "verb": "adjust",
        "op": "adjust:a1",
        "task": "t1",
        "render": "0",
        "delta": "-20",
        "windows": orjson.dumps(BOTH).decode(),
        "key": "ci",
        "user": "9f86d081884c7d65",
        "model": "gpt-image-1.5",
        "provider": "evolink",
        "created_ms": str(NOON_MS),
        "reason": "not on the bill",
        "by": "kim",
    } == raw.fields


async def test_a_user_has_sums_too(books: RedisBooks, writer: BookWriter, store: Store) -> None:
    """The end user's sum is corrected like the others."""
    charge = replace(await _charge(books, writer), user="9f86d081884c7d65")
    await store.command("HSET", TOTAL_SUMS, "user|9f86d081884c7d65", 50)
    await books.adjust(TEAM, charge, GIVE_BACK)

    assert {"user|9f86d081884c7d65": "30"} == await _hash(store, TOTAL_SUMS)


async def test_what_has_expired_stays_gone(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """A window that would come back would never expire again; the entry names the others."""
    charge = await _charge(books, writer)
    await store.command("DEL", DAY_WINDOW, MONTH_SUMS, TOTAL_SUMS)
    await books.adjust(TEAM, charge, GIVE_BACK)
    *_, raw = [raw async for raw in books.entries(TEAM)]

    assert f'["{KEY_WINDOW}"]' == raw.fields["windows"]
    assert 0 == await store.command("EXISTS", DAY_WINDOW, MONTH_SUMS, TOTAL_SUMS)
    await store.command("DEL", KEY_WINDOW)
    await books.adjust(TEAM, charge, replace(GIVE_BACK, id="a2"))
    *_, raw = [raw async for raw in books.entries(TEAM)]

    assert "[]" == raw.fields["windows"]


async def test_a_correction_is_booked_once(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """Repeating it, even after another one, changes nothing and answers the same entry."""
    charge = await _charge(books, writer)
    first = await books.adjust(TEAM, charge, GIVE_BACK)
    second = await books.adjust(TEAM, charge, replace(GIVE_BACK, id="a2", delta_microusd=5))
    again = await books.adjust(TEAM, charge, GIVE_BACK)

    assert (35, Corrected(first.entry_id, 35)) == (second.total_microusd, again)
    assert "35" == (await _hash(store, DAY_WINDOW))["spent"]
    assert 4 == len([raw async for raw in books.entries(TEAM)])


async def test_a_task_never_costs_less_than_nothing(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """All corrections of a task together give back at most what was booked."""
    charge = await _charge(books, writer)
    await books.adjust(TEAM, charge, GIVE_BACK)
    with pytest.raises(BelowZeroError) as refusal:
        await books.adjust(TEAM, charge, replace(GIVE_BACK, id="a2", delta_microusd=-31))

    assert 30 == refusal.value.total_microusd
    assert "30" == (await _hash(store, DAY_WINDOW))["spent"]
    exactly = await books.adjust(TEAM, charge, replace(GIVE_BACK, id="a2", delta_microusd=-30))

    assert 0 == exactly.total_microusd


async def test_a_checkpoint_takes_the_place_of_entries(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """It is there as a whole, for good, and exactly the entries up to its last are gone."""
    ids = [await writer.write(an_opening(DAY_WINDOW, 1)) for _ in range(3)]
    windows = {f"{{t:design}}:budget:team::minute:{n}": Counters(n) for n in range(1, PAGE + 50)}
    checkpoint = Checkpoint(last=ids[1], from_day="20261123", windows=windows)

    assert NOTHING == await books.checkpoint(TEAM)
    assert 2 == await books.replace_by(TEAM, checkpoint, made_from="", name="x")
    assert checkpoint == await books.checkpoint(TEAM)
    assert ids[2:] == [raw.id async for raw in books.entries(TEAM)]
    assert -1 == await _pttl(store, checkpoint_key(TEAM))
    assert 0 == await store.command("EXISTS", staged_checkpoint_key(TEAM, "x"))


async def test_a_checkpoint_may_be_written_again(books: RedisBooks, writer: BookWriter) -> None:
    """When the answer was lost: nothing more goes."""
    ids = [await writer.write(an_opening(DAY_WINDOW, 1)) for _ in range(3)]
    checkpoint = Checkpoint(last=ids[1], from_day="20261123")
    await books.replace_by(TEAM, checkpoint, made_from="", name="x")

    assert 0 == await books.replace_by(TEAM, checkpoint, made_from="", name="x")
    assert ids[2:] == [raw.id async for raw in books.entries(TEAM)]


async def test_of_two_checkpoints_only_one_takes_the_place(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """The other was made from entries that are gone; it leaves nothing behind for long."""
    ids = [await writer.write(an_opening(DAY_WINDOW, 1)) for _ in range(3)]
    first = Checkpoint(last=ids[0], from_day="20261123")
    await books.replace_by(TEAM, first, made_from="", name="x")
    with pytest.raises(CheckpointMovedError):
        await books.replace_by(TEAM, replace(first, last=ids[1]), made_from="", name="y")

    assert first == await books.checkpoint(TEAM)
    assert ids[1:] == [raw.id async for raw in books.entries(TEAM)]
    assert 0 < await _pttl(store, staged_checkpoint_key(TEAM, "y")) <= redis_books.STAGED_MS


async def test_a_checkpoint_that_has_expired_before_its_time(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """Nothing is trimmed for a checkpoint that is not there."""
    last = await writer.write(an_opening(DAY_WINDOW, 1))
    staged = staged_checkpoint_key(TEAM, "x")
    reply = await store.run(
        books._checkpoint, [checkpoint_key(TEAM), staged, ledger_key(TEAM)], ["", last, "9-9"]
    )

    assert [b"unstaged"] == reply
    assert [last] == [raw.id async for raw in books.entries(TEAM)]


async def test_rollups_by_end_user(books: RedisBooks, writer: BookWriter) -> None:
    """From the entries, by the day of admission, corrections included; exactly what was summed."""
    day_ms = 86_400_000
    for index, (user, age_ms) in enumerate(
        [("u1", 0), ("u1", 0), ("", 0), ("u2", day_ms), ("u1", 2 * day_ms)]
    ):
        task, moment_ms = f"t{index}", NOON_MS - age_ms
        await writer.write({**a_hold(task, 50), "user": user}, at=f"{NOON_MS}-{2 * index}")
        await writer.write(
            {**an_end("settle", task, hold=50, cost=30, created_ms=moment_ms), "user": user},
            at=f"{NOON_MS}-{2 * index + 1}",
        )
    correction = {"user": "u1", "created_ms": str(NOON_MS)}
    await writer.write({**an_adjustment("t1", -5), **correction}, at=f"{NOON_MS + 1}-0")
    yesterday = date(2026, 11, 22)
    told = await books.user_rollups(TEAM, yesterday, NOON)
    costs = {(line.user, line.day): line.value for line in told.lines if line.sum.measure == "cost"}

    assert {("u1", NOON): 55, ("", NOON): 30, ("u2", yesterday): 30} == costs
    assert told.complete_from is None
    assert {
        line._replace(user="") for line in told.lines if (line.user, line.day) == ("u2", yesterday)
    } == set(await books.rollups(TEAM, yesterday, yesterday))


async def test_rollups_by_end_user_allow_for_clocks(books: RedisBooks, writer: BookWriter) -> None:
    """A call of the day's first second may stand in the ledger a moment before that day."""
    midnight_ms = NOON_MS - 43_200_000
    await writer.write(a_hold("t1", 50), at=f"{midnight_ms - 30_000}-0")
    await writer.write(
        an_end("settle", "t1", hold=50, cost=30, created_ms=midnight_ms),
        at=f"{midnight_ms - 29_000}-0",
    )

    assert {30} == {
        line.value
        for line in (await books.user_rollups(TEAM, NOON, NOON)).lines
        if line.sum.measure == "cost"
    }


async def test_rollups_by_end_user_know_what_was_trimmed(
    books: RedisBooks, writer: BookWriter, store: Store
) -> None:
    """Days whose entries are gone are not complete; entries nobody understands are passed over."""
    await store.command("XADD", ledger_key(TEAM), f"{NOON_MS - 1}-0", "verb", "new")
    await writer.write(a_top_up(1), at=f"{NOON_MS}-0")
    before = await books.user_rollups(TEAM, NOON, NOON)
    checkpoint = Checkpoint(last=f"{NOON_MS}-0", from_day="20261123")
    await books.replace_by(TEAM, checkpoint, made_from="", name="x")
    after = [await books.user_rollups(TEAM, since, NOON) for since in (NOON, date(2026, 11, 24))]

    assert ([], None) == (before.lines, before.complete_from)
    assert [date(2026, 11, 24), None] == [told.complete_from for told in after]
