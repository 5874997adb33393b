"""Print how soon the end of a render is noticed, and for how many polls, by several schedules.

The same renders for every schedule, in virtual time. The learned schedule is the product's: it
begins with the catalogue's belief, learns through a real store as the renders come, and is asked as
the engine asks it. Its cold start is in the figures. The last rows are what no schedule can beat
that knows all ends of the trace beforehand, but not whose they are: the optimum, computed.

Callbacks are measured in real time: a gateway and a simulator, two processes, and the lag is what
the simulator saw, from the end of a render to the first poll that read it.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import aiohttp
import uvloop
from bench_tasks import CONFIG, KEY, Bench, started
from rich.console import Console
from rich.table import Table

from gateway.background import SystemClock
from gateway.domain.images import Operation
from gateway.domain.latency import (
    Forecast,
    LatencyClass,
    Lognormal,
    forecast_from_progress,
    noted,
)
from gateway.domain.poll_plan import max_gap_s
from gateway.store.client import Store
from gateway.store.embedded import EmbeddedServer
from gateway.tasks.latencies import Latencies, PollingLimits

RENDERS = 4_000
#: Renders that end between two exchanges with the store.
BATCH = 20
#: What the catalogue believes of every trace, however wrong it is there.
BELIEVED = Lognormal(median=17.3, sigma=0.33)
FLOOR_S = 1.0
BUDGET = 6.0
#: How often a budget is corrected to come out at a number of polls.
FITTINGS = 2
#: The optimum polls at multiples of this, and is found by so many prices of a poll.
STEP_S, PRICINGS = 0.1, 14

#: The real part: so many renders, so many of them begun in a second.
CALLED_RENDERS, CALLED_PER_SECOND = 200, 5.0
#: And so many before them, which teach what is to be learned.
TEACHING_RENDERS = 60
PROVIDER = "upstream"

#: Progress in per cent after this part of the time a render takes.
Progress = Callable[[float], int]


@dataclass(frozen=True, slots=True)
class Trace:
    """Renders in the order they end: the seconds each took, and what progress is told of it."""

    name: str
    renders_s: tuple[float, ...]
    progress: Callable[[random.Random], Progress] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of all renders of a trace: detection lag in seconds, and polls."""

    mean_lag_s: float
    p95_lag_s: float
    polls: float


def _steady(chance: random.Random) -> Progress:
    """Tell a progress that is steady but for a start of its own and some unevenness."""
    begins, bend = chance.uniform(0.02, 0.10), math.exp(chance.gauss(0.0, 0.05))
    return lambda part: min(int(100 * max(part - begins, 0.0) ** bend / (1 - begins)), 99)


def _by_the_clock(chance: random.Random) -> Progress:
    """Tell a progress that has nothing to do with the end: it creeps to 95 and stays there."""
    speed = chance.uniform(1.0, 6.0)
    return lambda part: int(95 * (1 - math.exp(-speed * part)))


