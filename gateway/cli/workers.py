"""The parent of several workers: it owns the socket they serve on, and the embedded store.

All workers accept on the one socket that the parent opened: whoever is free takes the next
connection, and none that waits to be accepted is lost when a worker ends or dies.
The parent serves nothing itself. What it starts dies with it, also when it is killed.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import secrets as randomness
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import orjson
import structlog
from pydantic import SecretStr

from gateway.app import LoopDiedError
from gateway.background import Background
from gateway.cli.worker import Order, message, read_again, with_store
from gateway.config.addresses import EMBEDDED
from gateway.config.live import unchangeable
from gateway.config.load import Loaded, process_environ
from gateway.config.problems import ConfigError
from gateway.domain.ids import HOUSE_BYTES
from gateway.store.embedded import EmbeddedServer, die_with_parent, next_backoff_s
from gateway.telemetry.workers import FOLDER_ENV, forget_gauges, shared_folder

log = structlog.get_logger(__name__)

#: A stop of a worker takes `server.drain` for calls, as long again for steps, and this.
STOP_GRACE_S = 20.0
#: A signal to all processes at once has reached each of them after this time.
SIGNALS_WITHIN_S = 0.5
_POLL_S = 0.01


class WorkersRefusedError(Exception):
    """The workers cannot serve; `lines` tell the operator why."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__(lines)
        self.lines = lines


