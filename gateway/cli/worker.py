"""One of several workers: a process that serves on its parent's socket, for as long as that lives.

Everything it needs comes over a line to its parent: what the parent has read of the settings, so
that all workers serve the same. What it has to say goes back there, one JSON object in a line.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import uvloop
from pydantic import SecretStr

from gateway.app import reload_on_signal, serve, stop_on_signals
from gateway.assembly.build import build
from gateway.assembly.reloader import Reloader
from gateway.cli.fault_points import FAULT_ENV, fault_point
from gateway.cli.refusals import REFUSALS, lines_of
from gateway.config.addresses import EMBEDDED
from gateway.config.load import Loaded, load, process_environ
from gateway.telemetry.log import configure_logging
from gateway.telemetry.workers import count_as_worker

#: Once its own calls are over, a worker waits this much longer than `server.drain` for others'.
LEAVE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told at its start.

    `listener_fd` is the socket, inherited under this number, and `operators_fd` that of the admin
    API and metrics where they have one. `house` is how the replica ids of all
    workers of the parent begin; `slot` is the worker's place among them.
    """

    config: Path
    loaded: Loaded
    listener_fd: int
    house: bytes
    slot: int
    metrics_dir: Path
    operators_fd: int | None = None

    @property
    def listeners(self) -> tuple[int, ...]:
        """The numbers of all sockets to serve on."""
        return tuple(fd for fd in (self.listener_fd, self.operators_fd) if fd is not None)


def worker(
    line: Annotated[int, typer.Option(help="The line to the parent, an inherited socket.")],
) -> None:
    """Serve as one of the workers of `gateway serve`, which starts this."""
    configure_logging()
    with socket.socket(fileno=line) as parent:
        with parent.makefile("rb") as said:
            order: Order = pickle.load(said)  # noqa: S301 - our parent made it
        configure_logging(form=order.loaded.settings.log.format)
        count_as_worker(order.slot)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(order, LineToParent(parent)))
        except REFUSALS as error:
            with suppress(OSError):
                parent.sendall(message(refused=lines_of(error, order.config)))
            raise typer.Exit(1) from None


class LineToParent:
    """Tells the parent how this process is doing, hears its word, and ends with it."""

    def __init__(self, line: socket.socket) -> None:
        line.settimeout(0)
        self._line = line
        self._may_leave = asyncio.Event()

    def listen(self) -> None:
        """Listen from now on, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._line.fileno(), self._hear)

    def say(self, **told: object) -> None:
        """Tell something; a parent that is gone hears nothing."""
        with suppress(OSError):
            self._line.send(message(**told))

    async def leave(self) -> None:
        """Tell that no call waits here, and return when none waits at the other workers.

        They may wait for tasks that run here.
        """
        self.say(idle=True)
        await self._may_leave.wait()

    def _hear(self) -> None:
        heard = b""
        with suppress(OSError):
            heard = self._line.recv(64)
        if not heard:
            # Killed, or it would have waited for us. Its store died with it: nothing can be saved.
            os.kill(os.getpid(), signal.SIGKILL)
        self._may_leave.set()


def message(**told: Any) -> bytes:
    """Return what goes over the line."""
    return orjson.dumps(told) + b"\n"


def read_again(config: Path, before: Loaded) -> Loaded:
    """Read the settings file once more; a store of its own stays where the parent has it.

    Raises ConfigError.
    """
    loaded = load(config, process_environ())
    if loaded.secrets.redis_url.get_secret_value() != EMBEDDED:
        return loaded
    return with_store(loaded, before.secrets.redis_url)


def with_store(loaded: Loaded, url: SecretStr) -> Loaded:
    """Return settings whose store is there."""
    return replace(loaded, secrets=replace(loaded.secrets, redis_url=url))


async def _serve(order: Order, parent: LineToParent) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    parent.listen()
    patience_s = order.loaded.settings.server.drain_ms / 1000 + LEAVE_WITHIN_S

    async def leave() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await parent.leave()

    reached = fault_point(process_environ().get(FAULT_ENV, ""))
    with ExitStack() as stack:
        listener, *others = [
            stack.enter_context(socket.socket(fileno=fd)) for fd in order.listeners
        ]
        async with build(
            order.loaded,
            reached=reached,
            house=order.house,
            shared_metrics=order.metrics_dir,
        ) as gateway:
            reloader = Reloader(
                gateway,
                order.loaded,
                path=order.config,
                read=partial(read_again, order.config, order.loaded),
                taken=lambda: parent.say(taken=True),
            )
            reload_on_signal(reloader)
            await serve(
                gateway,
                listener,
                operators=others[0] if others else None,
                stop=stop,
                on_started=lambda: parent.say(ready=True),
                on_idle=leave,
                reloader=reloader,
            )
