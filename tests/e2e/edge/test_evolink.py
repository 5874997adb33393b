"""EvoLink's own surface over HTTP: a client of theirs, with nothing changed but its base URL."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from PIL import Image

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import OTHER_KEY, TEAM_KEY, Running, running_gateway

#: A low square at 68 credits for a dollar: 0.007852 dollars, as the books have it.
CREDITS = 0.533936

ID = re.compile(r"task-unified-[0-9]{10}-[0-9a-z]{25}")


class EvolinkClient:
    """Does what their clients do (protocols/evolink.md §15): create, poll, download."""

    def __init__(self, base_url: str, key: str = TEAM_KEY) -> None:
        self.base_url = base_url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """Make one call."""
        headers = self._headers | options.pop("headers", {})  # type: ignore[operator]
        async with httpx.AsyncClient(timeout=30) as client:
            return await client.request(
                method, f"{self.base_url}{path}", headers=headers, **options
            )

    async def create(self, *, headers: dict[str, str] | None = None, **fields: object) -> dict:
        """Ask for a low square and return the answer, which must be 200."""
        body = {
            "model": "gpt-image-1.5",
            "prompt": "a small red fox",
            "size": "1:1",
            "quality": "low",
        }
        answer = await self.ask(
            "POST", "/v1/images/generations", json=body | fields, headers=headers or {}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def finished(self, task: str) -> dict:
        """Poll a task until it is over, and return every answer's status on the way."""
        async with asyncio.timeout(15):
            while True:
                answer = await self.ask("GET", f"/v1/tasks/{task}")
                assert answer.status_code == 200, answer.text
                if answer.json()["status"] in ("completed", "failed"):
                    return answer.json()
                await asyncio.sleep(0.1)


def client_of(running: Running, key: str = TEAM_KEY) -> EvolinkClient:
    """Return a client of theirs with its base URL changed."""
    return EvolinkClient(f"{running.url}/evolink", key)


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and type of a refusal."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["type"]


async def downloaded(link: str) -> bytes:
    """Fetch a result as their clients do: without any key."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(link)
    assert answer.status_code == 200
    return answer.content


async def test_a_client_creates_polls_and_downloads(tmp_path: Path) -> None:
    """All three steps have EvoLink's shapes, and what was billed is what our books say."""
    slow = SimulatorSettings(latency_median_s=1.5, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=slow) as running:
        client = client_of(running)
        created = await client.create(size="2:3")
        await running.until_submitted()
        making = (await client.ask("GET", f"/v1/tasks/{created['id']}")).json()
        done = await client.finished(created["id"])
        picture = Image.open(io.BytesIO(await downloaded(done["results"][0])))
        spent, held = await running.budget()

    assert ID.fullmatch(created["id"])
    assert ("image.generation.task", "gpt-image-1.5", "image") == (
        created["object"],
        created["model"],
        created["type"],
    )
    assert created["id"].split("-")[2] == str(created["created"])
    assert created["status"] in ("pending", "processing")
    assert {"can_cancel": True, "estimated_time": 9} == created["task_info"]
    assert ("per_call", "default") == (
        created["usage"]["billing_rule"],
        created["usage"]["user_group"],
    )
    assert created["usage"]["credits_reserved"] > done["usage"]["credits_used"]
    assert list(created) == sorted(created)
    assert "processing" == making["status"]
    assert 0 < making["progress"] < 100
    assert ("completed", 100, {"can_cancel": False}) == (
        done["status"],
        done["progress"],
        done["task_info"],
    )
    assert done["result_data"] == [{"url": done["results"][0]}]
    assert done["duration"] in (1, 2, 3)
    assert (1024, 1536) == picture.size
    assert (408, 0) == (done["usage"]["image_output_tokens"], done["usage"]["image_input_tokens"])
    assert done["usage"]["total_tokens"] == 408 + done["usage"]["text_input_tokens"]
    assert round(done["usage"]["credits_used"] * 1_000_000 / 68) == spent
    assert 0 == held


async def test_several_pictures_are_several_links(tmp_path: Path) -> None:
    """Of `n` pictures each has its link, and each link its picture."""
    async with running_gateway(tmp_path) as running:
        client = client_of(running)
        done = await client.finished((await client.create(n=3))["id"])
        pictures = [await downloaded(link) for link in done["results"]]

    assert 3 == len(set(done["results"])) == len(set(pictures))
    assert round(3 * CREDITS, 6) == done["usage"]["credits_used"]


