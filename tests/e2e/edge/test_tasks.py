"""Tasks over HTTP: started without waiting, shown, listed, cancelled, fetched."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import httpx

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import OTHER_KEY, Running, running_gateway

COST = "0.007852"


async def started(running: Running, **fields: object) -> httpx.Response:
    """Ask for a picture without waiting for it."""
    running.client.headers["prefer"] = "respond-async"
    try:
        return await running.generate(**fields)
    finally:
        del running.client.headers["prefer"]


async def ended(running: Running, task: str) -> dict[str, object]:
    """Return a task once nothing more will come of it."""
    async with asyncio.timeout(15):
        while True:
            answer = await running.client.get(f"/v1/images/tasks/{task}", params={"data": "false"})
            body: dict[str, object] = answer.json()
            if body["status"] not in ("queued", "in_progress"):
                return body
            await asyncio.sleep(0.05)


async def test_a_picture_may_be_ordered_now_and_fetched_later(tmp_path: Path) -> None:
    """The call is answered at once with its task; the task has the picture when it is there."""
    async with running_gateway(tmp_path) as running:
        accepted = await started(running)
        task = accepted.json()
        assert 202 == accepted.status_code
        assert f"/v1/images/tasks/{task['id']}" == accepted.headers["location"]
        assert "respond-async" == accepted.headers["preference-applied"]
        assert task["status"] in ("queued", "in_progress")

        done = await ended(running, task["id"])
        fetched = (await running.client.get(accepted.headers["location"])).json()

        assert ("completed", COST) == (done["status"], done["cost_usd"])
        picture = base64.b64decode(fetched["data"][0]["b64_json"])
        assert picture.startswith(b"\x89PNG")
        assert 1 == (await running.simulated())["submits"]


async def test_identical_tasks_without_a_waiter_are_never_joined(tmp_path: Path) -> None:
    """Whoever orders twice without waiting gets two pictures."""
    async with running_gateway(tmp_path) as running:
        tasks = [(await started(running)).json()["id"] for _ in range(2)]
        for task in tasks:
            await ended(running, task)
        waited_for = await running.generate()

        assert len(set(tasks)) == 2
        assert "x-gateway-joined" not in waited_for.headers
        assert 3 == (await running.simulated())["submits"]


async def test_the_list_begins_with_the_newest_and_goes_on_after_the_last(tmp_path: Path) -> None:
    """Two pages of one task each, the newest first; every task says what it cost."""
    async with running_gateway(tmp_path) as running:
        first = (await started(running)).json()["id"]
        await ended(running, first)
        second = (await started(running)).json()["id"]
        await ended(running, second)
        page = (await running.client.get("/v1/images/tasks?limit=1")).json()
        rest = (await running.client.get(f"/v1/images/tasks?after={page['last_id']}")).json()
        wrong = await running.client.get("/v1/images/tasks?limit=0")

        assert [second] == [task["id"] for task in page["data"]]
        assert page["has_more"]
        assert [(first, COST)] == [(task["id"], task["cost_usd"]) for task in rest["data"]]
        assert (400, "limit") == (wrong.status_code, wrong.json()["error"]["param"])


async def test_a_task_that_was_submitted_cannot_be_taken_back(tmp_path: Path) -> None:
    """Cancelling a picture that is being made changes nothing: it may be charged."""
    slow = SimulatorSettings(latency_median_s=1.0, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=slow) as running:
        task = (await started(running)).json()["id"]
        async with asyncio.timeout(60):
            while (await running.simulated())["submits"] == 0:  # noqa: ASYNC110 - the upstream is another program
                await asyncio.sleep(0.01)
        cancelled = await running.client.post(f"/v1/images/tasks/{task}/cancel")
        done = await ended(running, task)

        assert (200, "in_progress") == (cancelled.status_code, cancelled.json()["status"])
        assert ("completed", COST) == (done["status"], done["cost_usd"])


async def test_another_teams_task_is_not_there(tmp_path: Path) -> None:
    """Show and cancel say 404 to another team, and to everybody for a task that never was."""
    async with running_gateway(tmp_path) as running:
        task = (await started(running)).json()["id"]
        other = {"Authorization": f"Bearer {OTHER_KEY}"}
        shown = await running.client.get(f"/v1/images/tasks/{task}", headers=other)
        cancelled = await running.client.post(f"/v1/images/tasks/{task}/cancel", headers=other)
        never = await running.client.get("/v1/images/tasks/imgtask_0")

        assert [404, 404, 404] == [shown.status_code, cancelled.status_code, never.status_code]
        assert "task_not_found" == never.json()["error"]["code"]
        await ended(running, task)


async def test_a_failed_task_says_why(tmp_path: Path) -> None:
    """The task of a blocked picture has the error, and cost nothing."""
    async with running_gateway(tmp_path) as running:
        body = {"prompt": "[[fail:content_policy_violation]]"}
        task = (await started(running, **body)).json()["id"]
        done = await ended(running, task)

        assert ("failed", "0.00") == (done["status"], done["cost_usd"])
        assert done["error"] == {
            "message": "Your request was rejected by the safety system.",
            "code": "moderation",
        }
