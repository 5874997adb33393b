"""Files without names: whole, counted, digested, and gone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gateway.assets.interface import AssetUnavailableError
from gateway.assets.spool import PIECE_BYTES, Spool, open_spool_folder


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 5])
async def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    """In pieces of any size, as often as wanted, with its size and its SHA-256."""
    content = os.urandom(size)
    with Spool(tmp_path) as spool:
        file = spool.open()
        for start in range(0, size, 70_001):
            await file.write(content[start : start + 70_001])
        await file.finish()
        twice = [b"".join([chunk async for chunk in file.chunks()]) for _ in range(2)]
        told = (file.size_bytes, file.digest)

    assert [content, content] == twice
    assert (size, hashlib.sha256(content).hexdigest()) == told


async def test_nothing_has_a_name(tmp_path: Path) -> None:
    """The folder stays empty while files are written, so that a killed process leaves none."""
    with Spool(tmp_path) as spool:
        file = spool.open()
        await file.write(bytes(2 * PIECE_BYTES))
        await file.finish()

        assert [] == [*tmp_path.iterdir()]


async def test_a_spool_that_is_closed_has_no_files(tmp_path: Path) -> None:
    """Their handles are closed with it; closing it again does no harm."""
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no path
    with Spool(tmp_path) as spool:
        files = [spool.open() for _ in range(5)]
        spool.close()

        assert open_before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no path
    with pytest.raises(ValueError, match="closed"):
        files[0].reader()


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A disk that does not take it is told as a store that does not."""
    with Spool(tmp_path / "nowhere") as spool, pytest.raises(AssetUnavailableError):
        spool.open()
    (tmp_path / "file").touch()
    with pytest.raises(AssetUnavailableError, match=r"^references\.spool_dir: "):
        open_spool_folder(tmp_path / "file" / "below")


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """What clients upload is nobody else's on this machine."""
    folder = open_spool_folder(tmp_path / "var" / "spool")

    assert 0o700 == folder.stat().st_mode & 0o777
    assert folder == open_spool_folder(folder)


async def test_a_full_disk(tmp_path: Path) -> None:
    """Told as such at the write that does not fit."""
    with Spool(tmp_path) as spool:
        written = spool.open()
        written._file.close()
        written._file = open("/dev/full", "wb", buffering=0)  # noqa: ASYNC230, PTH123, SIM115
        with pytest.raises(AssetUnavailableError):
            await written.write(bytes(PIECE_BYTES))
        written._file.close()
