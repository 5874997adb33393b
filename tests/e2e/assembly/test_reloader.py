"""A settings file that changes under a `gateway serve` with calls on their way."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import (
    OTHER_KEY,
    TEAM_KEY,
    ServedProcess,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.live import (
    NEW_KEY,
    NEWCOMER,
    PRICES,
    UNBILLED,
    Caller,
    SettingsFile,
    logged,
    until,
    verified_books,
)
from tests.support.valkey import ValkeyProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")

SIMULATOR = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
NEW_TEAM = NEWCOMER.format(variable="NEW_KEY")


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway, its settings file, what it logs, and three who call."""

    process: ServedProcess
    file: SettingsFile
    log: Path
    design: Caller
    others: Caller
    newcomer: Caller
    upstream: str

    async def until_submitted(self, orders: int = 1) -> None:
        """Return once the upstream has so many orders."""

        async def submits() -> bool:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{self.upstream}/_sim/stats")).json()["submits"] >= orders

        await until(submits, wanted=True)

    async def shared_microusd(self) -> tuple[int, int]:
        """Return what is spent and held of the organization's budget, by the metrics."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(self.design.url.removesuffix("/v1") + "/metrics")).text
        found = {
            line.partition("{")[0].removeprefix("gateway_budget_"): float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if 'scope="organization"' in line and line.startswith("gateway_budget_")
        }
        return round(found["spent_usd"] * 1e6), round(found["held_usd"] * 1e6)

    async def until_told(self, **counts: int) -> None:
        """Return once so many looks at the file have ended in these ways."""

        async def told() -> bool:
            reloads = await self.design.reloads()
            return all(reloads[outcome] >= count for outcome, count in counts.items())

        await until(told, wanted=True)


@asynccontextmanager
async def serving(folder: Path, upstream: str, **placeholders: str) -> AsyncIterator[Served]:
    """Serve from a folder with flat prices; NEW_KEY is known and nobody's."""
    folder.mkdir(exist_ok=True)
    file = SettingsFile(write_config(folder, upstream, **placeholders))
    file.add(PRICES)
    log = folder / "log"
    with log.open("wb") as sink:
        async with serving_gateway(file.path, log=sink.fileno(), NEW_KEY=NEW_KEY) as process:
            callers = [Caller(process.url, key) for key in (TEAM_KEY, OTHER_KEY, NEW_KEY)]
            yield Served(process, file, log, *callers, upstream)


async def test_a_changed_file_is_in_force_while_a_picture_is_being_made(tmp_path: Path) -> None:
    """No restart: a team comes, another goes, the price doubles; the picture costs what it did."""
    async with (
        serving_simulator(SIMULATOR) as upstream,
        serving(tmp_path, upstream) as served,
        asyncio.TaskGroup() as group,
    ):
        before = await served.design.quote(), await served.others.status()
        slow = group.create_task(served.design.picture(UNBILLED.format(seconds=6)))
        await served.until_submitted()
        text = served.file.path.read_text().replace("0.010000", "0.020000")
        kept, _, _ = text.partition("[teams.others]")
        served.file.path.write_text(kept + PRICES.replace("0.010000", "0.020000") + NEW_TEAM)
        await until(served.newcomer.status, 200)
        during = await served.design.quote(), await served.others.status(), slow.done()
        slow_answer = await slow
        next_answer = await served.design.picture(UNBILLED.format(seconds=0))

    assert (10_000, 200) == before
    assert (20_000, 401, False) == during
    costs = [
        (answer.status_code, answer.headers["x-gateway-cost-usd"])
        for answer in (slow_answer, next_answer)
    ]
    assert [(200, "0.01"), (200, "0.02")] == costs
    [taken] = logged(served.log, "config_taken")
    assert ['prices."evolink/gpt-image-1.5".tiers', "teams.others", "teams.newcomer"] == taken[
        "settings"
    ]


async def test_a_file_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    """A mistake, and a setting that cannot change: told with its place, and not half taken."""
    async with serving_simulator(SIMULATOR) as upstream, serving(tmp_path, upstream) as served:
        right = served.file.path.read_text()
        served.file.add(NEW_TEAM + "\n[teams.broken]\nbudgets = [{ usd = 1 }]\n")
        await served.until_told(refused=1)
        mistaken = await served.newcomer.status(), await served.design.status()
        ready = (await served.design.get("/../readyz")).status_code
        served.file.path.write_text(right.replace('wait = "20s"', 'wait = "21s"\nlease = "3s"'))
        served.file.replace('\ntimeout = "2s"', '\ntimeout = "3s"')
        served.file.add(NEW_TEAM)
        await served.until_told(refused=2)
        fixed = await served.newcomer.status(), await served.design.status()
        # The secret of nobody: right on another machine, and of no use here.
        served.file.path.write_text(right + NEWCOMER.format(variable="NOT_SET"))
        await served.until_told(refused=3)
        served.file.path.write_text(right + NEW_TEAM)
        await until(served.newcomer.status, 200)
        counts = await served.design.reloads()

    assert [(401, 200)] * 2 == [mistaken, fixed]
    assert 200 == ready
    assert {"refused": 3, "taken": 1, "unchanged": 0} == counts
    told = [line["problems"] for line in logged(served.log, "config_refused")]
    assert [
        ["teams.broken.budgets[0].per: this setting is required"],
        [
            "server.lease: cannot change while the gateway runs: restart it",
            "redis.timeout: cannot change while the gateway runs: restart it",
        ],
        ["teams.newcomer.keys[0].env: NOT_SET is not set in the environment"],
    ] == told
    assert NEW_KEY not in served.log.read_text()


