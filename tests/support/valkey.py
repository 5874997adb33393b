"""A real Valkey server for tests: fast, without files, gone with the test process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gateway.store.embedded import die_with_parent, find_binary, private_socket

_OPTIONS = ["--port", "0", "--appendonly", "no", "--save", "", "--maxmemory-policy", "noeviction"]
_START_S = 15.0


@dataclass(frozen=True)
class ValkeyProcess:
    """A running server: its address, its process, and how to make it hang."""

    url: str
    pid: int

    def stop(self) -> None:
        """Freeze the server: it accepts connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """Let a frozen server go on; it answers what was asked meanwhile."""
        os.kill(self.pid, signal.SIGCONT)


@contextmanager
def run_valkey(tmp_dir: Path) -> Iterator[ValkeyProcess]:
    """Run a server on a unix socket until the block ends; start it on the main thread.

    Its output is in `tmp_dir`/valkey.log. Raises RuntimeError when it does not start.
    """
    tmp_dir.mkdir(parents=True, exist_ok=True)
    log = tmp_dir / "valkey.log"
    with ExitStack() as held:
        path = held.enter_context(private_socket(tmp_dir))
        out = held.enter_context(log.open("ab"))
        parent = os.getpid()
        places = ["--unixsocket", str(path), "--dir", str(tmp_dir)]
        process = held.enter_context(
            subprocess.Popen(
                [str(find_binary()), *places, *_OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - two system calls
            )
        )
        held.callback(process.kill)
        _wait_for(path, process, log)
        yield ValkeyProcess(f"unix://{quote(str(path))}", process.pid)


def _wait_for(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while not _answers(path):
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"Valkey did not start: {log.read_text(errors='replace')}")
        time.sleep(0.002)


def _answers(path: Path) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False
