"""What all teams spend together has a limit, too."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.gateway import running_gateway

SECTIONS = '[organization]\nbudgets = [{ usd = 0.03, per = "month" }]'


async def test_the_organizations_budget_is_never_exceeded(tmp_path: Path) -> None:
    """Three pictures fit one after the other; the fourth is refused, and names the organization."""
    async with running_gateway(tmp_path, sections=SECTIONS) as running:
        served = []
        for number in range(3):
            served.append(await running.generate(f"fox {number}"))
            await running.until_told()
        refused = await running.generate("one fox too many")
        spent, held = await running.budget()
        async with asyncio.timeout(60):
            name = (
                'gateway_budget_spent_usd{name="month",per="month",scope="organization",'
                'team="(organization)"}'
            )
            while (await running.metrics()).get(name) != spent / 1e6:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)

        assert [200, 200, 200] == [answer.status_code for answer in served]
        error = refused.json()["error"]
        assert (429, "insufficient_quota") == (refused.status_code, error["code"])
        assert "organization" in error["message"]
        assert (3, 0) == ((await running.simulated())["submits"], held)


async def test_a_retry_joins_also_when_nothing_is_left(tmp_path: Path) -> None:
    """What is paid for is handed out again, whatever the organization may still spend."""
    sections = '[organization]\nbudgets = [{ usd = 0.011, per = "month" }]'
    async with running_gateway(tmp_path, sections=sections) as running:
        first = await running.generate()
        await running.until_told()
        running.client.headers["x-stainless-retry-count"] = "1"
        again = await running.generate()
        other = await running.generate("another fox")

        assert (200, 200, 429) == (first.status_code, again.status_code, other.status_code)
        assert first.content == again.content


async def test_what_a_team_refuses_is_given_back(tmp_path: Path) -> None:
    """A call that its team cannot pay holds nothing of the organization's money."""
    async with running_gateway(tmp_path, sections=SECTIONS, budget="0.001") as running:
        refused = await running.generate()
        await running.until_told()

        assert 429 == refused.status_code
        assert "team's" in refused.json()["error"]["message"]