async def test_a_file_that_is_not_watched_is_read_at_sighup(tmp_path: Path) -> None:
    """Until then nothing happens; what is the same in other words is told apart."""
    async with (
        serving_simulator(SIMULATOR) as upstream,
        serving(tmp_path, upstream, server="watch = false") as served,
    ):
        served.process.process.send_signal(signal.SIGHUP)
        await served.until_told(unchanged=1)
        served.file.add(NEW_TEAM)
        # Longer than two looks of a gateway that watches.
        await asyncio.sleep(2)
        before = await served.newcomer.status(), await served.design.reloads()
        served.process.process.send_signal(signal.SIGHUP)
        await until(served.newcomer.status, 200)
        after = await served.design.reloads()

    assert (401, {"taken": 0, "refused": 0, "unchanged": 1}) == before
    assert {"taken": 1, "refused": 0, "unchanged": 1} == after


async def test_budgets_come_and_go_with_the_next_call(tmp_path: Path) -> None:
    """A team's that is lowered, and one of the organization that goes and comes back."""
    shared = '[organization]\nbudgets = [{ usd = 5.0, per = "month" }]\n'
    picture = UNBILLED.format(seconds=0)
    async with (
        serving_simulator(SIMULATOR) as upstream,
        serving(tmp_path, upstream, server="watch = false", sections=shared) as served,
    ):
        taken = 0

        async def answered() -> tuple[int, str | None]:
            nonlocal taken
            served.process.process.send_signal(signal.SIGHUP)
            taken += 1
            await served.until_told(taken=taken)
            answer = await served.design.picture(picture)
            return answer.status_code, answer.json().get("error", {}).get("code")

        first = (await served.design.picture(picture)).status_code
        served.file.replace("usd = 5,", "usd = 0.015,")
        lowered = await answered()
        served.file.replace("usd = 0.015,", "usd = 5,")
        raised = await answered()
        served.file.replace("usd = 5.0", "usd = 0.025")
        tight = await answered()
        served.file.replace(shared.replace("5.0", "0.025"), "")
        gone = await answered()
        served.file.add("\n" + shared.replace("5.0", "0.035"))
        back = await answered()
        verified = await verified_books(served.file.path)

    refused = (429, "insufficient_quota")
    assert 200 == first
    assert [refused, (200, None)] == [lowered, raised]
    # Two pictures of a cent leave no room for a third in two and a half; what was made while there
    # was no limit counts, too.
    assert [refused, (200, None), refused] == [tight, gone, back]
    assert 0 == verified


async def test_the_organizations_first_budget_knows_what_was_spent_before(tmp_path: Path) -> None:
    """And what is in flight: the next call is refused for it, and all of it is booked once."""
    shared = '\n[organization]\nbudgets = [{ usd = 0.035, per = "month" }]\n'
    picture = UNBILLED.format(seconds=0)
    async with (
        serving_simulator(SIMULATOR) as upstream,
        serving(tmp_path, upstream, server="watch = false") as served,
        asyncio.TaskGroup() as group,
    ):
        spent = [(await served.design.picture(picture)).status_code for _ in range(2)]
        slow = group.create_task(served.design.picture(UNBILLED.format(seconds=6)))
        await served.until_submitted(3)
        served.file.add(shared)
        served.process.process.send_signal(signal.SIGHUP)
        await served.until_told(taken=1)
        refused = await served.design.picture(picture)
        was_in_flight = not slow.done()
        served.file.replace("usd = 0.035", "usd = 0.045")
        served.process.process.send_signal(signal.SIGHUP)
        await served.until_told(taken=2)
        fits = (await served.design.picture(picture)).status_code
        answered = (await slow).status_code
        await until(served.shared_microusd, (40_000, 0))
        verified = await verified_books(served.file.path)

    assert ([200, 200], True) == (spent, was_in_flight)
    assert (429, "insufficient_quota") == (refused.status_code, refused.json()["error"]["code"])
    assert "organization" in refused.json()["error"]["message"]
    assert (200, 200, 0) == (fits, answered, verified)


async def test_a_task_that_changes_hands_keeps_its_price(
    valkey_process: ValkeyProcess, tmp_path: Path
) -> None:
    """Who takes it over knows the prices it was quoted by, though others are in force."""
    shared = {
        "redis": f'url = "{valkey_process.url}"',
        "assets": f'url = "file:{tmp_path}/pictures"',
        "server": 'lease = "1s"',
    }
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(SIMULATOR))
        one, two = [
            await stack.enter_async_context(serving(tmp_path / name, upstream, **shared))
            for name in ("one", "two")
        ]
        lost = asyncio.create_task(one.design.picture(UNBILLED.format(seconds=8)))  # noqa: TID251 - a client of the test's
        await one.until_submitted()
        two.file.replace("0.010000", "0.020000")
        await until(two.design.quote, 20_000)
        one.process.process.kill()
        with pytest.raises(httpx.TransportError):
            await lost
        await until(two.design.spent, 10_000)
        stats = await two.design.reloads()

    assert {"taken": 1, "refused": 0, "unchanged": 0} == stats
