from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import orjson
import pytest

from gateway.cli.exports import (
    ExportFailedError,
    Format,
    Span,
    Writer,
    opened_target,
    span_of,
    write_entries,
)
from gateway.domain.ids import TeamId
from gateway.ledger.entries import CSV_COLUMNS
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from tests.support.clock import NOON_MS
from tests.support.ledger import TEAM, BookWriter, a_hold, a_top_up

SEARCH = TeamId("search")
ALL = Span(after="", upto="+")


def _silent(_name: str, _done: int, _total: int) -> None:
    """Show no progress."""


def _noons() -> Iterator[str]:
    """Yield the ids of an entry at noon on each of three days from 2026-11-23."""
    yield from (f"{NOON_MS + day * 86_400_000}-0" for day in range(3))


async def _export(store: Store, output: Format, span: Span = ALL) -> tuple[str, dict[TeamId, str]]:
    file = io.StringIO()
    teams = [TEAM, SEARCH]
    done = await write_entries(RedisBooks(store), teams, span, Writer(file, output), _silent)
    return file.getvalue(), done.last


async def test_json_lines(store: Store) -> None:
    """One object for each entry, team after team, and the last of each is told."""
    first = await BookWriter(store).write(a_hold("t1", 50))
    last = await BookWriter(store).write(a_top_up(9))
    other = await BookWriter(store, SEARCH).write(a_hold("t2", 60, windows=()))
    text, ends = await _export(store, Format.JSONL)
    records = [orjson.loads(line) for line in text.splitlines()]

    assert [("design", first), ("design", last), ("search", other)] == [
        (record["team"], record["id"]) for record in records
    ]
    assert [50, None, 60] == [record.get("amount_microusd") for record in records]
    assert {TEAM: last, SEARCH: other} == ends


async def test_csv(store: Store) -> None:
    """A header, also without entries, and a row for each."""
    assert (",".join(CSV_COLUMNS) + "\n", {}) == await _export(store, Format.CSV)

    await BookWriter(store).write(a_hold("t1", 50))
    text, _ = await _export(store, Format.CSV)
    [row] = csv.DictReader(io.StringIO(text))

    assert ("hold", "t1", "50") == (row["verb"], row["task"], row["amount_microusd"])


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        (None, None, [0, 1, 2]),
        (date(2026, 11, 24), None, [1, 2]),
        (None, date(2026, 11, 24), [0, 1]),
        (date(2026, 11, 24), date(2026, 11, 24), [1]),
    ],
)
async def test_both_days_are_included(
    store: Store, since: date | None, until: date | None, days: list[int]
) -> None:
    """A day is whole: from its first millisecond to its last."""
    for index, entry_id in enumerate(_noons()):
        await BookWriter(store).write(a_top_up(1, op=str(index)), at=entry_id)
    text, _ = await _export(store, Format.JSONL, span_of(since=since, until=until))

    assert [str(day) for day in days] == [
        orjson.loads(line)["op"].removeprefix("top_up:") for line in text.splitlines()
    ]


async def test_a_day_begins_and_ends_at_midnight(store: Store) -> None:
    """In UTC, to the last entry of the last millisecond."""
    midnight_ms = NOON_MS - 12 * 3_600_000
    ids = [f"{midnight_ms - 1}-7", f"{midnight_ms}-0", f"{midnight_ms + 86_400_000 - 1}-7"]
    for index, entry_id in enumerate([*ids, f"{midnight_ms + 86_400_000}-0"]):
        await BookWriter(store).write(a_top_up(1, op=str(index)), at=entry_id)
    day = date(2026, 11, 23)
    text, _ = await _export(store, Format.JSONL, span_of(since=day, until=day))

    assert ids[1:] == [orjson.loads(line)["id"] for line in text.splitlines()]


async def test_progress_is_told(store: Store) -> None:
    """How far in the time that the entries span, now and then."""
    writer = BookWriter(store)
    for index in range(1001):
        await writer.write(a_top_up(1, op=str(index)), at=f"{NOON_MS + index}-0")
    told: list[tuple[str, int, int]] = []
    await write_entries(
        RedisBooks(store),
        [TEAM],
        ALL,
        Writer(io.StringIO(), Format.JSONL),
        lambda *progress: told.append(progress),
    )

    assert [("design", 499, 1000), ("design", 999, 1000)] == told


async def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    """Until then the old one stays under the name."""
    path = tmp_path / "books.csv"
    path.write_text("old")
    async with opened_target(str(path)) as file:
        file.write("né\n")
        file.flush()

        assert "old" == path.read_text()

    assert ("né\n".encode(), [path]) == (path.read_bytes(), list(tmp_path.iterdir()))


async def test_a_file_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """Neither under its name nor beside it."""
    with pytest.raises(RuntimeError, match="no more"):
        async with opened_target(str(tmp_path / "books.csv")):
            raise RuntimeError("no more")

    assert [] == list(tmp_path.iterdir())


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """The error says where and why."""
    path = tmp_path / "nowhere" / "books.csv"
    with pytest.raises(ExportFailedError, match=r"nowhere/books\.csv: No such file"):
        async with opened_target(str(path)):
            pass


async def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """A dash writes there and leaves it open."""
    async with opened_target("-") as file:
        file.write("books\n")

    print("open")  # noqa: T201 - that it can still be written to is the point

    assert "books\nopen\n" == capsys.readouterr().out


async def test_an_object_store(tmp_path: Path) -> None:
    """A URL names an object, which appears when it is complete; a local folder is one too."""
    async with opened_target(f"file://{tmp_path}/books.csv") as file:
        file.write("books\n")

        assert [] == list(tmp_path.iterdir())

    assert "books\n" == (tmp_path / "books.csv").read_text()


async def test_an_object_store_that_is_none() -> None:
    """The error repeats nothing of the URL, which may hold a secret."""
    with pytest.raises(ExportFailedError) as refusal:
        async with opened_target("nope://secret@place/books.csv"):
            pass

    assert "secret" not in str(refusal.value)
