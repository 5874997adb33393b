"""Spending is announced by the running product, also of budgets that were made at run time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from gateway.service.budgets import Payment
from tests.support.gateway import ENVIRON, running_gateway
from tests.support.sockets import answer, raw_server

ALERTS = """
budgets = [{ usd = 0.011, per = "total", name = "trial", alert_at = [0.5] }]
[alerts]
webhook_url_env = "WEBHOOK"
"""
GROWTH = {"budgets": [{"usd": 3, "per": "month"}]}


async def test_spending_is_announced_and_run_time_teams_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Within a few seconds of the call; no log line holds the webhook's URL."""
    async with raw_server(answer()) as receiver:
        monkeypatch.setitem(ENVIRON, "WEBHOOK", f"{receiver.url}/s3cr3t")
        async with running_gateway(tmp_path, key=ALERTS) as running:
            await running.gateway.front.admin.set_team("growth", GROWTH, who="me")
            made = await running.generate()
            async with asyncio.timeout(30):
                await receiver.asked.wait()
            metrics = await running.metrics()
    [seen] = receiver.requests
    text = orjson.loads(seen.body)["text"]

    assert 200 == made.status_code
    assert text.startswith(
        "Team 'design': the 'trial' budget of key 'ci' has reached 50%:"
        f" ${made.headers['x-gateway-cost-usd']} of $0.011 (total) is spent (7"
    )
    assert (
        3.0
        == metrics['gateway_budget_limit_usd{name="month",per="month",scope="team",team="growth"}']
    )
    assert "s3cr3t" not in caplog.text


async def test_a_top_up_counts_at_once(tmp_path: Path) -> None:
    """A prepaid budget that refused a call takes it after it was paid into."""
    prepaid = 'budgets = [{ usd = 0.001, per = "total", name = "trial" }]'
    async with running_gateway(tmp_path, key=prepaid) as running:
        refused = await running.generate()
        [_, standing] = await running.gateway.front.budgets.of("design")
        paid = await running.gateway.front.budgets.pay(
            Payment("design", "ci", "trial", 1_000_000, "invoice 17", "me")
        )
        made = await running.generate()
        usage = (await running.client.get("/v1/usage")).json()
    trial = next(budget for budget in usage["budgets"] if budget["name"] == "trial")

    assert [429, 200] == [refused.status_code, made.status_code]
    assert (True, False) == (standing.refused, paid.standing.refused)
    assert ("1.001", "1.00") == (trial["limit"]["usd"], trial["topped_up"]["usd"])
