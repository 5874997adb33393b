"""Money that was spent on pictures nobody has is seen, until somebody fetches them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway

SLOW = SimulatorSettings(latency_median_s=1.5, latency_sigma=0.0, seed=7)


async def undelivered(running: Running) -> float:
    """Return the team's gauge, in micro-dollars, as a scrape tells it now."""
    await running.gateway.shelf.flush()
    await running.gateway.snapshot.take()
    metrics = await running.metrics()
    return round(metrics['gateway_paid_undelivered_usd{team="design"}'] * 1_000_000)


async def until_settled(running: Running, *, above: int = 0) -> int:
    """Return what was spent, once it is more than that and nothing is held any more."""
    async with asyncio.timeout(20):
        while True:
            spent, held = await running.budget()
            if spent > above and not held:
                return spent
            await asyncio.sleep(0.05)


async def until_linked(running: Running, task: str, count: int) -> list[str]:
    """Return the links to a task's pictures, once all are there."""
    async with asyncio.timeout(20):
        while True:
            answer = await running.client.get(f"/v1/images/tasks/{task}?data=links")
            links = [picture["url"] for picture in answer.json()["data"]]
            if len(links) == count:
                return links
            await asyncio.sleep(0.05)


async def until_fetched(running: Running, task: str) -> None:
    """Ask for a task until its picture comes with it."""
    async with asyncio.timeout(20):
        while True:
            answer = await running.client.get(f"/v1/images/tasks/{task}")
            if answer.json()["data"]:
                return
            await asyncio.sleep(0.05)


async def test_a_picture_whose_client_hung_up_is_counted_until_its_retry(tmp_path: Path) -> None:
    """Nothing before it is paid, its price while nobody has it, nothing once it was delivered."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        await running.hang_up()
        before = await undelivered(running)
        spent = await until_settled(running)
        waiting = await undelivered(running)
        answer = await running.generate()

        assert (0, spent) == (before, waiting)
        assert "true" == answer.headers["x-gateway-joined"]
        assert 0 == await undelivered(running)
        assert 1 == (await running.simulated())["submits"]


async def test_an_asynchronous_picture_is_counted_until_it_is_fetched(tmp_path: Path) -> None:
    """To look at the task is not to fetch its picture."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        running.client.headers["prefer"] = "respond-async"
        task = (await running.generate()).json()["id"]
        spent = await until_settled(running)
        await until_fetched(running, task)
        fetched = await undelivered(running)
        other = (await running.generate()).json()["id"]
        await until_settled(running, above=spent)
        await running.client.get(f"/v1/images/tasks/{other}?data=false")

        assert (0, spent) == (fetched, await undelivered(running))


async def test_a_picture_is_fetched_by_its_link(tmp_path: Path) -> None:
    """To ask for the link, for the headers or for a part is not to have the picture."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        running.client.headers["prefer"] = "respond-async"
        task = (await running.generate(n=2)).json()["id"]
        spent = await until_settled(running)
        first, second = await until_linked(running, task, 2)
        await running.client.head(first)
        await running.client.get(first, headers={"range": "bytes=0-99"})
        looked = await undelivered(running)
        await running.client.get(first)
        one = await undelivered(running)
        await running.client.get(second, headers={"range": "bytes=100-"})

        assert (spent, spent // 2, 0) == (looked, one, await undelivered(running))


async def test_a_picture_that_is_delivered_at_once_is_never_counted(tmp_path: Path) -> None:
    """What was answered as it was asked for is nobody's loss."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        await running.generate()

        assert 0 == await undelivered(running)


async def test_the_age_of_the_oldest_task_is_shown(tmp_path: Path) -> None:
    """It grows while a picture is made, and is zero when nothing runs."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        idle = (await running.metrics())["gateway_task_age_seconds_max"]
        async with asyncio.TaskGroup() as group:
            call = group.create_task(running.generate())
            age_s = 0.0
            while not call.done():
                age_s = max(age_s, (await running.metrics())["gateway_task_age_seconds_max"])
                await asyncio.sleep(0.1)
        after = (await running.metrics())["gateway_task_age_seconds_max"]

        assert 0.3 <= age_s <= 60
        assert (0, 0) == (idle, after)
