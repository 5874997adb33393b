"""Print what traces cost a gateway in CPU and in time, side by side.

Processes: the simulator, a gateway for each way to trace (as it ships, with the embedded store),
and this one, which calls them and takes what they send. Rounds go to the gateways in turn, so that
a noisy machine is noisy for all; compare the figures of one run only. Linux only: CPU is read from
/proc.

Exits with 1 when the collector has not received every trace.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import uvloop
from aiohttp import web
from bench_tasks import CONFIG, KEY, Usage, started
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console
from rich.table import Table

#: How each gateway traces.
WAYS = {
    "no traces": "",
    "sample_ratio = 1": '[traces]\nendpoint = "{collector}"',
    "sample_ratio = 0": '[traces]\nendpoint = "{collector}"\nsample_ratio = 0',
    "collector gone": '[traces]\nendpoint = "http://127.0.0.1:9/v1/traces"',
}
CALL = "POST /v1/images/generations"
OK = 200


@dataclass(slots=True)
class Way:
    """The figures of one gateway: of each round, per picture."""

    pid: int
    url: str
    cpu_ms: list[float] = field(default_factory=list)
    median_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Collector:
    """What was received, while its time is taken from nobody's figures."""

    bodies: list[bytes] = field(default_factory=list)
    sent_bytes: int = 0

    async def post(self, request: web.Request) -> web.Response:
        """Take a batch."""
        # aiohttp gives it uncompressed.
        self.bodies.append(await request.read())
        self.sent_bytes += request.content_length or 0
        return web.Response()

    def counts(self) -> tuple[int, int]:
        """Return how many spans there are, and how many of them are calls."""
        spans = [
            span.name
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return len(spans), spans.count(CALL)


async def picture(session: aiohttp.ClientSession, url: str, number: int) -> float:
    """Ask for one picture; return how long that took in ms."""
    body = {"model": "gpt-image-1.5", "prompt": f"fox {number}", "quality": "low"}
    began_s = time.monotonic()
    async with session.post(
        f"{url}/v1/images/generations",
        data=orjson.dumps(body | {"size": "1024x1024"}),
        headers={"authorization": f"Bearer {KEY}"},
    ) as answer:
        content = await answer.read()
    if answer.status != OK:
        sys.exit(f"bench: {answer.status} {content[:500]!r}")
    return 1000 * (time.monotonic() - began_s)


async def run(session: aiohttp.ClientSession, way: Way, pictures: int, at_once: int) -> None:
    """Let a gateway make so many pictures, so many at once."""
    before_s, numbers, took_ms = Usage.of(way.pid).cpu_s, iter(range(pictures)), list[float]()

    async def caller() -> None:
        for number in numbers:
            took_ms.append(await picture(session, way.url, number))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(caller())
    # What is sent a moment later belongs to this round.
    await asyncio.sleep(2.5)
    way.cpu_ms.append(1000 * (Usage.of(way.pid).cpu_s - before_s) / pictures)
    way.median_ms.append(statistics.median(took_ms))
    way.p95_ms.append(statistics.quantiles(took_ms, n=20)[-1])


def shown(ways: dict[str, Way]) -> Table:
    """Return medians over the rounds as a table."""
    table = Table("", "CPU ms per picture", "of no traces", "median ms", "p95 ms")
    base = statistics.median(next(iter(ways.values())).cpu_ms)
    for name, way in ways.items():
        cpu_ms = statistics.median(way.cpu_ms)
        table.add_row(
            name,
            f"{cpu_ms:.1f} ({min(way.cpu_ms):.1f} to {max(way.cpu_ms):.1f})",
            f"{cpu_ms / base:.2f}",
            f"{statistics.median(way.median_ms):.0f}",
            f"{statistics.median(way.p95_ms):.0f}",
        )
    return table


async def main(arguments: argparse.Namespace) -> int:
    """Run the rounds and print their figures; return an exit code."""
    collector, environ = Collector(), {"EVOLINK_API_KEY": "any", "BENCH_KEY": KEY}
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", collector.post)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    simulate = (
        *("-m", "gateway", "simulate", "--port", "0", "--seed", "7", "--plain-pictures"),
        *("--latency-median", "0.5", "--latency-sigma", "0.1", "--balance", "100000000"),
    )
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _, upstream = await stack.enter_async_context(
            started(*simulate, says="on", cwd=folder, environ=environ)
        )
        ways = {}
        for number, (name, section) in enumerate(WAYS.items()):
            place = folder / str(number)
            place.mkdir()
            host = upstream.removeprefix("http://")
            text = CONFIG.format(upstream=upstream, host=host, submits=1000)
            (place / "config.toml").write_text(text + section.format(collector=address))
            serve = ("-m", "gateway", "serve")
            pid, url = await stack.enter_async_context(
                started(*serve, says="on", cwd=place, environ=environ)
            )
            ways[name] = Way(pid, url)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        order = deque(ways.values())
        for number in range(arguments.rounds + 1):
            # None is always the first after a rest, or the last when a machine is hot.
            order.rotate(1)
            for way in order:
                await run(session, way, arguments.pictures, arguments.at_once)
            if not number:
                # The first warms them up.
                for way in ways.values():
                    way.cpu_ms, way.median_ms, way.p95_ms = [], [], []
    await runner.cleanup()
    Console().print(shown(ways))
    spans, calls = collector.counts()
    expected = arguments.pictures * (arguments.rounds + 1)
    print(f"{calls} calls of {expected} received; {spans / expected:.1f} spans and", end=" ")
    print(f"{collector.sent_bytes / expected / 1024:.2f} KiB for each")
    return int(calls != expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200, help="how many in each round")
    parser.add_argument("--at-once", type=int, default=16, help="calls at once")
    parser.add_argument("--rounds", type=int, default=5, help="beside one to warm up")
    sys.exit(uvloop.run(main(parser.parse_args())))
