"""What the holder of a lock file writes into it: who it is, and where its server listens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

#: The lock that an embedded server inherits and holds while it runs.
SERVER_LOCK = "server.lock"


def write_note(lock: BinaryIO, pid: str, socket: str = "") -> None:
    """Write process id and socket into a lock file that is held."""
    lock.truncate(0)
    lock.write(os.fsencode(f"{pid}\n{socket}"))
    lock.flush()


def read_note(path: Path) -> tuple[str, str]:
    """Return (process id, socket) of a lock's holder, or of the last one; both may be empty.

    Raises OSError.
    """
    pid, _, socket = os.fsdecode(path.read_bytes()).partition("\n")
    return pid, socket


def embedded_url(data_dir: Path) -> str:
    """Return where the server of this directory listens, or listened; empty when none ever did."""
    try:
        _, socket = read_note(data_dir / SERVER_LOCK)
    except OSError:
        return ""
    return f"unix://{quote(socket)}" if socket else ""
