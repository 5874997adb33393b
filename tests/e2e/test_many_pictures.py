"""Several pictures in one call: made at once, each paid for, delivered together."""

from __future__ import annotations

import base64
from pathlib import Path

import openai

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, running_gateway

COST_MICROUSD = 7_852


async def test_n_pictures_are_n_submissions_and_one_answer(tmp_path: Path) -> None:
    """The stock SDK gets three different pictures, the books three charges of one task."""
    async with (
        running_gateway(tmp_path) as running,
        openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=TEAM_KEY) as client,
    ):
        answer = await client.images.generate(
            model="gpt-image-1.5",
            prompt="a small red fox",
            quality="low",
            size="1024x1024",
            n=3,
        )
        simulated = await running.simulated()
        budget = await running.budget()

    assert answer.data is not None
    pictures = {base64.b64decode(picture.b64_json or "") for picture in answer.data}
    assert 3 == len(pictures) == simulated["submits"]
    assert (3 * COST_MICROUSD, 0) == budget
    assert answer.usage is not None
    assert 3 * 272 == answer.usage.output_tokens


async def test_all_n_must_fit_into_the_budget(tmp_path: Path) -> None:
    """A call of which only some pictures fit is refused as a whole."""
    async with running_gateway(tmp_path, budget="0.03") as running:
        refused = await running.generate(n=4)
        served = await running.generate(n=2)

        assert (429, 200) == (refused.status_code, served.status_code)
        assert 2 == (await running.simulated())["submits"]
        assert (2 * COST_MICROUSD, 0) == await running.budget()


async def test_the_most_a_call_may_cost_is_the_clients_to_say(tmp_path: Path) -> None:
    """Above `max_cost_usd`, for all of its pictures together, nothing is ordered."""
    simulator = SimulatorSettings(latency_median_s=0.2, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=simulator) as running:
        refused = await running.generate(n=2, max_cost_usd=0.015)
        served = await running.generate(n=1, max_cost_usd="0.015")

        error = refused.json()["error"]
        assert (400, "cost_limit_exceeded", "max_cost_usd") == (
            refused.status_code,
            error["code"],
            error["param"],
        )
        assert 200 == served.status_code
        assert 1 == (await running.simulated())["submits"]
