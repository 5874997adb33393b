"""The upstream says that a picture is done: it is looked at now, and nothing is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import running_gateway

PUBLIC = 'public_url = "URL"'
COST_MICROUSD = 7_852
#: Polls would come at 1, 2.1 and 3.3 seconds.
SLOW = SimulatorSettings(latency_median_s=2.3, latency_sigma=0.0, seed=7)
WOKE = 'gateway_callbacks_total{direction="in",outcome="woke"}'
FORGED = 'gateway_callbacks_total{direction="in",outcome="forged"}'
LATE = 'gateway_callbacks_total{direction="in",outcome="late"}'


async def test_a_callback_makes_the_next_poll_happen_now(tmp_path: Path) -> None:
    """A picture that is done between two polls is detected within moments."""
    async with running_gateway(tmp_path, simulator=SLOW, server=PUBLIC) as running:
        answer = await running.generate()
        metrics = await running.metrics()

        assert 200 == answer.status_code
        assert 1 == metrics[WOKE]
        assert 3 == metrics['gateway_polls_per_render_sum{provider="evolink"}']
        assert 1 == (await running.simulated())["submits"]
        # From the last poll that said pending to the callback: well below a gap.
        assert 0.5 > metrics['gateway_detection_lag_seconds_sum{provider="evolink"}']


@pytest.mark.parametrize(
    "marker", ["callback:storm:20", "callback:early", "callback:foreign", "callback:garbage"]
)
async def test_callbacks_that_repeat_come_early_or_lie_are_harmless(
    tmp_path: Path, marker: str
) -> None:
    """However many there are and whenever they come: one submission, one charge."""
    async with running_gateway(tmp_path, server=PUBLIC) as running:
        answer = await running.generate(f"a small red fox [[{marker}]]")

        assert 200 == answer.status_code
        assert 1 == (await running.simulated())["submits"]
        spent, held = await running.budget()
        assert (True, 0) == (spent > 0, held)


async def test_a_forged_callback_is_counted_and_told_nothing(tmp_path: Path) -> None:
    """A token that is none of ours is 404; a late one of ours is 200."""
    async with running_gateway(tmp_path, server=PUBLIC) as running:
        forged = await running.client.post("/v1/callbacks/evolink/abc.def", json={"id": "x"})
        metrics = await running.metrics()

        assert (404, 1) == (forged.status_code, metrics[FORGED])


async def test_a_lost_answer_is_found_again_by_its_callback(tmp_path: Path) -> None:
    """When the submit's answer was lost, the callback's id is checked, bound, and delivered."""
    async with running_gateway(tmp_path, simulator=SLOW, server=PUBLIC) as running:
        answer = await running.generate("a small red fox [[created:drop]]")

        assert 200 == answer.status_code
        assert 1 == (await running.simulated())["submits"]
        spent, held = await running.budget()
        assert (spent, 0) == (round((await running.simulated())["cost_microusd"]), held)
