from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from gateway.background import SystemClock
from gateway.domain.ids import TeamId
from gateway.ledger.audit import verify
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.retention import EVERY_S, TURN_S, Retention
from gateway.store.client import Store
from gateway.store.keyspace import retention_turn_key
from tests.support.ledger import TEAM, TOTAL_WINDOW, BookWriter, a_hold, a_top_up, an_end

DAY_MS = 86_400_000
OTHER = TeamId("search")


def _retention(store: Store, books: RedisBooks, *, replica: str = "one") -> Retention:
    async def teams() -> set[TeamId]:
        return {TEAM, OTHER, TeamId("nobody")}

    return Retention(store, books, teams, keep_ms=400 * DAY_MS, replica=replica)


async def _write(store: Store, *ages_days: int, team: TeamId = TEAM) -> list[str]:
    """Write a top-up of each age, oldest first; return the ids."""
    now_ms = SystemClock().now_ms()
    writer = BookWriter(store, team)
    return [
        await writer.write(
            a_top_up(1, op=str(age), window=TOTAL_WINDOW.replace(TEAM, team)),
            at=f"{now_ms - age * DAY_MS - 5_000}-0",
        )
        for age in ages_days
    ]


async def _ids(books: RedisBooks, team: TeamId = TEAM) -> list[str]:
    return [raw.id async for raw in books.entries(team)]


async def test_old_entries_go_and_the_books_agree(store: Store, books: RedisBooks) -> None:
    """Of every team; what is younger stays, and it may be done again and again."""
    ids = await _write(store, 500, 400, 399, 1)
    await _write(store, 401, team=OTHER)
    retention = _retention(store, books)

    assert [3, 0] == [await retention.trim_all(), await retention.trim_all()]
    assert (ids[2:], []) == (await _ids(books), await _ids(books, OTHER))
    assert [(), ()] == [(await verify(books, team)).findings for team in (TEAM, OTHER)]


async def test_a_hold_that_is_open_for_long_ends_well(store: Store, books: RedisBooks) -> None:
    """The checkpoint remembers it."""
    writer, old_ms = BookWriter(store), SystemClock().now_ms() - 401 * DAY_MS
    windows = [TOTAL_WINDOW]
    await writer.write(a_hold("t1", 50, windows), at=f"{old_ms}-0")
    await _retention(store, books).trim_all()
    await writer.write(an_end("settle", "t1", hold=50, cost=30, windows=windows))

    assert () == (await verify(books, TEAM)).findings


async def test_what_cannot_be_understood_stays_and_hides_nothing(
    store: Store, books: RedisBooks
) -> None:
    """It is told, and the other teams are trimmed."""
    await _write(store, 402)
    await store.command(
        "XADD", "{t:design}:ledger", f"{SystemClock().now_ms() - 401 * DAY_MS}-0", "verb", "new"
    )
    await _write(store, 401, team=OTHER)
    with capture_logs() as logs:
        removed = await _retention(store, books).trim_all()

    assert (1, 2) == (removed, len(await _ids(books)))
    assert ["design"] == [line["team"] for line in logs if line["action"] == "not_trimmed"]


async def test_what_was_wrong_is_told_before_it_goes(store: Store, books: RedisBooks) -> None:
    """Nobody can look at it later."""
    old_ms = SystemClock().now_ms() - 401 * DAY_MS
    await BookWriter(store).write(an_end("release", "t1", hold=5), at=f"{old_ms}-0")
    with capture_logs() as logs:
        await _retention(store, books).trim_all()

    assert [f"entry {old_ms}-0: t1:0 ends without an open hold"] == [
        line["finding"] for line in logs if line["action"] == "ledger_finding"
    ]


async def test_one_replica_at_a_time(store: Store, books: RedisBooks) -> None:
    """The turn is for an hour, and free again even when its replica died."""
    one, two = (_retention(store, books, replica=name) for name in ("one", "two"))
    turns = [await one.take_turn(), await two.take_turn(), await one.take_turn()]
    left_s = await store.command("TTL", retention_turn_key())
    await store.command("DEL", retention_turn_key())

    assert [True, False, False] == turns
    assert isinstance(left_s, int)
    assert EVERY_S < TURN_S - 60 < left_s <= TURN_S
    assert await two.take_turn()


async def test_the_loop_trims_in_its_turn(store: Store, books: RedisBooks) -> None:
    """Once at the start."""
    await _write(store, 401, 1)
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        loops = [
            group.create_task(_retention(store, books, replica=name).run())
            for name in ("one", "two")
        ]
        while True:
            if len(await _ids(books)) == 1:
                break
            await asyncio.sleep(0.01)
        for loop in loops:
            loop.cancel()

    assert () == (await verify(books, TEAM)).findings
