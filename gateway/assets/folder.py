"""What only a folder of this machine has: room that ends, and files of writers that were killed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

#: obstore writes ``<key>#1`` (``#2`` and so on where that is there) and renames it at the end.
_UNFINISHED = re.compile(r".+#\d+")

#: A file of a living writer is touched every few seconds. One that was not for so long has none.
ABANDONED_MS = 3_600_000


#: Tells a folder from others, wherever it is mounted; no picture's name begins like it.
_MARK = ".place"


def mark_of(folder: Path, random_bytes: Callable[[int], bytes]) -> str:
    """Return the random text that is in a folder, where the first who asks for it puts it.

    Whoever reads the same text sees the same folder. Raises OSError.
    """
    mark = folder / _MARK
    if not mark.exists():
        made = random_bytes(16).hex()
        draft = folder / f"{_MARK}.{made}"
        draft.write_text(made)
        try:
            # Whole from the first moment, and the first one stays.
            with suppress(FileExistsError):
                mark.hardlink_to(draft)
        finally:
            draft.unlink()
    return mark.read_text()


def free_bytes(folder: Path) -> int:
    """Return the room that is left below a folder. Raises OSError."""
    return shutil.disk_usage(folder).free


def remove_unfinished(folder: Path, key: str) -> None:
    """Remove what killed writers of an object have left, once it was written by another."""
    directory, _, name = f"{folder}/{key}".rpartition("/")
    left: list[str] = []
    # Its last object may have been removed a moment ago, and the directory with it.
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        left += [
            entry.path
            for entry in entries
            if entry.name.startswith(f"{name}#") and _UNFINISHED.fullmatch(entry.name)
        ]
    for path in left:
        Path(path).unlink(missing_ok=True)


def remove_abandoned(folder: Path, now_ms: int) -> int:
    """Remove what killed writers have left of objects that nobody wrote again; return how many."""
    removed = 0
    for path in _unfinished(folder):
        with suppress(OSError):
            if path.stat().st_mtime * 1000 < now_ms - ABANDONED_MS:
                path.unlink()
                removed += 1
                _remove_empty(folder, path.parent)
    return removed


def remove_directories(folder: Path, key: str) -> None:
    """Remove the directories of an object that are empty now."""
    _remove_empty(folder, (folder / key).parent)


def _remove_empty(folder: Path, directory: Path) -> None:
    with suppress(OSError):
        while directory != folder:
            directory.rmdir()
            directory = directory.parent


def _unfinished(folder: Path) -> Iterator[Path]:
    # From below, and passing over what goes meanwhile: others remove directories, too.
    for directory, _, names in os.walk(folder, topdown=False):
        yield from (Path(directory, name) for name in names if _UNFINISHED.fullmatch(name))
