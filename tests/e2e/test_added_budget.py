"""A budget is added to a served gateway's settings while a picture is being made."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import (
    ENVIRON,
    TEAM_KEY,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.live import PRICES, UNBILLED, Caller, SettingsFile, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")

SIMULATOR = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
#: A picture is 0.01 by PRICES: there is room for one.
NEW_BUDGET = '{ usd = 0.015, per = "total", name = "new" }'


async def verified(config: Path) -> tuple[int | None, str]:
    """Run `gateway ledger verify`; return its exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "ledger", "verify", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **ENVIRON},  # noqa: TID251 - a child's environment
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def test_a_budget_knows_what_is_under_way(tmp_path: Path) -> None:
    """A call that does not fit beside the picture is refused; its end is what the budget spent."""
    async with serving_simulator(SIMULATOR) as upstream:
        file = SettingsFile(write_config(tmp_path, upstream, wait="60s"))
        file.add(PRICES)
        async with serving_gateway(file.path) as served, asyncio.TaskGroup() as group:
            design = Caller(served.url, TEAM_KEY)

            async def submits() -> int:
                async with httpx.AsyncClient() as client:
                    return (await client.get(f"{upstream}/_sim/stats")).json()["submits"]

            async def is_taken() -> bool:
                return (await design.reloads())["taken"] > 0

            async def new_budget() -> tuple[str, str]:
                usage = (await design.get("/usage")).json()
                [told] = [budget for budget in usage["budgets"] if budget["name"] == "new"]
                return told["spent"]["usd"], told["held"]["usd"]

            slow = group.create_task(design.picture(UNBILLED.format(seconds=8)))
            await until(submits, 1)
            file.replace('per = "month" }', f'per = "month" }}, {NEW_BUDGET}')
            served.process.send_signal(signal.SIGHUP)
            await until(is_taken, wanted=True)
            refused = await design.picture("a small red fox at night")
            under_way, is_made = await new_budget(), slow.done()
            answer = await slow
            spent = await new_budget()
            refused_still = await design.picture("a small red fox at noon")
            submitted = await submits()
            code, report = await verified(file.path)

    assert (429, "insufficient_quota", False) == (
        refused.status_code,
        refused.json()["error"]["code"],
        is_made,
    )
    assert "'new' budget" in refused.json()["error"]["message"]
    assert ("0.00", "0.01") == under_way
    assert (200, 429, 1) == (answer.status_code, refused_still.status_code, submitted)
    assert ("0.01", "0.00") == spent
    assert 0 == code, report
