from __future__ import annotations

from pathlib import Path

from gateway.store.notes import embedded_url, read_note, write_note


def test_a_note_is_read_back(tmp_path: Path) -> None:
    """Who holds the lock and where its server listens, also on an odd path."""
    with (tmp_path / "server.lock").open("ab+") as lock:
        write_note(lock, "123", "/a b/valkey.sock")
        write_note(lock, "45", "/a b/valkey.sock")

    assert ("45", "/a b/valkey.sock") == read_note(tmp_path / "server.lock")
    assert "unix:///a%20b/valkey.sock" == embedded_url(tmp_path)


def test_no_server_has_no_address(tmp_path: Path) -> None:
    """Neither a missing note nor an empty one is an address."""
    assert "" == embedded_url(tmp_path)
    (tmp_path / "server.lock").write_bytes(b"")
    assert "" == embedded_url(tmp_path)
