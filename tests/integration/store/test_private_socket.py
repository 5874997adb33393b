from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.store.private_socket import ask, listener_of, private_socket

LISTENER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.bind(sys.argv[1])
    line.listen()
    print("listens", flush=True)
    sys.stdin.read()
"""


@contextmanager
def listening(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that listens and takes no connection."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_who_listens_is_known(tmp_path: Path) -> None:
    """Also of a process that is stopped; of one that has ended, only the file is left."""
    path = tmp_path / "a b.sock"
    with listening(path) as process:
        told = [listener_of(path)]
        process.send_signal(signal.SIGSTOP)
        told.append(listener_of(path))
        process.kill()
        process.wait()

        assert told == [process.pid, process.pid]
        assert path.exists()
        assert listener_of(path) is None


@pytest.mark.parametrize("name", ["", "nothing", "x" * 200])
def test_nobody_listens(tmp_path: Path, name: str) -> None:
    """At no path, where there is no file, and where no socket can be."""
    assert listener_of(Path(name and tmp_path / name)) is None


async def test_one_that_says_nothing_is_waited_for_a_second(tmp_path: Path) -> None:
    """There is no answer then, as where nobody listens."""
    begun_s = asyncio.get_running_loop().time()
    with listening(tmp_path / "sock"):
        silent = await ask(tmp_path / "sock", b"PING")
    took_s = asyncio.get_running_loop().time() - begun_s
    nobody = await ask(tmp_path / "nowhere", b"PING")

    assert (silent, nobody) == (b"", b"")
    assert took_s > 0.9


@pytest.mark.parametrize("folder", ["short", "long" * 30])
def test_a_path_fits_and_is_removed(tmp_path: Path, folder: str) -> None:
    """In the directory where that is short enough, else in a folder of its own."""
    (tmp_path / folder).mkdir()
    with private_socket(tmp_path / folder) as path:
        path.touch()
        inside = path.parent == tmp_path / folder

        assert len(os.fsencode(path)) <= 103
    assert inside == (folder == "short")
    assert not path.exists()
    assert path.parent.exists() == inside