async def test_links_stay_the_same_and_end_like_files(tmp_path: Path) -> None:
    """Whoever polls again is told the same links; clients take a file's ending from them."""
    async with running_gateway(tmp_path) as running:
        client = client_of(running)
        done = await client.finished((await client.create())["id"])
        again = await client.finished(done["id"])
        link = urlsplit(done["results"][0])

    assert done["results"] == again["results"]
    assert running.url == f"{link.scheme}://{link.netloc}"
    assert ".png" == Path(link.path).suffix


async def test_links_begin_with_the_public_address(tmp_path: Path) -> None:
    """Where the server is told how others reach it, links say that."""
    public = 'public_url = "https://pictures.example.com/"'
    async with running_gateway(tmp_path, server=public) as running:
        client = client_of(running)
        done = await client.finished((await client.create())["id"])

    assert done["results"][0].startswith("https://pictures.example.com/v1/assets/")


async def test_a_task_is_one_whatever_surface_shows_it(tmp_path: Path) -> None:
    """The id in EvoLink's form is our own id: nothing is kept beside the task."""
    async with running_gateway(tmp_path) as running:
        client = client_of(running)
        answer = await client.ask(
            "POST", "/v1/images/generations", json={"model": "gpt-image-1.5", "prompt": "a fox"}
        )
        await client.finished(answer.json()["id"])
        ours = await running.client.get(
            f"/v1/images/tasks/{answer.headers['x-gateway-task-id']}?data=false"
        )
        listed = (await client.ask("GET", "/v1/tasks")).json()
        record = f"{{t:design}}:task:{answer.headers['x-gateway-task-id']}"
        detached = await running.gateway.store.command("HGET", record, "detached")
        wrong_seconds = re.sub("-[0-9]{10}-", "-1234567890-", answer.json()["id"])
        never = await client.ask("GET", f"/v1/tasks/{wrong_seconds}")

    assert "completed" == ours.json()["status"]
    assert b"1" == detached
    assert [answer.json()["id"]] == [task["id"] for task in listed["data"]]
    assert (404, "task_not_found", "invalid_request_error") == error_of(never)


async def test_the_same_key_is_the_same_task(tmp_path: Path) -> None:
    """A repeated create says that it was answered before; with another body it is a conflict."""
    async with running_gateway(tmp_path) as running:
        client = client_of(running)
        body = {"model": "gpt-image-1.5", "prompt": "a fox", "quality": "low"}
        key = {"Idempotency-Key": f"run_{'0' * 32}"}
        answers = [
            await client.ask("POST", "/v1/images/generations", json=body, headers=key)
            for _ in range(2)
        ]
        other = await client.ask(
            "POST", "/v1/images/generations", json=body | {"n": 2}, headers=key
        )
        await client.finished(answers[0].json()["id"])
        submits = (await running.simulated())["submits"]

    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert [None, "true"] == [answer.headers.get("idempotency-replayed") for answer in answers]
    assert (409, "idempotency_conflict", "invalid_request_error") == error_of(other)
    assert 1 == submits


async def test_without_a_key_every_create_is_a_task_of_its_own(tmp_path: Path) -> None:
    """Two equal creates are two pictures, as at EvoLink."""
    async with running_gateway(tmp_path) as running:
        client = client_of(running)
        ids = [(await client.create())["id"] for _ in range(2)]
        for task in ids:
            await client.finished(task)

        assert 2 == len(set(ids)) == (await running.simulated())["submits"]


#: Bodies that are refused: with which status and code, and about which field.
REFUSED: list[tuple[dict[str, object], int, str, str]] = [
    ({}, 400, "invalid_request", "model"),
    ({"model": "dall-e-9", "prompt": "x"}, 404, "model_not_found", "model"),
    ({"model": "gpt-image-1.5"}, 400, "invalid_request", "prompt"),
    ({"model": "gpt-image-1.5", "prompt": "x", "n": 11}, 400, "invalid_request", "n"),
    ({"model": "gpt-image-1.5", "prompt": "x", "size": "16:9"}, 400, "invalid_request", "size"),
    (
        {"model": "gpt-image-1.5", "prompt": "x", "image_urls": ["ftp://x.example/a.png"]},
        *(400, "invalid_request", "image_urls[0]"),
    ),
    (
        {"model": "gpt-image-1.5", "prompt": "x", "image_urls": ["https://x.example/a"] * 17},
        *(400, "invalid_request", "image_urls"),
    ),
]