def traces() -> Iterator[Trace]:
    """Yield what schedules are compared on; the same at every run."""
    chance = random.Random(20261123)  # noqa: S311 - figures, not secrets

    def around(median_s: float, sigma: float, count: int = RENDERS) -> tuple[float, ...]:
        return tuple(median_s * math.exp(sigma * chance.gauss(0, 1)) for _ in range(count))

    half = RENDERS // 2
    told = around(17.3, 0.33)
    yield Trace("narrow: 20 s, sigma 0.12", around(20.0, 0.12))
    yield Trace("lognormal: 17.3 s, sigma 0.33", told)
    yield Trace("wide: 8 s, sigma 0.5", around(8.0, 0.5))
    bimodal = [*around(9.0, 0.12, 7 * RENDERS // 10), *around(30.0, 0.12, 3 * RENDERS // 10)]
    chance.shuffle(bimodal)
    yield Trace("bimodal: 7 of 10 at 9 s, 3 at 30 s", tuple(bimodal))
    yield Trace("drift: 12 s, then 24 s, sigma 0.2", around(12, 0.2, half) + around(24, 0.2, half))
    yield Trace("drift: 24 s, then 12 s, sigma 0.2", around(24, 0.2, half) + around(12, 0.2, half))
    yield Trace("lognormal again, progress told", told, _steady)
    yield Trace("lognormal again, progress that means nothing", told, _by_the_clock)


def followed(render_s: float, next_delay_s: Callable[[float, int], float]) -> tuple[float, int]:
    """Poll one render to its end; return (lag in seconds, polls)."""
    elapsed_s, polls = 0.0, 0
    while elapsed_s < render_s:
        elapsed_s += next_delay_s(elapsed_s, polls)
        polls += 1
    return elapsed_s - render_s, polls


def summed(lags_s: list[float], polls: int) -> Outcome:
    """Return the figures of a trace."""
    ordered = sorted(lags_s)
    return Outcome(
        math.fsum(ordered) / len(ordered), ordered[int(0.95 * len(ordered))], polls / len(ordered)
    )


def by_rule(trace: Trace, next_delay_s: Callable[[float, int], float]) -> Outcome:
    """Follow a trace by a schedule that learns nothing."""
    ends = [followed(render_s, next_delay_s) for render_s in trace.renders_s]
    return summed([lag_s for lag_s, _ in ends], sum(polls for _, polls in ends))


def least_lag_s(trace: Trace, polls: float, *, floor_s: float, bounded: bool) -> float:
    """Return the least mean lag that any one schedule can have for so many polls on average.

    By dynamic programming on a grid of `STEP_S` over the ends themselves. For a price of a poll the
    best schedule is found exactly; what all prices together leave possible is a bound for every
    mixture of schedules, and some mixture reaches it. `bounded` schedules keep to the longest gap
    (design rule 21).
    """
    count = math.ceil(max(trace.renders_s) / STEP_S)
    ending, ends_s = [0.0] * (count + 1), [0.0] * (count + 1)
    for render_s in trace.renders_s:
        ending[math.ceil(render_s / STEP_S)] += 1 / len(trace.renders_s)
        ends_s[math.ceil(render_s / STEP_S)] += render_s / len(trace.renders_s)
    ended, sums_s = list(accumulate(ending)), list(accumulate(ends_s))
    nearest = max(round(floor_s / STEP_S), 1)

    def farthest(point: int) -> int:
        if not point or not bounded:
            return count
        return point + max(int(max_gap_s(point * STEP_S) / STEP_S + 1e-9), nearest)

    def best(price_s: float) -> tuple[float, float]:
        cost, asked = [0.0] * (count + 1), [0.0] * (count + 1)
        for point in range(count - 1, -1, -1):
            near = min(point + nearest, count)
            here = ended[point]
            least_s, chosen = min(
                (later * STEP_S * (ended[later] - here) - sums_s[later] + cost[later], later)
                for later in range(near, min(farthest(point), count) + 1)
            )
            cost[point] = least_s + sums_s[point] + price_s * (1.0 - here)
            asked[point] = 1.0 - here + asked[chosen]
        return cost[0], asked[0]

    low_s, high_s, bound_s = 0.001, 60.0, 0.0
    for _ in range(PRICINGS):
        price_s = math.sqrt(low_s * high_s)
        cost_s, asked = best(price_s)
        bound_s = max(bound_s, cost_s - price_s * polls)
        low_s, high_s = (price_s, high_s) if asked > polls else (low_s, price_s)
    return bound_s


async def learned(trace: Trace, store: Store, *, budget: float, floor_s: float) -> Outcome:
    """Follow a trace by the product's schedule, from knowing nothing of it."""
    await store.command("FLUSHALL")
    latencies = Latencies(
        store,
        SystemClock(),
        limits=PollingLimits({PROVIDER: floor_s}, budget),
        priors=lambda _: BELIEVED,
    )
    renders = LatencyClass(PROVIDER, "m", Operation.GENERATION, "medium", "1k")
    chance = random.Random(7)  # noqa: S311 - jitter
    lags_s, polls = [], 0
    for number, render_s in enumerate(trace.renders_s):
        if number % BATCH == 0:
            await latencies.refresh()
        tells = trace.progress(chance) if trace.progress else None
        lag_s, asked = follow_learned(latencies, renders, render_s, tells, chance)
        lags_s.append(lag_s)
        polls += asked
    return summed(lags_s, polls)


def follow_learned(
    latencies: Latencies,
    renders: LatencyClass,
    render_s: float,
    tells: Progress | None,
    chance: random.Random,
) -> tuple[float, int]:
    """Poll one render as the engine does: progress becomes a forecast, the end is learned."""
    forecasts: tuple[Forecast, ...] = ()
    elapsed_s = pending_s = 0.0
    polls = 0
    while True:
        schedule = latencies.schedule_for(renders)
        elapsed_s += schedule.delay_s(
            elapsed_s, polls=polls, jitter=chance.random(), forecasts=forecasts
        )
        polls += 1
        if elapsed_s >= render_s:
            break
        pending_s = elapsed_s
        if tells is not None:
            told = forecast_from_progress(tells(elapsed_s / render_s), elapsed_s)
            forecasts = noted(forecasts, told)
    latencies.observe(renders, pending_s, elapsed_s, forecasts)
    return elapsed_s - render_s, polls


def schedules(store: Store) -> Iterator[tuple[str, Callable[[Trace], Awaitable[Outcome]]]]:
    """Yield what is compared, by name."""

    def ruled(
        next_delay_s: Callable[[float, int], float],
    ) -> Callable[[Trace], Awaitable[Outcome]]:
        async def run(trace: Trace) -> Outcome:
            return by_rule(trace, next_delay_s)

        return run

    def learning(floor_s: float, budget: float | None) -> Callable[[Trace], Awaitable[Outcome]]:
        async def run(trace: Trace) -> Outcome:
            if budget is not None:
                return await learned(trace, store, budget=budget, floor_s=floor_s)
            # The budget that comes out at as many polls as asking every 3 s.
            wanted = afforded = by_rule(trace, lambda _, __: 3.0).polls
            for _ in range(FITTINGS):
                outcome = await learned(trace, store, budget=afforded, floor_s=floor_s)
                afforded *= wanted / outcome.polls
            return await learned(trace, store, budget=afforded, floor_s=floor_s)

        return run

    def least(floor_s: float, *, bounded: bool = True) -> Callable[[Trace], Awaitable[Outcome]]:
        async def run(trace: Trace) -> Outcome:
            polls = by_rule(trace, lambda _, __: 3.0).polls
            least_s = least_lag_s(trace, polls, floor_s=floor_s, bounded=bounded)
            return Outcome(least_s, math.nan, polls)

        return run

    for gap_s in (1.0, 2.0, 3.0, 5.0):
        yield f"every {gap_s:g} s", ruled(lambda _, __, gap_s=gap_s: gap_s)
    yield "doubling from 1 s, up to 30 s", ruled(lambda _, polls: min(2.0**polls, 30.0))
    yield "1 s + 10 % of the elapsed time", ruled(lambda elapsed_s, _: 1 + elapsed_s / 10)
    yield f"learned, budget {BUDGET:g}", learning(FLOOR_S, BUDGET)
    yield "learned, polls of every 3 s", learning(FLOOR_S, None)
    yield "the same, min_interval 250 ms", learning(FLOOR_S / 4, None)
    yield "optimum: ends known, gaps from 1 s on", least(FLOOR_S)
    yield "optimum: ends known, from 250 ms on", least(FLOOR_S / 4)
    yield "optimum: ends known, any gaps at all", least(STEP_S, bounded=False)


async def main() -> None:
    """Measure and print a table for each trace."""
    console = Console(width=100)
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        server = EmbeddedServer(Path(folder))
        await server.start()
        try:
            async with Store(server.url, timeout_ms=10_000) as store:
                for trace in traces():
                    console.print(await compared(trace, store))
                console.print(await costs(store))
                console.print(await called())
        finally:
            await server.stop()


async def called() -> Table:
    """Return what callbacks are worth: polls and lag as the upstream saw them."""
    table = Table(
        title=f"{CALLED_RENDERS} renders of 6 s, sigma 0.33, in real time", title_justify="left"
    )
    table.add_column("schedule")
    for name in ("mean lag s", "p95 lag s", "polls"):
        table.add_column(name, justify="right")
    for name, public in (("learned, budget 6", False), ("with callbacks", True)):
        outcome = await _followed_for_real(calls_back=public)
        table.add_row(
            name,
            f"{outcome.mean_lag_s:.3f}",
            f"{outcome.p95_lag_s:.3f}",
            f"{outcome.polls:.1f}",
        )
    return table


async def _followed_for_real(*, calls_back: bool) -> Outcome:
    """Let a gateway make pictures at a simulator; return how it noticed their ends."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder, environ = Path(name), {"EVOLINK_API_KEY": "any", "BENCH_KEY": KEY}
        simulate = (
            *("-m", "gateway", "simulate", "--port", "0", "--seed", "7", "--plain-pictures"),
            *("--latency-median", "6", "--latency-sigma", "0.33", "--balance", "100000000"),
        )
        async with started(*simulate, says="on", cwd=folder, environ=environ) as (_, upstream):
            host = upstream.removeprefix("http://")
            settings = CONFIG.format(upstream=upstream, host=host, submits=200)
            if calls_back:
                port = _free_port()
                public = f'port = {port}\npublic_url = "http://127.0.0.1:{port}"'
                settings = settings.replace("port = 0", public)
            (folder / "config.toml").write_text(settings)
            serve = ("-m", "gateway", "serve")
            async with (
                started(*serve, says="on", cwd=folder, environ=environ) as (pid, url),
                aiohttp.ClientSession() as session,
            ):
                bench = Bench(session, url, pid, per_second=CALLED_PER_SECOND)
                await bench.run("teaching", TEACHING_RENDERS, waits=False)
                done = await bench.run("measured", CALLED_RENDERS, waits=False)
                async with session.get(f"{upstream}/_sim/tasks") as answer:
                    newest = (await answer.json())["tasks"][:CALLED_RENDERS]
    return summed([task["noticed_after_ms"] / 1000 for task in newest], round(done.polls))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def costs(store: Store) -> str:
    """Return what following a render costs this process: decisions, learning and new plans."""
    lines = []
    for trace in list(traces())[1::5]:
        began_s = time.perf_counter()
        outcome = await learned(trace, store, budget=BUDGET, floor_s=FLOOR_S)
        decisions = outcome.polls * len(trace.renders_s)
        per_decision_us = (time.perf_counter() - began_s) / decisions * 1e6
        lines.append(f"{trace.name}: {per_decision_us:.0f} µs for a decision, all in")
    return "\n".join(lines)


async def compared(trace: Trace, store: Store) -> Table:
    """Return one trace's table; the last column is the lag in parts of every 3 s'."""
    table = Table(title=f"{trace.name}, {RENDERS} renders", title_justify="left")
    table.add_column("schedule")
    for name in ("mean lag s", "p95 lag s", "polls", "of every 3 s"):
        table.add_column(name, justify="right")
    reference = by_rule(trace, lambda _, __: 3.0).mean_lag_s
    for name, run in schedules(store):
        outcome = await run(trace)
        table.add_row(
            name,
            f"{outcome.mean_lag_s:.2f}",
            "" if math.isnan(outcome.p95_lag_s) else f"{outcome.p95_lag_s:.2f}",
            f"{outcome.polls:.1f}",
            f"{outcome.mean_lag_s / reference:.2f}",
        )
    return table


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
