"""`make faults`: each fault played against real processes, and a table of what was seen.

    make faults                               all of them: about six minutes
    make faults ARGS="store-down disk-full"   these
    make faults ARGS=--short                  as in the suite
    make faults ARGS=--markdown               the table as it stands in docs/operations.md

Exits with 1 when an answer, a time or a bill is not as it is stated.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import uvloop

from tests.faults.faults import FAULTS
from tests.faults.play import Fault, Played, counted, play

HEAD = (
    "what breaks",
    "what callers saw meanwhile",
    "slowest",
    "bound",
    "in progress",
    "tried again",
    "recovered by itself",
    "charged twice",
)


def tell(line: str, out: TextIO) -> None:
    """Write a line at once."""
    out.write(f"{line}\n")
    out.flush()


def row(played: Played) -> tuple[str, ...]:
    """Return the cells of a fault."""
    before = played.before
    recovered = "no" if played.recovered_s is None else f"yes, after {played.recovered_s:.1f} s"
    return (
        played.fault.what,
        counted(played.during),
        f"{played.slowest_s:.1f} s",
        f"{played.fault.bound_s:g} s",
        "" if before is None else f"{before.what} after {before.took_s:.1f} s",
        counted(played.retried),
        recovered,
        "YES" if played.ordered_twice else "no",
    )


def text(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=True)).rstrip()
        for one in rows
    ]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as Markdown."""
    head, *rest = (f"| {' | '.join(one)} |" for one in rows)
    return [head, "|" + " --- |" * len(rows[0]), *rest]


async def play_all(faults: Sequence[Fault], root: Path, *, short: bool) -> list[Played]:
    """Play one fault after another: while a stage is set up, the loop stands still."""
    done = []
    for fault in faults:
        folder = root / fault.name
        folder.mkdir()
        played = await play(fault, folder, short=short)
        done.append(played)
        tell(f"{fault.name}: {'; '.join(played.problems) or 'as stated'}", sys.stderr)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("names", nargs="*", metavar="FAULT", help=f"of {', '.join(names)}")
    parser.add_argument("--short", action="store_true", help="for as long as in the suite")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - set(names):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    chosen = [fault for fault in FAULTS if not asked.names or fault.name in asked.names]
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        played = runner.run(play_all(chosen, root, short=asked.short))
    rows = [HEAD, *map(row, played)]
    tell("\n".join(markdown(rows) if asked.markdown else text(rows)), sys.stdout)
    if any(one.problems for one in played):
        tell(f"logs: {root}", sys.stderr)
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
