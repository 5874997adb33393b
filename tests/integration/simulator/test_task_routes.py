from typing import Any

import httpx
import pytest

from gateway.simulator.rules import Rule
from gateway.simulator.settings import Shape, SimulatorSettings


def poll(simulator: Any, task_id: str) -> httpx.Response:
    """Ask for one task."""
    answer: httpx.Response = simulator.client.get(f"/v1/tasks/{task_id}")
    return answer


@pytest.mark.parametrize(
    ("marker", "status", "text"),
    [
        ("[[poll:html*2]]", 502, "<html>"),
        ("[[poll:text*2]]", 503, "upstream connect error"),
        ("[[poll:empty*2]]", 200, ""),
        ("[[poll:truncated*2]]", 200, '{"created":'),
        ("[[poll:unsuccessful*2]]", 200, '{"code":500'),
        ("[[poll:no-id*2]]", 200, '{"created":'),
        ("[[poll:slow:0.1*2]]", 200, '{"created":'),
        ("[[poll:late:0.1*2]]", 200, '{"created":'),
        ("[[poll:unauthorized*2]]", 401, '{"error":{"code":"unauthorized"'),
        ("[[poll:quota_exceeded*2]]", 402, '{"error":{"code":"quota_exceeded"'),
        ("[[poll:permission_denied*2]]", 403, '{"error":{"code":"permission_denied"'),
        ("[[poll:task_not_found*2]]", 404, '{"error":{"code":"task_not_found"'),
        ("[[poll:task_expired*2]]", 410, '{"error":{"code":"task_expired"'),
        ("[[poll:resource_exhausted*2]]", 429, '{"error":{"code":429'),
        ("[[poll:internal_error*2]]", 500, '{"error":{"code":"internal_error"'),
        ("[[poll:upstream_error*2]]", 502, '{"error":{"code":"upstream_error"'),
        ("[[poll:service_unavailable*2]]", 503, '{"error":{"code":"service_unavailable"'),
    ],
)
def test_bad_polls(simulator: Any, marker: str, status: int, text: str) -> None:
    """The first two polls of the task are answered badly, the third is not."""
    task_id = simulator.submit(f"a fox {marker}").json()["id"]
    answers = [poll(simulator, task_id) for _ in range(3)]

    for answer in answers[:2]:
        assert (answer.status_code, answer.text[: len(text)]) == (status, text)
    assert answers[2].json()["id"] == task_id


def test_rate_limited_poll(simulator: Any) -> None:
    """A poll's 429 has a type of its own, and says when to come again."""
    task_id = simulator.submit("a fox [[poll:rate_limit_exceeded]][[retry-after:3]]").json()["id"]
    answer = poll(simulator, task_id)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.json()["error"]["type"] == "evo_api_error"


@pytest.mark.parametrize("manner", ["drop", "cut"])
def test_broken_poll(simulator: Any, manner: str) -> None:
    """A poll's connection may break."""
    task_id = simulator.submit(f"a fox [[poll:{manner}*1]]").json()["id"]
    with pytest.raises(httpx.RemoteProtocolError):
        poll(simulator, task_id)

    assert poll(simulator, task_id).status_code == 200


@pytest.mark.parametrize(("marker", "status"), [("404", 404), ("410", 410)])
def test_expired_with_its_result(simulator: Any, marker: str, status: int) -> None:
    """A task may be unreadable from the moment it ends."""
    task_id = simulator.submit(f"a fox [[expired:{marker}]]").json()["id"]
    early = poll(simulator, task_id).status_code
    simulator.skipped_s = 60

    assert (early, poll(simulator, task_id).status_code) == (200, status)


