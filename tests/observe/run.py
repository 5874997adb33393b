"""`make observe`: what ships for Prometheus and Grafana, against a live gateway under load.

    make observe                    all, 10,000 stray requests, pictures of the dashboards
    make observe-short              the same faults, 600 stray requests, no pictures

A gateway with two workers, two simulators and Prometheus run on this machine for about two minutes.
The rules are those of deploy/prometheus with their spans shortened (rewrite.py). It prints panel ×
query × series and fault × alert × seconds, and exits with 1 when a query finds nothing, an alert
fires without its fault or not at all after it, or a stray request makes a series.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from tests.observe.faults import GROUPS, LAST, NOISE_KEY, STANDING, Fault, load
from tests.observe.panels import Asked, ask_all, table
from tests.observe.rewrite import THRESHOLDS, WINDOWS
from tests.observe.stack import ROOT, Stack, running_stack
from tests.support.noise import make_noise

STRAY, STRAY_SHORT = 10_000, 600
#: So many of them are for a picture that is made, each for a user of its own.
ORDERS = 0.02

#: How long the load runs before the first fault; what is usual is learned meanwhile.
CALM_S = 9.0
#: No alert may take longer after its fault.
ALERT_WITHIN_S = 90.0
#: Nor may what an earlier fault has set off as well stay for longer.
QUIET_WITHIN_S = 60.0

IMAGES = ROOT / "docs" / "images"


def say(*words: str) -> None:
    """Print at once."""
    out = sys.stdout
    print(*words, file=out, flush=True)


class Observation:
    """One run, and what was wrong in it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.problems: list[str] = []
        self.since_s = time.time()  # noqa: TID251 - Prometheus keeps wall-clock time
        self.fired: list[tuple[str, str, float]] = []

    async def stray_requests(self, count: int) -> None:
        """Send requests that nobody expects; they must leave the series as they are."""
        root, begun_s = self.stack.root, time.monotonic()
        await make_noise(root, NOISE_KEY, STRAY_SHORT, seed=1, orders=ORDERS)
        before = await self._series()
        statuses = await make_noise(root, NOISE_KEY, count, seed=2, orders=ORDERS)
        after = await self._series()
        took_s = time.monotonic() - begun_s
        told = ", ".join(f"{status}: {times}" for status, times in sorted(statuses.items()))
        say(f"{count} stray requests in {took_s:.0f} s ({told}):")
        say(f"  {len(before)} series before, {len(after)} after")
        if made := after - before:
            self.problems.append(f"stray requests made {len(made)} series: {sorted(made)[:5]}")
        if not statuses[httpx.codes.OK]:
            self.problems.append("no picture was made among the stray requests")

    async def _series(self) -> set[str]:
        """Return every series by its name and labels."""
        answer = await self.stack.client.get(f"{self.stack.root}/metrics", timeout=60)
        lines = answer.text.splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    async def calm(self) -> None:
        """Watch the load for a while; only what is so from the start may fire, and must."""
        await asyncio.sleep(CALM_S)
        firing = await self.stack.firing()
        self.problems += [f"{alert} fired without a fault" for alert in sorted(firing - STANDING)]
        self.problems += [f"{alert} did not fire" for alert in sorted(STANDING - firing)]
        self.fired += [("so from the start", alert, CALM_S) for alert in STANDING & firing]

    async def _quiet(self, alerts: Collection[str]) -> frozenset[str]:
        """Let what an earlier fault has set off as well pass; return what fires then."""
        until_s = time.monotonic() + QUIET_WITHIN_S
        while True:
            firing = frozenset(await self.stack.firing())
            if not firing & set(alerts) or time.monotonic() > until_s:
                return firing
            await asyncio.sleep(0.5)

    async def group(self, faults: Sequence[Fault]) -> None:
        """Do what a group of faults says, and wait until all of its alerts have fired."""
        waited = {alert: fault for fault in faults for alert in fault.alerts}
        before = await self._quiet(waited)
        begun_s = time.monotonic()
        self.problems += [f"{one} fired before its fault" for one in waited if one in before]
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(_act(fault, self.stack))
            with suppress(TimeoutError):
                async with asyncio.timeout(ALERT_WITHIN_S):
                    while waited:
                        for alert in await self.stack.firing() & waited.keys():
                            what = waited.pop(alert).what
                            self.fired.append((what, alert, time.monotonic() - begun_s))
                        await asyncio.sleep(0.5)
        self.problems += [f"{alert} did not fire: {fault.what}" for alert, fault in waited.items()]

    async def scraped(self) -> None:
        """Wait until the gateway answers scrapes: the last fault has ended one of its workers."""
        async with asyncio.timeout(QUIET_WITHIN_S):
            while not await self.stack.ask("query", query="gateway_store_up"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.5)

    def told(self) -> str:
        """Return fault × alert × seconds as text."""
        lines = [f"{'fault':<58} {'alert':<28} {'after':>6}"]
        lines += [f"{what:<58} {alert:<28} {s:>5.1f}s" for what, alert, s in self.fired]
        return "\n".join(lines)


