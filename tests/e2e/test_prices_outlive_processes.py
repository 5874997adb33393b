"""Prices that change between two lives of a gateway, with a picture on its way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import serving_gateway, serving_simulator, write_config
from tests.support.live import PRICES, UNBILLED, Caller, SettingsFile, until, verified_books

SIMULATOR = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)


async def test_a_picture_costs_what_a_process_quoted_that_is_dead(tmp_path: Path) -> None:
    """Killed, the price doubled, started again: what the upstream bills nobody is the old price."""
    async with serving_simulator(SIMULATOR) as upstream:
        file = SettingsFile(write_config(tmp_path, upstream, server='lease = "1s"'))
        file.add(PRICES)

        async def is_submitted() -> bool:
            # By the journal: an order whose id is not written down yet is another story.
            return '"task_submitted"' in (tmp_path / "log").read_text()

        with (tmp_path / "log").open("wb") as log:
            async with serving_gateway(file.path, log=log.fileno()) as first:
                picture = Caller(first.url).picture(UNBILLED.format(seconds=3))
                lost = asyncio.create_task(picture)  # noqa: TID251 - a client of the test's
                await until(is_submitted, wanted=True)
                first.process.kill()
                with pytest.raises(httpx.TransportError):
                    await lost
            file.replace("0.010000", "0.020000")
            async with serving_gateway(file.path, log=log.fileno()) as second:
                caller = Caller(second.url)
                quoted = await caller.quote()

                async def is_settled() -> bool:
                    return await caller.spent() > 0

                await until(is_settled, wanted=True)
                old = await caller.spent()
                answer = await caller.picture(UNBILLED.format(seconds=0))
                both = await caller.spent()
                verified = await verified_books(file.path)

    assert (20_000, 10_000) == (quoted, old)
    assert (200, "0.02") == (answer.status_code, answer.headers["x-gateway-cost-usd"])
    assert (30_000, 0) == (both, verified)