@pytest.mark.parametrize(("status", "code"), [(404, "task_not_found"), (410, "task_expired")])
def test_expired_by_age(start_simulator: Any, status: int, code: str) -> None:
    """A task that was kept long enough is gone; a task that never was is 404."""
    simulator = start_simulator(SimulatorSettings(keep_s=100, expired_status=status))
    task_id = simulator.finish()["id"]
    simulator.skipped_s += 200
    answer = poll(simulator, task_id)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert poll(simulator, "task-unified-1-aaaaaaaa").status_code == 404


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_stuck_for_ever(simulator: Any, status: str) -> None:
    """Some tasks never end, and hold their price."""
    task_id = simulator.submit(f"a fox [[stuck:{status}]]").json()["id"]
    simulator.skipped_s = 80_000

    assert poll(simulator, task_id).json()["status"] == status
    assert simulator.stats()["in_flight"] == 1


@pytest.mark.parametrize(
    ("marker", "progress"), [("rising", [0, 50]), ("falling", [99, 49]), ("absent", [None, None])]
)
def test_progress(simulator: Any, marker: str, progress: list[int | None]) -> None:
    """Progress may fall, or not be told."""
    task_id = simulator.submit(f"a fox [[latency:100]] [[progress:{marker}]]").json()["id"]
    told = []
    for simulator.skipped_s in (0, 50):
        told.append(poll(simulator, task_id).json().get("progress"))

    assert told == progress


@pytest.mark.parametrize(
    ("form", "error"),
    [
        (
            "object",
            {"code": "service_error", "message": "nobody is home", "type": "task_error"},
        ),
        ("text", "nobody is home"),
        ("null", None),
        ("integer", {"code": 500, "message": "nobody is home", "type": "task_error"}),
        (
            "suggestion",
            {
                "code": "service_error",
                "message": "nobody is home",
                "suggestion": "try again later",
                "type": "task_error",
            },
        ),
    ],
)
def test_forms_of_a_failure(simulator: Any, form: str, error: Any) -> None:
    """The error of a failed task comes in several forms, and with any text."""
    task = simulator.finish(
        f"a fox [[fail:service_error]][[message:nobody is home]][[error:{form}]]"
    )

    assert (task["status"], task["error"]) == ("failed", error)
    assert task["progress"] == (100 if form == "suggestion" else 0)


def test_batch(simulator: Any) -> None:
    """Known tasks come whole and in order; unknown ones are just absent."""
    first, second = (simulator.submit().json()["id"] for _ in range(2))
    simulator.skipped_s = 60
    ids = [second, "task-unified-1-aaaaaaaa", first]
    answer = simulator.client.post("/v1/tasks/batch", json={"task_ids": ids})

    assert answer.json() == {
        "code": 200,
        "data": [poll(simulator, second).json(), poll(simulator, first).json()],
    }
    assert simulator.stats()["polls"] == 2


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"task_ids":[]}', b'{"task_ids":["a"' + b',"a"' * 50 + b"]}"]
)
def test_odd_batches(simulator: Any, content: bytes) -> None:
    """A batch is one to fifty ids."""
    assert simulator.client.post("/v1/tasks/batch", content=content).status_code == 400


def test_list(simulator: Any) -> None:
    """The newest first, by pages, without links."""
    ids = [simulator.submit(f"a fox {marker}").json()["id"] for marker in ("", "[[images:2]]")]
    ids.append(simulator.submit("a fox [[fail:service_error]]", model="gpt-image-1").json()["id"])
    ids.append(simulator.submit("a fox [[latency:1000]]").json()["id"])
    simulator.skipped_s = 60
    body = simulator.client.get("/v1/tasks").json()
    rows = {row["id"]: row for row in body["data"]}

    assert [row["id"] for row in body["data"]] == ids[::-1]
    assert (body["object"], body["total"], body["page"], body["page_size"]) == ("list", 4, 1, 20)
    assert rows[ids[1]] == {
        "created_at": rows[ids[1]]["created_at"],
        "credits_used": 1.0659816,
        "duration": 8,
        "has_error": False,
        "has_results": True,
        "id": ids[1],
        "model": "gpt-image-1.5",
        "progress": 100,
        "result_count": 2,
        "status": "completed",
        "type": "image",
    }
    assert (rows[ids[2]]["has_error"], rows[ids[2]]["credits_used"]) == (True, 0)
    assert "credits_used" not in rows[ids[3]]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("status=completed", [0]),
        ("status=failed", [1]),
        ("status=processing", [3, 2]),
        ("status=cancelled", []),
        ("type=image", [3, 2, 1, 0]),
        ("type=video", []),
        ("model=gpt-image-1", [1]),
        ("page=2&page_size=3", [0]),
        ("page=9", []),
    ],
)
def test_list_filters(simulator: Any, query: str, numbers: list[int]) -> None:
    """Filters narrow the list; queued tasks count as processing."""
    ids = [simulator.submit().json()["id"]]
    ids.append(simulator.submit("a fox [[fail:service_error]]", model="gpt-image-1").json()["id"])
    ids.append(simulator.submit("a fox [[latency:1000]]").json()["id"])
    ids.append(simulator.submit("a fox [[latency:100]]").json()["id"])
    simulator.skipped_s = 60
    body = simulator.client.get(f"/v1/tasks?{query}").json()

    assert [row["id"] for row in body["data"]] == [ids[number] for number in numbers]


