from dataclasses import dataclass, replace

import pytest

from gateway.simulator.clock import Clock
from gateway.simulator.files import Files, StoredUpload
from gateway.simulator.query_faults import FileRefusedError
from gateway.simulator.settings import SimulatorSettings

PNG = b"\x89PNG\r\n\x1a\n"
SETTINGS = SimulatorSettings(seed=1, files_quota=3, files_keep_s=100.0, files_max_bytes=20)


@dataclass
class Hands:
    """A clock that moves when it is told to."""

    now_s: float = 0.0


def some_files(settings: SimulatorSettings = SETTINGS) -> tuple[Files, Hands]:
    """Return empty books and the hands of their clock."""
    hands = Hands()
    clock = Clock(monotonic_s=lambda: hands.now_s, wall_s=lambda: 1_790_000_000 + hands.now_s)
    return Files(settings, clock), hands


def add(files: Files, name: str = "a.png", folder: str = "", content: bytes = PNG) -> StoredUpload:
    """Store a file."""
    return files.add(content, original_name=name, file_name="", folder=folder)


@pytest.mark.parametrize(
    ("original", "name", "stored", "told"),
    [
        ("fox.png", "", "fox.png", "fox.png"),
        ("fox.png", "b.png", "b.png", "fox.png"),
        ("", "b.png", "b.png", "b.png"),
        ("", "", "file_1.png", "file_1.png"),
    ],
)
def test_names(original: str, name: str, stored: str, told: str) -> None:
    """What is given counts; without anything a name is made up."""
    files, _ = some_files()
    upload = files.add(PNG, original_name=original, file_name=name, folder="")

    assert (stored, told) == (upload.file_name, upload.original_name)


@pytest.mark.parametrize(
    ("folder", "path"),
    [("", "/a.png"), ("photos", "/photos/a.png"), ("a/b/", "/a/b/a.png")],
)
def test_paths(folder: str, path: str) -> None:
    """A folder leads to the file."""
    files, _ = some_files()
    upload = add(files, folder=folder)

    assert path == upload.path
    assert upload == files.by_path(path) == files.by_id(upload.file_id)


@pytest.mark.parametrize("folder", ["/a", "..", "a/../b", "a//b", ".", "a\\b", "x" * 257])
def test_odd_folders(folder: str) -> None:
    """Folders are relative, plain and short."""
    files, _ = some_files()
    with pytest.raises(FileRefusedError, match="upload_path"):
        add(files, folder=folder)


@pytest.mark.parametrize("name", ["a/b", "a\\b", "..", "x" * 256])
def test_odd_names(name: str) -> None:
    """Names have no separators."""
    files, _ = some_files()
    with pytest.raises(FileRefusedError, match="file_name"):
        add(files, name)


@pytest.mark.parametrize(("content", "code"), [(b"GIF", 40002), (PNG + b"x" * 13, 40001)])
def test_odd_contents(content: bytes, code: int) -> None:
    """Type and size are limited; nothing is stored."""
    files, _ = some_files()
    with pytest.raises(FileRefusedError) as refused:
        add(files, content=content)

    assert code == refused.value.problem.code
    assert () == files.newest()


def test_largest_file() -> None:
    """The limit is inclusive."""
    files, _ = some_files()

    assert 20 == len(add(files, content=PNG + b"x" * 12).content)


def test_quota() -> None:
    """It counts what is there now; a file of the same name makes no difference."""
    files, _ = some_files()
    for name in ("a.png", "b.png", "c.png", "c.png"):
        add(files, name)
    with pytest.raises(FileRefusedError) as refused:
        add(files, "d.png")
    first = files.by_path("/a.png")
    assert first is not None
    assert files.remove(first.file_id)
    add(files, "d.png")

    assert 40003 == refused.value.problem.code
    assert ["d.png", "c.png", "b.png"] == [upload.file_name for upload in files.newest()]


def test_same_name_in_another_folder() -> None:
    """Folders keep files apart."""
    files, _ = some_files()
    add(files)
    add(files, folder="x")

    assert 2 == len(files.newest())


def test_expiry() -> None:
    """Each file has its own end, and a newer one of the same name a later end."""
    files, hands = some_files()
    add(files, "a.png")
    add(files, "b.png")
    hands.now_s = 50.0
    newer = add(files, "a.png")
    hands.now_s = 99.9
    before = len(files.newest())
    hands.now_s = 100.0

    assert (2, (newer,)) == (before, files.newest())
    assert files.by_path("/b.png") is None


def test_removal() -> None:
    """What is gone cannot be removed again."""
    files, _ = some_files()
    upload = add(files)

    assert (True, False, False) == (
        files.remove(upload.file_id),
        files.remove(upload.file_id),
        files.remove(""),
    )
    assert files.by_path(upload.path) is None


def test_zero_quota() -> None:
    """An account may have no files."""
    files, _ = some_files(replace(SETTINGS, files_quota=0))
    with pytest.raises(FileRefusedError):
        add(files)
