"""One picture from a stock SDK, followed through the money, the metrics and the upstream."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from PIL import Image

from tests.support.gateway import TEAM_KEY, Running, running_gateway


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Serve the product."""
    async with running_gateway(tmp_path) as served:
        yield served


async def test_stock_sdk_gets_a_picture_of_the_asked_size(running: Running) -> None:
    """The answer holds a PNG of the size that was asked for, and every field of OpenAI's."""
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key=TEAM_KEY) as client:
        answer = await client.images.generate(
            model="gpt-image-1.5", prompt="a small red fox", size="1024x1536", quality="low"
        )

    assert answer.data is not None
    picture = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json or "", validate=True)))
    assert ((1024, 1536), "PNG") == (picture.size, picture.format)
    assert ("opaque", "png", "low", "1024x1536") == (
        answer.background,
        answer.output_format,
        answer.quality,
        answer.size,
    )
    assert answer.usage is not None
    assert (4, 408, 412) == (
        answer.usage.input_tokens,
        answer.usage.output_tokens,
        answer.usage.total_tokens,
    )


async def test_books_metrics_and_upstream_agree_to_the_microdollar(running: Running) -> None:
    """272 image tokens at 28.8 and 4 text tokens at 4.5 are 7,852 µ$ wherever one looks."""
    response = await running.generate("a small red fox")

    assert 200 == response.status_code
    assert "0.007852" == response.headers["x-gateway-cost-usd"]
    assert "4.992148" == response.headers["x-gateway-budget-remaining-usd"]
    assert (7_852, 0) == await running.budget()
    metrics = await running.metrics()
    labels = 'model="gpt-image-1.5",provider="evolink",team="design"'
    image = metrics[f'gateway_cost_usd_total{{category="image_output",{labels}}}']
    text = metrics[f'gateway_cost_usd_total{{category="text_input",{labels}}}']
    assert (7_834, 18) == (round(image * 1e6), round(text * 1e6))
    simulated = await running.simulated()
    assert 7_852 == round(simulated["credits_used"] / 68 * 1e6)
    assert (1, 1) == (simulated["submits"], simulated["renders_completed"])
