"""Real servers for tests: fast, without files worth keeping, gone with the test process."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gateway.store.embedded import die_with_parent, find_binary
from gateway.store.private_socket import private_socket

#: Nothing is written, and nothing is forgotten.
OPTIONS = ("--appendonly", "no", "--save", "", "--maxmemory-policy", "noeviction")
START_S = 60.0

#: Ports below those that Linux gives to connections by itself.
PORTS = (12_000, 32_000)
#: Seeded by nobody: two processes of tests choose different ports.
_ports = random.SystemRandom()


@dataclass(frozen=True)
class ValkeyProcess:
    """A running store: its address, its processes, and how to make it hang."""

    url: str
    pids: tuple[int, ...]

    def stop(self) -> None:
        """Freeze the store: it accepts connections and answers nothing."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def cont(self) -> None:
        """Let a frozen store go on; it answers what was asked meanwhile."""
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def run_valkey(tmp_dir: Path, *, binary: Path | None = None) -> Iterator[ValkeyProcess]:
    """Run a server on a unix socket until the block ends; start it on the main thread.

    It is the server that comes with the gateway unless `binary` is another one. Its output is in
    `tmp_dir`/server.log. Raises RuntimeError when it does not start.
    """
    tmp_dir.mkdir(parents=True, exist_ok=True)
    with private_socket(tmp_dir) as path:
        command = [str(binary or find_binary()), "--port", "0", "--unixsocket", str(path)]
        with run_process([*command, *OPTIONS], tmp_dir) as process:
            _wait_for(str(path), process, tmp_dir)
            yield ValkeyProcess(f"unix://{quote(str(path))}", (process.pid,))


@contextmanager
def run_on_port(
    tmp_dir: Path, port: int, words: Sequence[str], *, binary: Path | None = None
) -> Iterator[int]:
    """Run a server on a port of this machine until the block ends; yield its process id.

    `words` follow the binary's name: a file of settings, options. As `run_valkey` otherwise.
    """
    tmp_dir.mkdir(parents=True, exist_ok=True)
    command = [str(binary or find_binary()), *words, "--port", str(port), "--bind", "127.0.0.1"]
    with run_process(command, tmp_dir) as process:
        _wait_for(("127.0.0.1", port), process, tmp_dir)
        yield process.pid


@contextmanager
def run_process(command: Sequence[str], tmp_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a folder of its own, killed at the end of the block or with the tests."""
    with ExitStack() as held:
        out = held.enter_context((tmp_dir / "server.log").open("ab"))
        parent = os.getpid()
        process = held.enter_context(
            subprocess.Popen(
                command,
                cwd=tmp_dir,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - two system calls
            )
        )
        held.callback(process.kill)
        yield process


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listened on a moment ago.

    None of them is one that the kernel gives to connections: those come and go all the time.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = _ports.randrange(*PORTS)
        with suppress(OSError), socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


def _wait_for(
    address: str | tuple[str, int], process: subprocess.Popen[bytes], tmp_dir: Path
) -> None:
    deadline_s = time.monotonic() + START_S
    while not _answers(address):
        if process.poll() is not None or time.monotonic() > deadline_s:
            log = (tmp_dir / "server.log").read_text(errors="replace")
            raise RuntimeError(f"the server did not start: {log}")
        time.sleep(0.002)


def _answers(address: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with suppress(OSError), socket.socket(family) as connection:
        connection.settimeout(1)
        connection.connect(address)
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False
