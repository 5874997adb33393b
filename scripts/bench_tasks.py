"""Print what thousands of tasks at once cost one gateway process, and whether it polls in time.

Three processes: the simulator, the gateway as it ships (with the embedded store), and this one,
which calls it. Two rounds: calls that do not wait (`Prefer: respond-async`), and calls that wait
for their picture with a connection each. Linux only: figures of processes are read from /proc.
Compare figures of one run only: machines are noisy. Pictures take so long that the first is not
done before the last is asked for: all tasks are in flight at once.

Exits with 1 when a poll was later than the tolerance: the shortest gap that schedules may be held
to, 1 s (design rule 21), or when the figures do not add up: a task without its one picture.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from gateway.domain.poll_plan import max_gap_s
from gateway.telemetry.metrics import LATENESS_BUCKETS

KEY = "sk-bench-0123456789abcdef"
#: Later than this after its turn, a poll has missed its schedule.
TOLERANCE_S = max_gap_s(0.0)
#: How long a process may take to start, and a round beyond what its pictures take.
START_S, ROUND_S = 30.0, 600.0
SENT_AWAY = 503
SAMPLE_EVERY_S = 1.0
PAGE_KIB = resource.getpagesize() // 1024

CONFIG = """
[server]
port = 0
wait = "15m"
deadline = "15m"
[assets]
url = "file:assets"
[providers.evolink]
kind = "evolink"
base_url = "{upstream}"
result_hosts = ["{host}"]
api_key_env = "EVOLINK_API_KEY"
max_in_flight = 100000
max_submits_per_second = {submits}
[models."gpt-image-1.5"]
routes = ["evolink"]
[teams.bench]
budgets = [{{ usd = 1000000, per = "month" }}]
[[teams.bench.keys]]
name = "bench"
env = "BENCH_KEY"
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: seconds of CPU so far, and resident memory now."""

    cpu_s: float
    resident_mib: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Read it."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(ticks / os.sysconf("SC_CLK_TCK"), pages * PAGE_KIB / 1024)


@dataclass(slots=True)
class Round:
    """The figures of one round."""

    name: str
    tasks: int
    seconds: float = 0.0
    cpu_s: float = 0.0
    before_mib: float = 0.0
    peak_mib: float = 0.0
    after_mib: float = 0.0
    most_in_flight: float = 0.0
    polls: float = 0.0
    late: int = 0
    worst_late_s: float = 0.0
    sent_away: int = 0
    put_off_s: float = 0.0
    lag_s: float = 0.0


class Bench:
    """The gateway under load, as seen from outside."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, pid: int, *, per_second: float
    ) -> None:
        self._session = session
        self._url = url
        self._pid = pid
        self._per_second = per_second

    async def metrics(self) -> dict[str, float]:
        """Return every sample of a scrape."""
        async with self._session.get(f"{self._url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def call(self, number: int, *, waits: bool) -> int:
        """Ask for one picture until it is not sent away; return how often it was."""
        body = {
            "model": "gpt-image-1.5",
            "prompt": f"a small red fox, number {number}",
            "quality": "low",
            "size": "1024x1024",
        }
        headers = {"authorization": f"Bearer {KEY}"}
        if not waits:
            headers["prefer"] = "respond-async"
        for count in itertools.count():
            headers["x-stainless-retry-count"] = str(count)
            async with self._session.post(
                f"{self._url}/v1/images/generations", data=orjson.dumps(body), headers=headers
            ) as answer:
                content = await answer.read()
            if answer.status == (200 if waits else 202):
                return count
            if answer.status != SENT_AWAY:
                sys.exit(f"bench: {answer.status} {content[:500]!r}")
            await asyncio.sleep(float(answer.headers["retry-after"]))
        raise AssertionError("the loop only ends by returning")

    async def run(self, name: str, tasks: int, *, waits: bool) -> Round:
        """Make so many pictures at once and see to it that all are paid, stored and gone."""
        done = Round(name, tasks)
        before, usage = await self.metrics(), Usage.of(self._pid)
        done.before_mib = usage.resident_mib
        began_s = time.monotonic()

        async def caller(number: int) -> None:
            await asyncio.sleep(began_s + number / self._per_second - time.monotonic())
            done.sent_away += await self.call(number, waits=waits)

        async with asyncio.timeout(ROUND_S), asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(done))
            await asyncio.wait([group.create_task(caller(number)) for number in range(tasks)])
            now = await self._when_idle()
            watching.cancel()
        done.seconds = time.monotonic() - began_s
        after = Usage.of(self._pid)
        done.cpu_s = after.cpu_s - usage.cpu_s
        done.polls = _moved(POLLS, before, now)
        done.late, done.worst_late_s = _lateness(before, now)
        done.put_off_s = _mean(PUT_OFF, before, now)
        done.lag_s = _mean(LAG, before, now)
        stored = _moved(IMAGES, before, now)
        if stored != tasks:
            sys.exit(f"bench: {tasks} tasks have {stored} pictures")
        await asyncio.sleep(5 * SAMPLE_EVERY_S)
        done.after_mib = Usage.of(self._pid).resident_mib
        return done

    async def _when_idle(self) -> dict[str, float]:
        """Return the metrics once nothing is in flight."""
        while True:
            now = await self.metrics()
            if not now[IN_FLIGHT]:
                return now
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def _watch(self, done: Round) -> None:
        while True:
            done.peak_mib = max(done.peak_mib, Usage.of(self._pid).resident_mib)
            now = await self.metrics()
            done.most_in_flight = max(done.most_in_flight, now.get(IN_FLIGHT, 0.0))
            await asyncio.sleep(SAMPLE_EVERY_S)