def test_longest_page(simulator: Any) -> None:
    """A page has at most fifty tasks."""
    for _ in range(51):
        simulator.submit()
    body = simulator.client.get("/v1/tasks?page_size=100").json()

    assert (len(body["data"]), body["page_size"], body["total"]) == (50, 50, 51)


@pytest.mark.parametrize("query", ["page=0", "page_size=all"])
def test_odd_pages(simulator: Any, query: str) -> None:
    """Pages are counted from one."""
    assert simulator.client.get(f"/v1/tasks?{query}").status_code == 400


def test_rules_of_reading_routes(start_simulator: Any) -> None:
    """Each route counts its own requests."""
    rules = [
        Rule("poll", "[[poll:rate_limit_exceeded]][[retry-after:4]]", every=2),
        Rule("list", "[[list:html]]", first=1),
        Rule("batch", "[[batch:internal_error]][[envelope:integer]]", nth=frozenset({1})),
        Rule("credits", "[[credits:unsuccessful]]"),
    ]
    simulator = start_simulator(rules=rules)
    task_id = simulator.submit().json()["id"]
    polls = [poll(simulator, task_id) for _ in range(4)]
    lists = [simulator.client.get("/v1/tasks").status_code for _ in range(2)]
    batch = simulator.client.post("/v1/tasks/batch", json={"task_ids": [task_id]})
    account = simulator.client.get("/v1/credits")

    assert [answer.status_code for answer in polls] == [200, 429, 200, 429]
    assert polls[1].headers["retry-after"] == "4"
    assert lists == [502, 200]
    assert (batch.status_code, batch.json()["error"]["code"]) == (500, 500)
    assert (account.status_code, account.json()["success"]) == (200, False)


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/credits"])
def test_missing_key(simulator: Any, path: str) -> None:
    """Reading needs the key too."""
    assert httpx.get(simulator.url + path).status_code == 401
    assert httpx.post(simulator.url + "/v1/tasks/batch", json={}).status_code == 401


@pytest.mark.parametrize(
    ("shape", "fields"),
    [
        (Shape.BARE, {"id", "results", "status"}),
        (
            Shape.DOCS,
            {
                "created",
                "id",
                "model",
                "object",
                "progress",
                "results",
                "status",
                "task_info",
                "type",
            },
        ),
    ],
)
def test_shapes_through_settings(start_simulator: Any, shape: Shape, fields: set[str]) -> None:
    """Settings choose the shape of every task's body."""
    assert set(start_simulator(SimulatorSettings(shape=shape)).finish("a [[latency:1]]")) == fields