async def _act(fault: Fault, stack: Stack) -> None:
    await fault.act(stack)


def promtool(*arguments: str | Path, said: bytes = b"") -> None:
    """Run promtool and print what it says. Raises CalledProcessError."""
    tool = shutil.which("promtool")
    assert tool is not None, "needs promtool: apt install prometheus"
    done = subprocess.run([tool, *arguments], input=said, capture_output=True, check=False)
    words = " ".join(Path(str(one)).name for one in arguments)
    say(f"promtool {words}: {'ok' if done.returncode == 0 else 'FAILED'}")
    if done.returncode:
        say((done.stdout + done.stderr).decode())
        raise subprocess.CalledProcessError(done.returncode, words)


async def _observe(stack: Stack, stray: int) -> tuple[Observation, list[Asked]]:
    text = (await stack.client.get(f"{stack.root}/metrics")).content
    rules = ROOT / "deploy" / "prometheus"
    await asyncio.to_thread(promtool, "check", "metrics", said=text)
    promtool("check", "rules", rules / "recording.yml", rules / "alerts.yml")
    promtool("test", "rules", rules / "tests" / "rules_test.yml")
    it = Observation(stack)
    loading = asyncio.get_running_loop().create_task(load(stack))
    try:
        await it.calm()
        for faults in GROUPS:
            await it.group(faults)
            say(f"  {sum(len(fault.alerts) for fault in faults)} alerts after {len(faults)} faults")
        await asyncio.sleep(3)
        await it.scraped()
        asked = await ask_all(stack, it.since_s, time.time())  # noqa: TID251 - as above
    finally:
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
    await it.stray_requests(stray)
    await it.group(LAST)
    return it, asked


async def run(folder: Path, *, stray: int, draws: bool) -> list[str]:
    """Run everything; return what was wrong."""
    say("The rules' spans are shortened:", ", ".join(f"{a} → {b}" for a, b in WINDOWS.items()))
    say("and of `for` and `interval` all to 1 s;", "; ".join(THRESHOLDS.values()))
    async with running_stack(folder) as stack:
        it, asked = await _observe(stack, stray)
    say("")
    say(table(asked))
    say("")
    say(it.told())
    it.problems += [
        f"no data: {one.dashboard} / {one.panel['title']}: {one.target['expr']}"
        for one in asked
        if not one.found
    ]
    if draws:
        # Only here: what draws is no dependency of the tests.
        from tests.observe.draw import draw_all  # noqa: PLC0415

        draw_all(asked, IMAGES)
    return it.problems


def main() -> int:
    """Run and print; return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="600 stray requests, no pictures")
    parser.add_argument("--keep", type=Path, help="a folder to leave logs and data in")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="observe-"))
    folder.mkdir(parents=True, exist_ok=True)
    begun_s = time.monotonic()
    stray = STRAY_SHORT if arguments.short else STRAY
    problems = asyncio.run(run(folder, stray=stray, draws=not arguments.short))
    say(f"\n{time.monotonic() - begun_s:.0f} s")
    for problem in problems:
        say(f"WRONG: {problem}")
    if arguments.keep is None and not problems:
        shutil.rmtree(folder, ignore_errors=True)
    elif problems:
        say(f"logs are in {folder}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