PROVIDER = '{provider="evolink"}'
IN_FLIGHT = f"gateway_tasks_in_flight{PROVIDER}"
POLLS = f"gateway_polls_per_render_sum{PROVIDER}"
PUT_OFF, LAG = "gateway_poll_put_off_seconds", "gateway_detection_lag_seconds"
IMAGES = (
    'gateway_images_total{model="gpt-image-1.5",provider="evolink",quality="low",'
    'size="1024x1024",team="bench"}'
)


def _moved(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


def _mean(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> float:
    count = _moved(f"{name}_count{PROVIDER}", before, after)
    return _moved(f"{name}_sum{PROVIDER}", before, after) / count if count else 0.0


def _lateness(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[int, float]:
    """Return how many polls were later than the tolerance, and a bound of the latest."""

    def upto(bound_s: float) -> float:
        bound = "+Inf" if math.isinf(bound_s) else str(float(bound_s))
        name = f'gateway_poll_lateness_seconds_bucket{{le="{bound}",provider="evolink"}}'
        return _moved(name, before, after)

    polls = upto(math.inf)
    latest_s = next((edge for edge in LATENESS_BUCKETS if upto(edge) == polls), math.inf)
    return round(polls - upto(TOLERANCE_S)), latest_s


@contextlib.asynccontextmanager
async def started(
    *command: str, says: str, cwd: Path, environ: Mapping[str, str]
) -> AsyncIterator[tuple[int, str]]:
    """Run a process until the block ends; yield its id and the URL in its first line."""
    with (cwd / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=cwd,
            env={"PATH": os.environ["PATH"], **environ},  # noqa: TID251 - a child's environment
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        try:
            if process.stdout is None:
                raise AssertionError("it was asked for")
            async with asyncio.timeout(START_S):
                line = (await process.stdout.readline()).decode()
            match = re.search(rf"{says} (http://127\.0\.0\.1:\d+)", line)
            if match is None:
                sys.exit(f"bench: {command} did not start: {line} {(cwd / 'log').read_text()}")
            yield process.pid, match[1]
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def _row(name: str, figures: Callable[[Round], str], rounds: list[Round]) -> list[str]:
    return [name, *map(figures, rounds)]


def shown(rounds: list[Round]) -> Table:
    """Return the figures as a table."""
    table = Table("", *(done.name for done in rounds))
    for name, figures in (
        ("tasks", lambda done: f"{done.tasks}"),
        ("most in flight at once", lambda done: f"{done.most_in_flight:.0f}"),
        ("seconds", lambda done: f"{done.seconds:.0f}"),
        ("pictures in a second", lambda done: f"{done.tasks / done.seconds:.1f}"),
        ("polls in a second", lambda done: f"{done.polls / done.seconds:.1f}"),
        ("CPU ms per task", lambda done: f"{1000 * done.cpu_s / done.tasks:.1f}"),
        ("share of a core", lambda done: f"{done.cpu_s / done.seconds:.0%}"),
        ("resident before, MiB", lambda done: f"{done.before_mib:.0f}"),
        ("resident at its peak, MiB", lambda done: f"{done.peak_mib:.0f}"),
        ("resident after, MiB", lambda done: f"{done.after_mib:.0f}"),
        ("polls per task", lambda done: f"{done.polls / done.tasks:.2f}"),
        ("polls put off, s on average", lambda done: f"{done.put_off_s:.2f}"),
        ("last gap before an end, s on average", lambda done: f"{done.lag_s:.2f}"),
        ("answers 503, tried again", lambda done: f"{done.sent_away}"),
        (f"polls later than {TOLERANCE_S:g} s after their turn", lambda done: f"{done.late}"),
        ("latest poll, s, below", lambda done: f"{done.worst_late_s:g}"),
    ):
        table.add_row(*_row(name, figures, rounds))
    return table


async def main(arguments: argparse.Namespace) -> int:
    """Run the rounds and print their figures; return an exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = {"EVOLINK_API_KEY": "any", "BENCH_KEY": KEY}
        simulate = (
            *("-m", "gateway", "simulate", "--port", "0", "--seed", "7", "--plain-pictures"),
            *("--latency-median", str(arguments.latency), "--latency-sigma", "0.15"),
            *("--balance", "100000000"),
        )
        profiled = ("-m", "cProfile", "-o", arguments.profile) if arguments.profile else ()
        serve = (*profiled, "-m", "gateway", "serve")
        async with started(*simulate, says="on", cwd=folder, environ=environ) as (_, upstream):
            host = upstream.removeprefix("http://")
            (folder / "config.toml").write_text(
                CONFIG.format(upstream=upstream, host=host, submits=arguments.submits_per_second)
            )
            async with (
                started(*serve, says="on", cwd=folder, environ=environ) as (pid, url),
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, force_close=True),
                    timeout=aiohttp.ClientTimeout(total=ROUND_S),
                ) as session,
            ):
                bench = Bench(session, url, pid, per_second=arguments.per_second)
                rounds = [
                    await bench.run("asynchronous", arguments.tasks, waits=False),
                    await bench.run("waiting", arguments.tasks, waits=True),
                ]
    Console().print(shown(rounds))
    late = sum(done.late for done in rounds)
    print(f"polls later than {TOLERANCE_S:g} s after their turn: {late}")
    return int(late > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5_000, help="how many in each round")
    parser.add_argument("--latency", type=float, default=50.0, help="median of a render, seconds")
    parser.add_argument("--per-second", type=float, default=150.0, help="calls in a second")
    parser.add_argument(
        "--submits-per-second", type=int, default=200, help="as the gateway is configured"
    )
    parser.add_argument("--profile", default="", help="file for a cProfile of the gateway")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A waiting call is a connection in both processes; children inherit the limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.exit(uvloop.run(main(parser.parse_args())))
