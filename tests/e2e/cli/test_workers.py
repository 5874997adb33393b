"""`gateway serve --workers 2`, with real processes, watched through the kernel."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import (
    ENVIRON,
    START_S,
    TEAM_KEY,
    ServedProcess,
    serving_gateway,
    serving_simulator,
    start_gateway,
    write_config,
)
from tests.support.processes import children, connected_to, environ_of, is_alive, workers_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel by /proc")

WORKERS = ("--workers", "2")
#: How long a worker that is told to end waits at most for calls.
DRAIN_S = 30
BODY = {
    "model": "gpt-image-1.5",
    "prompt": "a small red fox",
    "quality": "low",
    "size": "1024x1024",
}
POSTED = 'gateway_upstream_requests_total{call="submit",provider="evolink",status="200"}'
COUNTED = re.compile(r"^(gateway_(?:images|renders|requests|upstream_requests)_total\S*) (\S+)$")


@dataclass(frozen=True, slots=True)
class House:
    """A parent with two workers in front of a simulator."""

    served: ServedProcess
    upstream: str
    config: Path

    @property
    def parent(self) -> int:
        """The parent's process id."""
        return self.served.process.pid

    @property
    def root(self) -> str:
        """Where both workers serve."""
        return self.served.url.removesuffix("/v1")

    def workers(self) -> list[int]:
        """Return the process ids of those that run now."""
        return workers_of(self.parent)

    @asynccontextmanager
    async def client(self, worker: int) -> AsyncIterator[httpx.AsyncClient]:
        """Connect to one of the workers."""
        client = await connected_to(self.root, worker)
        client.headers["Authorization"] = f"Bearer {TEAM_KEY}"
        try:
            yield client
        finally:
            await client.aclose()

    async def submits(self) -> int:
        """Return how often the upstream was asked for a picture."""
        async with httpx.AsyncClient() as client:
            return int((await client.get(f"{self.upstream}/_sim/stats")).json()["submits"])


@asynccontextmanager
async def house(folder: Path, *, latency_s: float = 0.2, **environ: str) -> AsyncIterator[House]:
    """Start two workers from `folder`."""
    settings = SimulatorSettings(latency_median_s=latency_s, latency_sigma=0.0, seed=7)
    async with serving_simulator(settings) as upstream:
        config = write_config(folder, upstream, server='lease = "1s"')
        config.write_text(config.read_text().replace('drain = "2s"', f'drain = "{DRAIN_S}s"'))
        async with serving_gateway(config, *WORKERS, **environ) as served:
            yield House(served, upstream, config)


async def until(is_so: Callable[[], bool]) -> None:
    """Return as soon as something is so."""
    async with asyncio.timeout(START_S):
        while not is_so():  # noqa: ASYNC110 - what other processes do cannot be awaited
            await asyncio.sleep(0.02)


async def picture(client: httpx.AsyncClient, *, retry: int = 0) -> httpx.Response:
    """Ask for a low square over this client's connection."""
    headers = {"x-stainless-retry-count": str(retry)}
    return await client.post("/v1/images/generations", json=BODY, headers=headers)


async def lost(call: Awaitable[httpx.Response]) -> None:
    """Await a call whose connection breaks."""
    with pytest.raises(httpx.TransportError):
        await call


