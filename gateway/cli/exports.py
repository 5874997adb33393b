"""Exports of the ledger: what is written, and where to: standard output, a file, an object store.

A file or an object appears under its name only when it is complete and on the disk: what follows
an export may be the removal of what was exported.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TextIO

import obstore
import orjson
from obstore.exceptions import BaseError
from obstore.store import from_url

from gateway.domain.ids import TeamId
from gateway.ledger.entries import CSV_COLUMNS, csv_row, moment_of, record_of
from gateway.ledger.redis_books import RedisBooks

#: The `--to` that means standard output.
STDOUT = "-"


class ExportFailedError(Exception):
    """The export cannot be written there; the message tells why."""


class Format(StrEnum):
    """How an entry is written: a row, or a JSON object on a line of its own."""

    CSV = "csv"
    JSONL = "jsonl"


#: Takes a team's name, how far it is, and how far it goes.
Tell = Callable[[str, int, int], None]

#: Entries between two looks at the progress.
_TELL_EVERY = 500

#: The last number that a stream id can have in its millisecond.
_LAST_NUMBER = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a ledger as its ids bound it: after the one, up to and with the other."""

    after: str
    upto: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: how many entries, and the last one of each team that has any."""

    entries: int
    last: dict[TeamId, str]


def span_of(*, since: date | None, until: date | None) -> Span:
    """Return the stretch between two UTC days, both included; None leaves an end open."""
    return Span(
        after=_before(since) if since else "",
        upto=_before(until + timedelta(days=1)) if until else "+",
    )


class Writer:
    """Writes entries to a file, in one of the formats."""

    def __init__(self, file: TextIO, output: Format) -> None:
        self._file = file
        self._table = csv.writer(file, lineterminator="\n") if output is Format.CSV else None
        if self._table is not None:
            self._table.writerow(CSV_COLUMNS)

    def write(self, record: Mapping[str, object]) -> None:
        """Write one entry."""
        if self._table is not None:
            self._table.writerow(csv_row(record))
        else:
            self._file.write(orjson.dumps(record).decode() + "\n")


async def write_entries(
    books: RedisBooks, teams: Sequence[TeamId], span: Span, writer: Writer, tell: Tell
) -> Exported:
    """Write the entries of teams, one team after the other. Raises StoreUnavailable."""
    written = 0
    last: dict[TeamId, str] = {}
    for team in teams:
        newest_ms = moment_of((await books.snapshot(team, [])).last or "0")
        first_ms = None
        async for raw in books.entries(team, after=span.after, upto=span.upto):
            writer.write(record_of(team, raw))
            written += 1
            last[team] = raw.id
            first_ms = raw.at_ms if first_ms is None else first_ms
            if written % _TELL_EVERY == 0:
                tell(team, raw.at_ms - first_ms, newest_ms - first_ms)
    return Exported(written, last)


@asynccontextmanager
async def opened_target(to: str) -> AsyncIterator[TextIO]:
    """Open what `--to` names for writing text; it is published when the block ends well.

    `to` is ``-``, a path, or a URL such as ``s3://bucket/folder/name.csv`` with credentials from
    where the store's own tools find them. Raises ExportFailedError.
    """
    if to == STDOUT:
        yield sys.stdout
        sys.stdout.flush()
    elif "://" in to:
        with tempfile.TemporaryDirectory(prefix="gateway-export-") as folder:
            path = Path(folder, "export")
            with _new_file(path) as file:
                yield file
            await _upload(path, to)
    else:
        with _replacing(Path(to)) as file:
            yield file


def _before(day: date) -> str:
    """Return the last id that an entry of the day before can have."""
    midnight_ms = round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
    return f"{midnight_ms - 1}-{_LAST_NUMBER}"


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    part = path.with_name(f"{path.name}.part")
    try:
        with _new_file(part) as file:
            yield file
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ExportFailedError(f"cannot write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _upload(path: Path, url: str) -> None:
    place, _, name = url.rpartition("/")
    try:
        await obstore.put_async(from_url(place), name, path)
    except (BaseError, OSError, ValueError) as error:
        # The class only: messages of remote stores hold signed URLs.
        raise ExportFailedError(f"cannot write to the URL: {type(error).__name__}") from error
