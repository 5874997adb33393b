from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.store.journals import finish_replacing, remove_snapshots, replace_journal


class KilledError(Exception):
    """Stands for the end of the process."""


def killed_at(step: str) -> Callable[[str], None]:
    """Return what ends everything at a step."""

    def reached(name: str) -> None:
        if name == step:
            raise KilledError

    return reached


def journal(path: Path, books: str) -> Path:
    """Make a folder that stands for a journal."""
    path.mkdir(parents=True)
    (path / "books").write_text(books)
    return path


def seen(data_dir: Path) -> dict[str, str]:
    """Return what there is, by folder."""
    return {path.name: (path / "books").read_text() for path in data_dir.iterdir()}


@pytest.mark.parametrize("step", ["decided", "aside", "replaced", "never"])
def test_a_replacement_that_was_decided_for_is_finished(tmp_path: Path, step: str) -> None:
    """Wherever it was interrupted the new books are in force after the next look, the old aside."""
    data_dir = tmp_path / "data"
    journal(data_dir / "appendonlydir", "old")
    journal(data_dir / "restoring" / "appendonlydir", "new")
    try:
        replace_journal(data_dir, now_ms=17, reached=killed_at(step))
    except KilledError:
        assert step != "never"

    aside = finish_replacing(data_dir)

    assert seen(data_dir) == {"appendonlydir": "new", "appendonlydir.17": "old"}
    assert aside == (None if step == "never" else data_dir / "appendonlydir.17")
    assert finish_replacing(data_dir) is None


@pytest.mark.parametrize("step", ["decided", "never"])
def test_where_there_were_no_books_none_are_aside(tmp_path: Path, step: str) -> None:
    """The new ones take the place, also after an interruption."""
    data_dir = tmp_path / "data"
    journal(data_dir / "restoring" / "appendonlydir", "new")
    try:
        replace_journal(data_dir, now_ms=17, reached=killed_at(step))
    except KilledError:
        finish_replacing(data_dir)

    assert seen(data_dir) == {"appendonlydir": "new"}


def test_snapshots_are_removed_and_nothing_else(tmp_path: Path) -> None:
    """Whole and half ones; the journal and files of others stay."""
    journal(tmp_path / "appendonlydir", "old")
    for name in ("dump.rdb", "temp-123.rdb", "dump.rdb.mine"):
        (tmp_path / name).touch()

    remove_snapshots(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"appendonlydir", "dump.rdb.mine"}