async def test_bad_parameters_are_refused_in_its_envelope(tmp_path: Path) -> None:
    """Code, type and param are EvoLink's, the status its own, and nothing was submitted."""
    async with running_gateway(tmp_path) as running:
        for fields, status, code, param in REFUSED:
            answer = await client_of(running).ask("POST", "/v1/images/generations", json=fields)
            assert (status, code, "invalid_request_error") == error_of(answer)
            assert param == answer.json()["error"]["param"]
        submits = (await running.simulated())["submits"]

    assert 0 == submits


async def test_keys_models_and_tasks_of_others(tmp_path: Path) -> None:
    """An unknown key is 401 on every route, a model of others 403, a task of others 404."""
    routes = [
        ("POST", "/v1/images/generations"),
        ("GET", "/v1/tasks/task-unified-1757156493-imcg5zqt"),
        ("GET", "/v1/tasks"),
        ("POST", "/v1/tasks/batch"),
        ("GET", "/v1/credits"),
    ]
    async with running_gateway(tmp_path) as running:
        stranger = client_of(running, "sk-wrong-0123456789abcdef")
        refused = [await stranger.ask(*route) for route in routes]
        mine = (await client_of(running).create())["id"]
        other = client_of(running, OTHER_KEY)
        model = await other.ask(
            "POST", "/v1/images/generations", json={"model": "gpt-image-1.5", "prompt": "x"}
        )
        foreign = await other.ask("GET", f"/v1/tasks/{mine}")
        malformed = await other.ask("GET", "/v1/tasks/imgtask_0")
        await client_of(running).finished(mine)

    assert {(401, "unauthorized", "authentication_error")} == set(map(error_of, refused))
    assert (403, "model_access_denied", "invalid_request_error") == error_of(model)
    assert (404, "task_not_found", "invalid_request_error") == error_of(foreign)
    assert (400, "invalid_task_id", "invalid_request_error") == error_of(malformed)


async def test_a_budget_that_is_used_up(tmp_path: Path) -> None:
    """There is no credit left: 402 with what the call would have taken and what is there."""
    async with running_gateway(tmp_path, budget="0.001") as running:
        answer = await client_of(running).ask(
            "POST", "/v1/images/generations", json={"model": "gpt-image-1.5", "prompt": "x"}
        )
        submits = (await running.simulated())["submits"]

    assert (402, "insufficient_quota", "insufficient_quota") == error_of(answer)
    assert 0.068 == answer.json()["error"]["account_balance_credits"]
    assert answer.json()["error"]["estimated_credits"] > 0.068
    assert 0 == submits


async def test_a_call_too_many(tmp_path: Path) -> None:
    """Too much at once is 429 with the time to wait, and other calls of the team go on."""
    limits = "limits = { requests_per_minute = 1 }"
    async with running_gateway(tmp_path, team=limits) as running:
        client = client_of(running)
        first = (await client.create())["id"]
        answer = await client.ask(
            "POST", "/v1/images/generations", json={"model": "gpt-image-1.5", "prompt": "x"}
        )
        done = await client.finished(first)

    assert (429, "rate_limit_exceeded", "rate_limit_error") == error_of(answer)
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert "completed" == done["status"]


async def test_a_failed_task_says_why(tmp_path: Path) -> None:
    """The read is 200, the body says failed with EvoLink's code, and nothing was charged."""
    async with running_gateway(tmp_path) as running:
        client = client_of(running)
        task = await client.create(prompt="[[fail:content_policy_violation]]")
        done = await client.finished(task["id"])
        spent = await running.budget()

    assert ("failed", 0) == (done["status"], done["progress"])
    assert done["error"] == {
        "code": "content_policy_violation",
        "message": "Your request was rejected by the safety system.",
        "type": "task_error",
    }
    assert "results" not in done
    assert "usage" not in done
    assert (0, 0) == spent


