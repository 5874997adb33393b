"""What the admin API tells of all teams, on a served gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.support.gateway import ENVIRON, Running, running_gateway

ADMIN_KEY = "Zk3vQ9-pW7xT2mN8bR5cY1dL"
PROMPT = "a fox nobody must read of"


class Api:
    """The admin API of a gateway, its answers held against its own document."""

    def __init__(self, running: Running, client: httpx.AsyncClient, document: Any) -> None:
        self.running = running
        self._client = client
        self._document = document

    async def get(self, path: str, schema: str, **query: str) -> Any:
        """Return the body of an answer that is as described."""
        answer = await self._client.get(f"/admin/v1/{path}", params=query)
        assert answer.status_code == httpx.codes.OK, answer.text
        return self._checked(answer, schema)

    async def cancel(self, task: str) -> Any:
        """Return the task after its cancellation."""
        return self._checked(await self._client.post(f"/admin/v1/tasks/{task}/cancel"), "AdminTask")

    async def refusal(self, path: str, **query: str) -> tuple[int, str, str]:
        """Return status, code and param of a refusal."""
        answer = await self._client.get(f"/admin/v1/{path}", params=query)
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["param"]

    def _checked(self, answer: httpx.Response, schema: str) -> Any:
        body = answer.json()
        described = {"$ref": f"#/components/schemas/{schema}", **self._document}
        each = body["data"] if body["object"] == "list" else [body]
        for one in each:
            Draft202012Validator(described).validate(one)
        return body


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Serve a gateway that has an admin key."""
    monkeypatch.setitem(ENVIRON, "GATEWAY_ADMIN_KEY", ADMIN_KEY)
    async with (
        running_gateway(tmp_path) as running,
        httpx.AsyncClient(
            base_url=running.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30
        ) as client,
    ):
        yield Api(running, client, (await client.get("/openapi.json")).json())


async def test_operators_see_what_was_spent_ordered_and_left(api: Api) -> None:
    """By team and by model, with upstream ids, and with no word of what was drawn."""
    made = await api.running.generate(PROMPT)
    cost = made.headers["x-gateway-cost-usd"]
    usage = await api.get("usage", "AdminUsage", by="model", team="design")
    budgets = await api.get("budgets", "AdminBudget")
    listed = await api.get("tasks", "AdminTask", limit="1")
    [task] = listed["data"]
    shown = await api.get(f"tasks/{task['id']}", "AdminTask")
    cancelled = await api.cancel(task["id"])

    assert [("gpt-image-1.5", cost)] == [
        (group["name"], group["cost"]["usd"]) for group in usage["groups"]
    ]
    assert {"design"} == {budget["team"] for budget in budgets["data"]}
    assert budgets == await api.get("budgets", "AdminBudget", team="design")
    assert made.headers["x-gateway-task-id"] == task["id"]
    assert ("design", "completed", cost) == (task["team"], task["status"], task["cost_usd"])
    assert task["renders"][0]["upstream_id"].startswith("task-unified-")
    assert [task["id"]] * 2 == [shown["id"], cancelled["id"]]
    assert PROMPT not in f"{listed}{shown}{cancelled}"


async def test_what_is_refused(api: Api) -> None:
    """In OpenAI's envelope: teams and tasks there are not, and questions that are none."""
    assert (404, "not_found", None) == await api.refusal("usage", team="nope")
    assert (404, "not_found", None) == await api.refusal("budgets", team="nope")
    assert (404, "not_found", None) == await api.refusal("tasks", team="nope")
    assert (404, "task_not_found", "id") == await api.refusal("tasks/imgtask_1")
    assert (400, "invalid_value", "by") == await api.refusal("usage", by="colour")
    assert (400, "invalid_value", "since") == await api.refusal("usage", since="yesterday")
    assert (400, "invalid_value", "limit") == await api.refusal("tasks", limit="0")


@pytest.mark.parametrize("path", ["usage", "budgets", "tasks", "tasks/imgtask_1"])
async def test_a_teams_key_opens_none_of_it(api: Api, path: str) -> None:
    """Other teams' spending is nobody's business."""
    answer = await api.running.client.get(f"/admin/v1/{path}")

    assert (401, "invalid_api_key") == (answer.status_code, answer.json()["error"]["code"])
