from __future__ import annotations

from pathlib import Path

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import running_gateway

CALL = {"model": "gpt-image-1.5", "prompt": "a small red fox", "quality": "low"}


async def test_a_quote_is_what_a_call_would_hold_and_spends_nothing(tmp_path: Path) -> None:
    """The same body as a generation is priced against the team's budgets; nothing is submitted."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=settings) as running:
        await running.generate()
        answer = await running.client.post("/v1/images/quotes", json=CALL)
        wrong = await running.client.post("/v1/images/quotes", json={**CALL, "n": 0})
        spent = await running.budget()
        simulated = await running.simulated()
        metrics = await running.metrics()

    told = answer.json()
    assert 200 == answer.status_code
    # 272 image tokens, 15 bytes of prompt, room for 256 tokens of thinking.
    assert 10_206 == told["hold"]["microusd"]
    assert "0.007834" == told["list_price"]["usd"]
    [budget] = told["budgets"]
    assert 5_000_000 - 7_852 == budget["remaining"]["microusd"]
    assert "4.992148" == answer.headers["x-gateway-budget-remaining-usd"]
    assert (400, "integer_below_min_value") == (wrong.status_code, wrong.json()["error"]["code"])
    assert (7_852, 0) == spent
    assert 1 == simulated["submits"]
    labels = 'code="",model="gpt-image-1.5",route="images.quotes",status="200",team="design"'
    assert 1 == metrics[f"gateway_requests_total{{{labels}}}"]


async def test_links_to_references_are_in_the_price(tmp_path: Path) -> None:
    """Whatever a generation takes is priced: with `image_urls` it is an edit."""
    linked = CALL | {"image_urls": ["https://nowhere.invalid/a.png"] * 2}
    async with running_gateway(tmp_path) as running:
        quoted = await running.client.post("/v1/images/quotes", json=linked)
        simulated = await running.simulated()

    assert ("edit", 3_072) == (quoted.json()["operation"], quoted.json()["tokens"]["image_input"])
    assert 0 == simulated["submits"]


async def test_unpriced_pictures_are_refused_and_counted(tmp_path: Path) -> None:
    """A scrape shows how often nobody knew a price."""
    async with running_gateway(tmp_path) as running:
        model = running.gateway.front.images.find_model("gpt-image-1.5")
        assert model is not None
        for offer in model.offers:
            offer.book.billing.output.rows.clear()  # type: ignore[attr-defined, union-attr]
        answer = await running.generate()
        metrics = await running.metrics()

    assert (400, "unpriced") == (answer.status_code, answer.json()["error"]["code"])
    assert 1 == metrics['gateway_price_miss_total{model="gpt-image-1.5"}']
