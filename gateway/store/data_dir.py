"""The directory of an embedded server, and that only one at a time is at work in it.

`gateway.lock` is held by the gateway (or the command) whose directory it is. `server.lock` is
inherited by the server: the kernel frees it when the server is really gone, so that the next one
can tell without trusting a process id that may be reused.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from gateway.store.journals import STAGE, finish_replacing, remove_snapshots
from gateway.store.notes import SERVER_LOCK, read_note, write_note
from gateway.store.private_socket import ask, listener_of, private_socket

log = structlog.get_logger(__name__)

_POLL_S = 0.05
#: A clean end takes milliseconds, and SIGKILL loses nothing: what was acknowledged is on the disk.
GRACE_S = 2.0


class EmbeddedServerError(Exception):
    """The server cannot run; the message tells the operator what to do."""


class DataDirInUseError(EmbeddedServerError):
    """Another gateway holds the data directory."""


@dataclass(frozen=True)
class Seat:
    """What every process of one server is given: the lock that it inherits, and its socket."""

    lock: BinaryIO
    socket: Path


@asynccontextmanager
async def taken(data_dir: Path, *, patience_s: float) -> AsyncIterator[Seat]:
    """Hold a data directory in which no server runs, and nobody who was killed left things undone.

    The server of a gateway that is dead is told to end and, where it does not within 2 s, killed;
    `patience_s` bounds the wait for it. A restore that was interrupted is finished or undone, and
    what a backup left is removed. Raises DataDirInUseError, and EmbeddedServerError.
    """
    with ExitStack() as held:
        _take(data_dir, held)
        seat = await _seat(data_dir, held, patience_s)
        with on_disk(data_dir):
            remove_snapshots(data_dir)
        await _settle_restore(data_dir, patience_s)
        yield seat


@contextmanager
def on_disk(data_dir: Path) -> Iterator[None]:
    """Turn what the system refuses in a data directory into words for the operator."""
    remedy = "Make it writable, choose another redis.data_dir, or set redis.url."
    with explaining(f"{data_dir} cannot be used", remedy):
        yield


@contextmanager
def explaining(what: str, remedy: str) -> Iterator[None]:
    """Turn what the system refuses into an EmbeddedServerError."""
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(f"{what}: {error.strerror}. {remedy}") from error


def locked(path: Path) -> BinaryIO | None:
    """Return the file, locked until its last holder closes it or dies; None when it is taken.

    A child that inherits it is a holder too: so it is only ever closed, never unlocked or removed.
    Raises OSError.
    """
    with ExitStack() as unless_free, suppress(BlockingIOError):
        file = unless_free.enter_context(path.open("ab+"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unless_free.pop_all()
        return file
    return None


def _take(data_dir: Path, held: ExitStack) -> None:
    path = data_dir / "gateway.lock"
    with on_disk(data_dir):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (lock := locked(path)) is not None:
            held.enter_context(lock)
            write_note(lock, str(os.getpid()))
            return
        pid = read_note(path)[0]
    raise DataDirInUseError(
        f"Another gateway (process {pid or 'unknown'}) is using {data_dir}. Stop it, give"
        " this one another redis.data_dir, or set redis.url so that both share one server."
    )


async def _seat(data_dir: Path, held: ExitStack, patience_s: float) -> Seat:
    """Wait until the server of a gateway that was killed has left; take its place."""
    path, begun_s = data_dir / SERVER_LOCK, _now_s()
    while True:
        with on_disk(data_dir):
            lock = locked(path)
            if lock is not None:
                held.enter_context(lock)
                socket = held.enter_context(private_socket(data_dir))
                # Before there is a server: one that outlives us at once must be found, too.
                write_note(lock, "", str(socket))
                return Seat(lock, socket)
            pid, left = read_note(path)
        if _now_s() - begun_s > patience_s:
            raise EmbeddedServerError(
                f"The server of an earlier gateway (process {pid or 'unknown'}) still has"
                f" {data_dir} open. End it and start again."
            )
        await _end_orphan(Path(left), by_force=_now_s() - begun_s > GRACE_S)
        await asyncio.sleep(_POLL_S)


async def _end_orphan(socket: Path, *, by_force: bool) -> None:
    """Tell a server to end whose gateway is dead: nobody does where the kernel does not (macOS)."""
    if not by_force:
        await ask(socket, b"SHUTDOWN NOSAVE")
        return
    if (pid := listener_of(socket)) is not None:
        log.warning("embedded_server_killed", action="embedded_server_killed", pid=pid)
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


async def _settle_restore(data_dir: Path, patience_s: float) -> None:
    """Finish a restore that was killed after it had decided, undo one that had not."""
    stage, event = data_dir / STAGE, "restore_settled"
    with on_disk(data_dir):
        if (aside := finish_replacing(data_dir)) is not None:
            reason = f"A restore was interrupted and is finished now; older books are in {aside}."
            log.warning(event, action=event, reason=reason)
        elif stage.exists():
            reason = "A restore was interrupted and is undone: the books are those from before it."
            log.warning(event, action=event, reason=reason)
    if stage.exists():
        # The server that was to read the backup may have outlived it.
        async with taken(stage, patience_s=patience_s):
            pass
        with on_disk(data_dir):
            shutil.rmtree(stage)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