async def serve_with_workers(
    config: Path,
    loaded: Loaded,
    listener: socket.socket,
    *,
    operators: socket.socket | None = None,
    count: int,
    stop: asyncio.Event,
    on_started: Callable[[], None],
) -> None:
    """Serve with so many workers until `stop` is set; then let them drain, and end the store.

    `on_started` is called once, when all of them serve. Raises WorkersRefusedError when one of
    them cannot before that, EmbeddedServerError, and LoopDiedError for a defect of our own. Call
    it on the main thread: its children die with the thread that started them.
    """
    async with AsyncExitStack() as stack:
        embedded = None
        if loaded.secrets.redis_url.get_secret_value() == EMBEDDED:
            embedded = EmbeddedServer(loaded.settings.redis.data_dir)
            stack.push_async_callback(embedded.stop)
            await embedded.start()
            loaded = with_store(loaded, SecretStr(embedded.url))
        metrics_dir = stack.enter_context(shared_folder())
        order = Order(
            config=config,
            loaded=loaded,
            listener_fd=listener.fileno(),
            operators_fd=None if operators is None else operators.fileno(),
            house=randomness.token_bytes(HOUSE_BYTES),
            slot=0,
            metrics_dir=metrics_dir,
        )
        workers = Workers(order, count=count, on_started=on_started, on_refused=stop.set)
        stack.push_async_callback(workers.kill)
        background = await stack.enter_async_context(Background(grace_s=0))
        background.on_death(stop.set)
        workers.on_taken(lambda: background.step("read_again", workers.read_again()))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, workers.reload)
        if embedded is not None:
            background.loop("embedded_server", embedded.supervise)
        for slot in range(count):
            background.loop(f"worker_{slot}", partial(workers.keep, slot))
        await stop.wait()
        log.info("stopping", action="stopping")
        await workers.end(within_s=2 * loaded.settings.server.drain_ms / 1000 + STOP_GRACE_S)
        if workers.refusal:
            raise WorkersRefusedError(workers.refusal)
        if dead := background.dead_loops:
            raise LoopDiedError(f"background loop died: {', '.join(dead)}")


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, the line to it, and what it has said; `ready_s` is when it began to serve."""

    process: subprocess.Popen[bytes]
    line: asyncio.StreamWriter
    ready_s: float | None = None
    is_idle: bool = False
    owes_reload: bool = False

    def let_go(self) -> None:
        """Let it leave; one that is gone already hears nothing."""
        if not self.line.is_closing():
            self.line.write(message(leave=True))


class Workers:
    """Starts a worker for each slot, and another one whenever it ends, until `end`."""

    def __init__(
        self,
        order: Order,
        *,
        count: int,
        on_started: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self._order = order
        self._count = count
        self._on_started = on_started
        self._on_refused = on_refused
        self._workers: dict[int, _Worker] = {}
        self._started = False
        self._ending = False
        self._on_taken: Callable[[], None] = lambda: None
        #: Why they cannot serve; nothing once all of them did.
        self.refusal: tuple[str, ...] = ()

    async def keep(self, slot: int) -> None:
        """Keep a worker in this slot, for ever.

        The waits between starts double from 0.1 s to 5 s and begin anew after a minute of health.
        """
        backoff_s = 0.0
        while not self._over:
            served_s = await self._life(slot)
            backoff_s = next_backoff_s(backoff_s, lived_s=served_s)
            await asyncio.sleep(backoff_s)
        await asyncio.get_running_loop().create_future()

    def reload(self) -> None:
        """Have all workers read the settings file again; those that start, once they serve."""
        for worker in self._workers.values():
            if worker.ready_s is None:
                worker.owes_reload = True
            else:
                worker.process.send_signal(signal.SIGHUP)

    def on_taken(self, callback: Callable[[], None]) -> None:
        """Call this when a worker has taken another settings file over."""
        self._on_taken = callback

    async def read_again(self) -> None:
        """Start workers from now on with the settings that those there have taken over."""
        order = self._order
        with suppress(ConfigError):
            loaded = await asyncio.to_thread(read_again, order.config, order.loaded)
            fixed = unchangeable(order.loaded.settings, loaded.settings)
            if not fixed and not loaded.missing_secrets:
                self._order = replace(order, loaded=loaded)

    async def end(self, *, within_s: float) -> None:
        """Let all workers drain, and kill those that take longer."""
        self._ending = True
        for worker in self._workers.values():
            worker.process.terminate()
            # A stopped process does not see SIGTERM before it is continued.
            worker.process.send_signal(signal.SIGCONT)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._workers:  # noqa: ASYNC110 - each is removed when its life is over
                    await asyncio.sleep(_POLL_S)
        await self.kill()

    async def kill(self) -> None:
        """End what is left, now."""
        self._ending = True
        left = list(self._workers.items())
        for slot, worker in left:
            log.warning("worker_killed", action="worker_killed", slot=slot, pid=worker.process.pid)
            worker.process.kill()
        for _, worker in left:
            await _exit_of(worker.process)

    @property
    def _over(self) -> bool:
        return self._ending or bool(self.refusal)

    async def _life(self, slot: int) -> float:
        """Run a worker from its start to its end; return how long it served, in seconds."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            if self._over:
                writer.close()
                return 0.0
            # Nothing is awaited between its start and its place among those that `end` ends.
            worker = self._workers[slot] = _Worker(self._start(theirs), writer)
        log.info("worker_started", action="worker_started", slot=slot, pid=worker.process.pid)
        writer.write(pickle.dumps(replace(self._order, slot=slot)))
        with suppress(OSError):
            while said := await reader.readline():
                self._hear(worker, said)
        await _exit_of(worker.process)
        writer.close()
        forget_gauges(slot, self._order.metrics_dir)
        del self._workers[slot]
        self._ended(slot, worker)
        return 0.0 if worker.ready_s is None else _now_s() - worker.ready_s

    def _start(self, line: socket.socket) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        return subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "gateway", "worker", "--line", str(line.fileno())],
            stdin=subprocess.DEVNULL,
            env={**process_environ(), FOLDER_ENV: str(self._order.metrics_dir)},
            pass_fds=(line.fileno(), *self._order.listeners),
            preexec_fn=partial(_begin, parent),  # noqa: PLW1509 - a few system calls
        )

    def _hear(self, worker: _Worker, said: bytes) -> None:
        match orjson.loads(said):
            case {"ready": True}:
                worker.ready_s = _now_s()
                if worker.owes_reload:
                    worker.process.send_signal(signal.SIGHUP)
                ready = [one.ready_s is not None for one in self._workers.values()]
                if not self._started and all(ready) and len(ready) == self._count:
                    self._started = True
                    self._on_started()
            case {"taken": True}:
                self._on_taken()
            case {"idle": True}:
                worker.is_idle = True
                # What ends a worker may be on its way to us, too: Ctrl-C reaches all at once.
                asyncio.get_running_loop().call_later(SIGNALS_WITHIN_S, self._let_go, worker)
                self._let_all_go()
            case {"refused": [*lines]}:
                self._refuse(tuple(map(str, lines)))

    def _let_go(self, worker: _Worker) -> None:
        """Let a worker leave that stops by itself."""
        if not self._ending:
            worker.let_go()

    def _let_all_go(self) -> None:
        """Let all workers leave when they stop together and none has a call that waits."""
        if self._ending and all(worker.is_idle for worker in self._workers.values()):
            for worker in self._workers.values():
                worker.let_go()

    def _ended(self, slot: int, worker: _Worker) -> None:
        if self._ending:
            self._let_all_go()
            return
        code = worker.process.returncode
        log.error("worker_ended", action="worker_ended", slot=slot, code=code)
        if not self._started and worker.ready_s is None:
            self._refuse((f"a worker ended with code {code} while it started.",))

    def _refuse(self, lines: tuple[str, ...]) -> None:
        """Give up when they never served; what has worked is tried again."""
        if self._started:
            log.error("worker_refused", action="worker_refused", reason=" ".join(lines))
        elif not self._over:
            self.refusal = lines
            self._on_refused()


def _begin(parent: int) -> None:
    """Run in a worker before its program does."""
    die_with_parent(parent)
    # Until it can reload, it must not end by being asked to.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def _exit_of(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:  # noqa: ASYNC110 - as the embedded server's
        await asyncio.sleep(_POLL_S)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