async def test_lists_and_batches(tmp_path: Path) -> None:
    """The list has the newest first, in pages and by status; a batch has those that exist."""
    async with running_gateway(tmp_path) as running:
        client = client_of(running)
        good = await client.finished((await client.create())["id"])
        bad = await client.finished((await client.create(prompt="[[fail:service_error]]"))["id"])
        await running.gateway.shelf.flush()  # what is stored would be noted a second later
        everything = (await client.ask("GET", "/v1/tasks?page_size=1")).json()
        rest = (await client.ask("GET", "/v1/tasks?page_size=1&page=2")).json()
        completed = (await client.ask("GET", "/v1/tasks?status=completed&type=image")).json()
        videos = (await client.ask("GET", "/v1/tasks?type=video")).json()
        wrong = await client.ask("GET", "/v1/tasks?page_size=51")
        ids = [good["id"], bad["id"], "task-unified-1757156493-imcg5zqt", "nothing"]
        batch = (await client.ask("POST", "/v1/tasks/batch", json={"task_ids": ids})).json()

    assert ("list", 2, 1, 1) == tuple(
        everything[name] for name in ("object", "total", "page", "page_size")
    )
    assert [bad["id"]] == [task["id"] for task in everything["data"]]
    assert [good["id"]] == [task["id"] for task in rest["data"]]
    [line] = completed["data"]
    assert (good["id"], 1, True, False, CREDITS) == (
        line["id"],
        line["result_count"],
        line["has_results"],
        line["has_error"],
        line["credits_used"],
    )
    assert "results" not in line
    assert (0, []) == (videos["total"], videos["data"])
    assert (400, "invalid_request", "invalid_request_error") == error_of(wrong)
    assert 200 == batch["code"]
    assert [good, bad] == batch["data"]


async def test_credits_are_the_budget(tmp_path: Path) -> None:
    """What the team's budget leaves is its balance; a key without a budget is unlimited."""
    async with running_gateway(tmp_path) as running:
        client = client_of(running)
        await client.finished((await client.create())["id"])
        answer = (await client.ask("GET", "/v1/credits")).json()

    assert answer == {
        "data": {
            "token": {
                "remaining_credits": 99999.9999,
                "unlimited_credits": True,
                "used_credits": CREDITS,
            },
            "user": {"remaining_credits": 340 - CREDITS, "used_credits": CREDITS},
        },
        "message": "",
        "success": True,
    }


async def test_credits_of_a_key_with_a_budget(tmp_path: Path) -> None:
    """A key's own budget is its own balance, and its refusal names the key."""
    key = 'budgets = [{ usd = 0.01, per = "day" }]'
    async with running_gateway(tmp_path, key=key) as running:
        client = client_of(running)
        answer = (await client.ask("GET", "/v1/credits")).json()
        refused = await client.ask(
            "POST", "/v1/images/generations", json={"model": "gpt-image-1.5", "prompt": "x"}
        )

    assert {"remaining_credits": 0.68, "unlimited_credits": False, "used_credits": 0} == (
        answer["data"]["token"]
    )
    assert (402, "token_daily_quota_exceeded", "insufficient_quota") == error_of(refused)
    assert ("ci", 0.68) == (
        refused.json()["error"]["key_name"],
        refused.json()["error"]["daily_limit_credits"],
    )


async def test_what_does_not_exist_is_told_in_its_envelope(tmp_path: Path) -> None:
    """Unknown routes, wrong methods and large bodies below /evolink speak EvoLink, too."""
    async with running_gateway(tmp_path, server='max_body = "1KiB"') as running:
        client = client_of(running)
        nowhere = await client.ask("GET", "/v1/videos")
        method = await client.ask("GET", "/v1/images/generations")
        large = await client.ask("POST", "/v1/images/generations", content=b"x" * 2000)
        not_json = await client.ask("POST", "/v1/images/generations", content=b"<html>")

    assert (404, "resource_not_found", "invalid_request_error") == error_of(nowhere)
    assert "set base_url" not in nowhere.text
    assert (405, "method_not_allowed", "invalid_request_error") == error_of(method)
    assert (413, "request_too_large", "request_too_large_error") == error_of(large)
    assert (400, "invalid_request", "invalid_request_error") == error_of(not_json)


async def test_a_gateway_that_stops_takes_no_more(tmp_path: Path) -> None:
    """While the server drains, creates are told to come again, and running tasks are shown."""
    slow = SimulatorSettings(latency_median_s=3.0, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=slow, drain="30s") as running:
        client = client_of(running)
        waiting = asyncio.get_running_loop().create_task(running.generate())
        await running.until_submitted()
        running.stop.set()
        await asyncio.sleep(0.1)
        refused = await client.ask(
            "POST", "/v1/images/generations", json={"model": "gpt-image-1.5", "prompt": "x"}
        )
        await waiting

    assert (503, "service_unavailable", "service_unavailable_error") == error_of(refused)
    assert "2" == refused.headers["retry-after"]
