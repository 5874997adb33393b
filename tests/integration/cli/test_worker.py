from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from gateway.app import listen
from gateway.cli.worker import LineToParent, Order
from gateway.config.load import load, process_environ
from gateway.telemetry.workers import FOLDER_ENV
from tests.support.gateway import ENVIRON, START_S, write_config
from tests.support.valkey import ValkeyProcess


@dataclass(frozen=True, slots=True)
class Started:
    """A worker, and the parent's end of the line to it."""

    process: asyncio.subprocess.Process
    line: socket.socket

    async def says(self) -> dict[str, object]:
        """Return what it says next."""
        heard = b""
        while not heard.endswith(b"\n"):
            async with asyncio.timeout(START_S):
                byte = await asyncio.get_running_loop().sock_recv(self.line, 1)
            assert byte, "the worker has ended"
            heard += byte
        said: dict[str, object] = orjson.loads(heard)
        return said

    async def code(self) -> int:
        """Return how it ended."""
        async with asyncio.timeout(START_S):
            return await self.process.wait()


@asynccontextmanager
async def started(folder: Path, store: ValkeyProcess, **environ: str) -> AsyncIterator[Started]:
    """Start a worker as its parent would, but for what the kernel does for it; end it after."""
    config = write_config(folder, "http://127.0.0.1:9", redis=f'url = "{store.url}"')
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs, listen("127.0.0.1", 0) as listener:
        order = Order(
            config=config,
            loaded=load(config, ENVIRON | environ),
            listener_fd=listener.fileno(),
            house=b"12345678",
            slot=0,
            metrics_dir=folder,
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "worker", "--line", str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            env={**process_environ(), FOLDER_ENV: str(folder)},
            pass_fds=(theirs.fileno(), listener.fileno()),
        )
    try:
        with ours:
            ours.sendall(pickle.dumps(order))
            yield Started(process, ours)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_worker_ends_when_its_parent_tells_it_to(
    tmp_path: Path, store: object, valkey_process: ValkeyProcess
) -> None:
    """It says when it serves and when no call waits; it leaves when it may."""
    async with started(tmp_path, valkey_process) as worker:
        ready = await worker.says()
        worker.process.send_signal(signal.SIGTERM)
        idle = await worker.says()
        await asyncio.sleep(0.2)
        waited = worker.process.returncode is None
        worker.line.send(b"go\n")
        code = await worker.code()

    assert [{"ready": True}, {"idle": True}] == [ready, idle]
    assert (True, 0) == (waited, code)


async def test_a_worker_does_not_outlive_its_parent(
    tmp_path: Path, store: object, valkey_process: ValkeyProcess
) -> None:
    """Where no kernel ends it, the end of the line does."""
    async with started(tmp_path, valkey_process) as worker:
        await worker.says()
        worker.line.close()
        code = await worker.code()

    assert -signal.SIGKILL == code


async def test_a_worker_tells_its_parent_why_it_cannot_serve(
    tmp_path: Path, store: object, valkey_process: ValkeyProcess
) -> None:
    """Once, over the line: nothing of it is printed here."""
    async with started(tmp_path, valkey_process, GATEWAY_ADMIN_KEY="short") as worker:
        said = await worker.says()
        code = await worker.code()

    assert isinstance(said["refused"], list)
    assert f"{tmp_path / 'config.toml'} cannot be used:" == said["refused"][0]
    assert 1 == code


@pytest.mark.parametrize("tell", [lambda line: line.say(idle=True), lambda line: line.say()])
def test_a_parent_that_is_gone_hears_nothing(tell: Callable[[LineToParent], None]) -> None:
    """Saying something to nobody is no error."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        tell(LineToParent(theirs))