async def totals(client: httpx.AsyncClient) -> dict[str, float]:
    """Return what a worker says that was counted, but for requests to itself."""
    lines = (await client.get("/metrics")).text.splitlines()
    found = [match for line in lines if (match := COUNTED.match(line))]
    return {match[1]: float(match[2]) for match in found if 'route="' not in match[1]}


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Return the exit code and what was printed to stderr."""
    async with asyncio.timeout(START_S):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_both_workers_serve_and_tell_the_totals_of_both(tmp_path: Path) -> None:
    """A picture from each, one store; whichever is scraped, it counts both pictures."""
    async with house(tmp_path) as it:
        first, second = it.workers()
        others = set(children(it.parent)) - {first, second}
        async with it.client(first) as one, it.client(second) as two:
            answers = [await picture(one), await picture(two)]
            ready = await one.get("/readyz")
            scraped = [await totals(one), await totals(two)]
        submits = await it.submits()

    assert [200, 200, 200] == [answer.status_code for answer in (*answers, ready)]
    assert 2 == submits
    assert len(others) == 1  # the store, and it is the parent's
    assert scraped[0] == scraped[1]
    [images] = [count for name, count in scraped[0].items() if "images" in name]
    assert 2.0 == images


async def test_a_killed_worker_loses_no_picture_and_no_count(tmp_path: Path) -> None:
    """Killed mid-picture: the retry gets it from the other, it was submitted once, and counted."""
    async with house(tmp_path, latency_s=2.0) as it:
        first, second = it.workers()
        async with it.client(first) as one, it.client(second) as two:
            async with asyncio.TaskGroup() as group:
                before = group.create_task(lost(picture(one)))
                async with asyncio.timeout(START_S):
                    # The upstream counts a submit before the worker has read its answer.
                    while POSTED not in (counted := await totals(two)):  # noqa: ASYNC110 - as above
                        await asyncio.sleep(0.02)
                os.kill(first, signal.SIGKILL)
                await before
                answer = await picture(two, retry=1)
            ready = await two.get("/readyz")
            after = await totals(two)
            in_flight = (await two.get("/metrics")).text
        await until(lambda: len(it.workers()) == 2)
        [third] = set(it.workers()) - {second}
        async with it.client(third) as one:
            again = await picture(one, retry=2)
            since = await totals(one)
        submits = await it.submits()

    assert (200, "true") == (answer.status_code, answer.headers["x-gateway-joined"])
    assert (200, 200) == (ready.status_code, again.status_code)
    assert 1 == submits
    assert counted[POSTED] == after[POSTED] == since[POSTED] == 1.0
    assert 'gateway_tasks_in_flight{provider="evolink"} 0.0' in in_flight
    assert all(since[name] >= count for name, count in counted.items())


async def test_a_stop_waits_for_every_call(tmp_path: Path) -> None:
    """A call that waits at one worker for a task of the other gets its picture, too."""
    async with house(tmp_path, latency_s=3.0) as it:
        first, second = it.workers()
        pids = [it.parent, *children(it.parent)]
        metrics_dir = Path(environ_of(first)["PROMETHEUS_MULTIPROC_DIR"])
        assert metrics_dir.is_dir()
        async with it.client(first) as one, it.client(second) as two:
            left = asyncio.get_running_loop().create_task(picture(one))
            async with asyncio.timeout(START_S):
                while not await it.submits():  # noqa: ASYNC110 - as in `until`
                    await asyncio.sleep(0.02)
            left.cancel()
            async with asyncio.TaskGroup() as group:
                joined = group.create_task(picture(two, retry=1))
                await asyncio.sleep(1.0)  # it has to be there when the stop comes
                it.served.process.send_signal(signal.SIGTERM)
                code, _ = await ended(it.served.process)
        submits = await it.submits()

    answer = joined.result()
    assert (200, "true") == (answer.status_code, answer.headers["x-gateway-joined"])
    assert (0, 1) == (code, submits)
    assert not any(map(is_alive, pids))
    assert not metrics_dir.exists()


async def test_a_stop_of_one_worker_is_its_own(tmp_path: Path) -> None:
    """Told to end by itself, a worker ends in order, and another one takes its place."""
    async with house(tmp_path) as it:
        first, second = it.workers()
        os.kill(first, signal.SIGTERM)
        # Sooner than when it waits for the other one in vain.
        async with asyncio.timeout(DRAIN_S - 5):
            await until(lambda: not is_alive(first))
        await until(lambda: len(it.workers()) == 2)
        async with it.client(second) as two:
            answer = await picture(two)
        it.served.process.send_signal(signal.SIGINT)
        code, errors = await ended(it.served.process)

    assert (200, 0) == (answer.status_code, code)
    assert '"slot": 0, "code": 0' in errors or '"slot": 1, "code": 0' in errors


async def test_a_killed_parent_leaves_nothing(tmp_path: Path) -> None:
    """Within seconds neither a worker nor the store runs, and the next start has the same books."""
    async with house(tmp_path, latency_s=0.0) as it:
        await it.served.picture()
        pids = children(it.parent)
        # One that is stopped cannot notice by itself.
        os.kill(it.workers()[0], signal.SIGSTOP)
        it.served.process.send_signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(30):
                while any(map(is_alive, pids)):  # noqa: ASYNC110 - as in `until`
                    await asyncio.sleep(0.02)
        finally:
            # What should not be there would hold the pipe of the parent for ever.
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)
        async with serving_gateway(it.config, *WORKERS) as next_one:
            answer = await next_one.picture("another fox")

    assert len(pids) == 3
    assert "4.984305" == answer.headers["x-gateway-budget-remaining-usd"]


async def test_what_no_worker_can_do_is_told_once(tmp_path: Path) -> None:
    """A setting that only a worker finds unusable ends all of them with one message."""
    config = write_config(tmp_path, "http://127.0.0.1:9")
    process = await start_gateway(config, *WORKERS, **ENVIRON, GATEWAY_ADMIN_KEY="short")
    pids = [process.pid]
    code, errors = await ended(process)

    assert 1 == code
    lines = [line for line in errors.splitlines() if not line.startswith("{")]
    assert f"gateway: {config} cannot be used:" == lines[0]
    assert ["server.admin_key_env"] == re.findall(r"server\.admin_key_env", "\n".join(lines))
    assert not any(map(is_alive, pids))


async def test_workers_that_break_while_they_start_end_their_parent(tmp_path: Path) -> None:
    """A defect that keeps workers from serving is no reason to start them again and again."""
    config = write_config(tmp_path, "http://127.0.0.1:9")
    process = await start_gateway(config, *WORKERS, **ENVIRON, GATEWAY_TEST_FAULT="no such fault")
    code, errors = await ended(process)

    assert 1 == code
    assert 1 == errors.count("gateway: a worker ended with code 1 while it started.\n")


async def test_workers_share_no_memory(tmp_path: Path) -> None:
    """Pictures in a process's memory cannot be handed out by another one."""
    config = write_config(tmp_path, "http://127.0.0.1:9")
    config.write_text(config.read_text().replace("file:assets", "memory:"))
    code, errors = await ended(await start_gateway(config, *WORKERS, **ENVIRON))

    assert 1 == code
    assert errors.startswith("gateway: assets.url: ")
