"""The socket of an embedded server: where it is, what is said on it, who listens there."""

from __future__ import annotations

import asyncio
import os
import socket as sockets
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Bytes of `sun_path` that every system has: 104 on macOS, 108 on Linux, one is the final zero.
_SOCKET_PATH_BYTES = 103
_ANSWER_S = 1.0

_UCRED = struct.Struct("3i")
#: macOS: SOL_LOCAL and LOCAL_PEERPID of <sys/un.h>; Python has no names for them.
_SOL_LOCAL, _LOCAL_PEERPID = 0, 2


@contextmanager
def private_socket(data_dir: Path) -> Iterator[Path]:
    """Yield a path for the socket, removed after; in a short folder if `data_dir` is too long."""
    socket = data_dir / "valkey.sock"
    if len(os.fsencode(socket)) > _SOCKET_PATH_BYTES:
        socket = Path(tempfile.mkdtemp(prefix="gateway-")) / socket.name
    try:
        yield socket
    finally:
        with suppress(OSError):
            socket.unlink(missing_ok=True)
            if socket.parent != data_dir:
                socket.parent.rmdir()


async def ask(socket: Path, command: bytes) -> bytes:
    """Return the first line that a server answers within 1 s; empty when there is none."""
    with suppress(OSError, ValueError):
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(command + b"\r\n")
                return await reader.readline()
            finally:
                writer.close()
    return b""


def listener_of(socket: Path) -> int | None:
    """Return the process that listens on a socket, also one that is stopped; None when none does.

    It is the kernel that tells, of a listener that is there now: no number of a process that has
    ended long ago, as in a note. None also where it lives in a world of numbers of its own.
    """
    with suppress(OSError), sockets.socket(sockets.AF_UNIX) as line:
        line.settimeout(0)
        line.connect(os.fspath(socket))
        pid = 0
        if sys.platform == "linux":
            told = line.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _UCRED.size)
            pid, _, _ = _UCRED.unpack(told)
        elif sys.platform == "darwin":
            pid = line.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)
        return pid if pid > 1 else None
    return None
