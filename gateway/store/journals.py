"""The journals of a data directory: the one in force, and how another one takes its place.

A server reads `appendonlydir` and nothing else. A restore makes another journal in a folder beside
it, and decides for it by giving that folder another name; what is left to do is done by whoever
comes next, should it be killed then. So either the old books or the new ones are in force, never
none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

#: What the server calls the folder of its journal, and its snapshot.
JOURNAL, SNAPSHOT = "appendonlydir", "dump.rdb"
#: Where a restore makes a journal; worth nothing before it is decided for.
STAGE = "restoring"
_DECIDED = "restored."
#: What a server writes its snapshot to before it is whole.
_UNFINISHED = "temp-*.rdb"


def replace_journal(data_dir: Path, *, now_ms: int, reached: Callable[[str], None]) -> None:
    """Put the journal of the stage in the place of the one in force, which is put aside.

    It goes to `appendonlydir.<now>`. No server may run. Raises OSError.
    """
    (data_dir / STAGE).rename(data_dir / f"{_DECIDED}{now_ms}")
    _sync(data_dir)
    reached("decided")
    finish_replacing(data_dir, reached=reached)


def finish_replacing(
    data_dir: Path, *, reached: Callable[[str], None] = lambda _: None
) -> Path | None:
    """Do what is left of a replacement that was decided for; return where older books are put.

    None when there was none to finish. No server may run. Raises OSError.
    """
    for decided in data_dir.glob(f"{_DECIDED}*"):
        journal, new = data_dir / JOURNAL, decided / JOURNAL
        aside = data_dir / f"{JOURNAL}{decided.suffix}"
        if new.exists() and journal.exists():
            journal.rename(aside)
            _sync(data_dir)
            reached("aside")
        if new.exists():
            new.rename(journal)
            _sync(data_dir)
            reached("replaced")
        shutil.rmtree(decided)
        return aside
    return None


def remove_snapshots(data_dir: Path) -> None:
    """Remove what a backup that was killed has left. No server may run. Raises OSError."""
    for left in (data_dir / SNAPSHOT, *data_dir.glob(_UNFINISHED)):
        left.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Let the names in a folder be on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
