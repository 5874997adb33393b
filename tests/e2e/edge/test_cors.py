"""A page of another origin, and a served gateway."""

from __future__ import annotations

from pathlib import Path

from tests.support.gateway import running_gateway

APP = "https://app.example.com"


async def test_a_page_may_call_and_read_even_a_refusal(tmp_path: Path) -> None:
    """The preflight needs no key; the refusal of a call without one can be read by the page."""
    async with running_gateway(tmp_path, server=f'cors_origins = ["{APP}"]') as running:
        asked = {"origin": APP, "access-control-request-method": "POST"}
        preflight = await running.client.options("/v1/images/generations", headers=asked)
        running.client.headers["authorization"] = "Bearer sk-wrong"
        refused = await running.client.post("/v1/images/generations", headers={"origin": APP})

    assert [200, 401] == [preflight.status_code, refused.status_code]
    for answer in (preflight, refused):
        assert APP == answer.headers["access-control-allow-origin"]
    assert "x-gateway-cost-usd" in refused.headers["access-control-expose-headers"]


async def test_no_page_may_unless_the_settings_say_so(tmp_path: Path) -> None:
    """By default a browser keeps the answer from the page."""
    async with running_gateway(tmp_path) as running:
        answer = await running.client.get("/v1/models", headers={"origin": APP})

    assert 200 == answer.status_code
    assert "access-control-allow-origin" not in answer.headers
