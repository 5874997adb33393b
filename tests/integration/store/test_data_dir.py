"""One at a time in a directory, which is put in order for whoever comes next."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.store.data_dir import DataDirInUseError, EmbeddedServerError, taken
from gateway.store.embedded import EmbeddedServer
from gateway.store.notes import read_note


async def test_it_is_taken_once(tmp_path: Path) -> None:
    """Whoever comes second is told so, and may come again afterwards."""
    async with taken(tmp_path, patience_s=1) as seat:
        with pytest.raises(DataDirInUseError, match="Another gateway"):
            async with taken(tmp_path, patience_s=1):
                raise AssertionError("taken twice")
        # A server that is started now and outlives us is found by this.
        noted = read_note(tmp_path / "server.lock")

        assert noted == ("", str(seat.socket))
    async with taken(tmp_path, patience_s=1):
        pass


async def test_who_holds_the_lock_and_does_not_listen_is_not_ended(tmp_path: Path) -> None:
    """Nobody is killed on a guess; the operator is told."""
    with (tmp_path / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"123\n{tmp_path}/valkey.sock")
        lock.flush()
        with pytest.raises(EmbeddedServerError, match=r"\(process 123\) still has"):
            async with taken(tmp_path, patience_s=2.5):
                raise AssertionError("taken from its holder")


async def test_what_was_left_half_done_is_undone(tmp_path: Path) -> None:
    """Snapshots of a backup and the stage of a restore are removed, which is told."""
    stage = tmp_path / "restoring"
    stage.mkdir()
    for left in (tmp_path / "dump.rdb", stage / "store.rdb"):
        left.write_text("secrets")
    with capture_logs() as logs:
        async with taken(tmp_path, patience_s=1):
            left_over = {path.name for path in tmp_path.iterdir()}

    assert left_over == {"gateway.lock", "server.lock"}
    assert [("restore_settled", True)] == [
        (line["event"], "is undone" in line["reason"]) for line in logs
    ]


async def test_the_server_of_a_stage_is_ended_first(tmp_path: Path) -> None:
    """Where it outlives a restore that was killed (macOS), nothing is removed under it."""
    staged = EmbeddedServer(tmp_path / "restoring")
    await staged.start()
    try:
        staged._seat.lock.close()  # type: ignore[union-attr] # what the kernel does
        (tmp_path / "restoring" / "gateway.lock").unlink()
        async with taken(tmp_path, patience_s=5):
            ended = staged.pid is None
    finally:
        await staged.stop()

    assert ended
    assert not (tmp_path / "restoring").exists()
