import re
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from io import BytesIO
from typing import Any

import aiohttp
import httpx
import orjson
import pytest
from PIL import Image

from gateway.simulator.settings import Envelope, Shape, SimulatorSettings

UNAUTHORIZED = {"message": "Invalid or expired token", "type": "authentication_error"}
QUERY_UNAUTHORIZED = {"message": "Authentication required", "type": "authentication_error"}


def test_submit_is_answered_as_documented(simulator: Any) -> None:
    """A submit answers 200 at once with a pending task and sorted keys."""
    answer = simulator.submit()
    body = answer.json()

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert list(body) == sorted(body)
    assert re.fullmatch(r"task-unified-\d{10}-[a-z0-9]{8}", body["id"])
    assert (body["status"], body["progress"]) == ("pending", 0)
    assert body["usage"]["credits_reserved"] == 0.5332968


def test_a_render_from_submit_to_picture(simulator: Any) -> None:
    """Polling shows a task pending, processing and completed, with a real picture behind it."""
    task_id = simulator.submit(size="1024x1536").json()["id"]
    statuses = []
    for simulator.skipped_s in (0, 4, 9):
        body = simulator.client.get(f"/v1/tasks/{task_id}").json()
        statuses.append(body["status"])
    link = body["results"][0]
    picture = httpx.get(link)

    assert statuses == ["pending", "processing", "completed"]
    assert body["duration"] == 8
    assert re.fullmatch(
        rf"{simulator.url}/[A-Z0-9]{{18}}/images/\d{{4}}/\d\d/\d\d/[0-9a-f]{{32}}_0\.png", link
    )
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["content-length"] == str(len(picture.content))
    with Image.open(BytesIO(picture.content)) as image:
        assert (image.format, image.size) == ("PNG", (1024, 1536))


async def test_bare_aiohttp_reads_it_too(simulator: Any) -> None:
    """The answers are plain HTTP for any client."""
    headers = {"Authorization": "Bearer any-key"}
    body = {"model": "gpt-image-2", "prompt": "a fox", "size": "3:1", "quality": "low"}
    async with aiohttp.ClientSession(simulator.url, headers=headers) as session:
        async with session.post("/v1/images/generations", json=body) as answer:
            task_id = (await answer.json())["id"]
        simulator.skipped_s = 60
        async with session.get(f"/v1/tasks/{task_id}") as answer:
            task = await answer.json()
        async with session.get(task["results"][0], headers={"Authorization": ""}) as answer:
            content = await answer.read()

    assert task["usage"]["image_output_tokens"] == 62
    with Image.open(BytesIO(content)) as image:
        assert image.size == (1776, 592)


def test_several_pictures_of_one_task(simulator: Any) -> None:
    """With n=2 there are two links, two different pictures and twice the tokens."""
    task = simulator.finish(model="gpt-image-2", n=2, output_format="jpeg")
    first, second = (httpx.get(link) for link in task["results"])

    assert task["usage"]["image_output_tokens"] == 2 * 196
    assert (first.headers["content-type"], task["results"][1][-6:]) == ("image/jpeg", "_1.jpg")
    assert first.content != second.content


def test_markers_are_not_drawn(start_simulator: Any) -> None:
    """The picture of a prompt is the same with and without markers."""
    contents = []
    for prompt in ("a fox", "a fox [[shape:docs]]"):
        task = start_simulator().finish(prompt)
        contents.append(httpx.get(task["results"][0]).content)

    assert contents[0] == contents[1]


@pytest.mark.parametrize("shape", [Shape.LIVE, Shape.DOCS, Shape.COST, Shape.OBJECTS])
@pytest.mark.parametrize("by", ["marker", "settings"])
def test_completed_shapes(start_simulator: Any, shape: Shape, by: str) -> None:
    """Each shape can be chosen by the prompt or for all tasks."""
    if by == "marker":
        task = start_simulator().finish(f"a fox [[shape:{shape}]]")
    else:
        task = start_simulator(SimulatorSettings(shape=shape)).finish("a fox [[latency:1]]")
    usage = task.get("usage", {})

    assert (shape is Shape.DOCS) == (usage == {})
    assert (shape is Shape.COST) == ("cost" in usage)
    assert (shape is Shape.OBJECTS) == isinstance(task["results"][0], dict)


def test_usage_of_a_low_square(simulator: Any) -> None:
    """The literal totals of one low square: 272 image tokens are 0.5326848 credits."""
    task = simulator.finish("a red fox")

    assert task["usage"] == {
        "credits_used": 0.5336028,
        "image_cached_input_tokens": 0,
        "image_input_tokens": 0,
        "image_output_tokens": 272,
        "text_cached_input_tokens": 0,
        "text_input_tokens": 3,
        "total_tokens": 275,
    }
    assert Decimal("0.5336028") - 3 * Decimal("0.306") / 1000 == Decimal("0.5326848")


def test_books_agree_without_any_poll(simulator: Any) -> None:
    """Credits, stats and usages add up, though half of the renders were never polled."""
    polled = [simulator.finish(f"fox {number}") for number in range(3)]
    for number in range(3):
        simulator.submit(f"wolf {number}")
    simulator.submit("a fox [[fail:service_error]]")
    held = simulator.client.get("/v1/credits").json()["data"]["user"]
    simulator.skipped_s += 60
    for _ in range(2):
        stats = simulator.client.get("/_sim/stats").json()
    settled = simulator.client.get("/v1/credits").json()

    assert stats == {
        "callbacks_accepted": 0,
        "callbacks_given_up": 0,
        "callbacks_sent": 0,
        "callbacks_waiting": 0,
        # Six renders of 7843 micro-dollars, each rounded on its own.
        "cost_microusd": 47058,
        "credits_used": 3.1997808,
        "files": 0,
        "in_flight": 0,
        "max_in_flight": 4,
        "polls": 3,
        "rate_limited": 0,
        "references_read": 0,
        "renders_completed": 6,
        "replays": 0,
        "submits": 7,
        "submits_with_key": 0,
        "tasks": 7,
    }
    assert [task["usage"]["credits_used"] for task in polled] == [0.5332968] * 3
    assert held == {"remaining_credits": 99996.2669, "used_credits": 1.5999}
    figures = {"remaining_credits": 99996.8002, "used_credits": 3.1998}
    assert settled == {
        "data": {"token": figures | {"unlimited_credits": False}, "user": figures},
        "message": "",
        "success": True,
    }


def test_settlement_under_concurrent_readers(simulator: Any) -> None:
    """Many readers at the moment a render falls due see one charge."""
    task_id = simulator.submit().json()["id"]
    simulator.skipped_s = 60

    def read(number: int) -> int:
        path = f"/v1/tasks/{task_id}" if number % 2 else "/v1/credits"
        return simulator.client.get(path).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(read, range(40)))
    stats = simulator.client.get("/_sim/stats").json()

    assert statuses == {200}
    assert (stats["credits_used"], stats["renders_completed"]) == (0.5332968, 1)


def test_amounts_on_the_wire_are_exact_decimals(simulator: Any) -> None:
    """The digits of an amount are in the bytes, not those of a binary fraction."""
    task_id = simulator.submit("a fox [[shape:cost]]").json()["id"]
    simulator.skipped_s = 60
    raw = simulator.client.get(f"/v1/tasks/{task_id}").content

    assert b'"cost":{"cny":0.05332968,"credits":0.5332968,"usd":0.007843},' in raw
    assert b'"credits_used":0.5332968,' in raw


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("POST", "/v1/images/generations", {"code": "unauthorized"} | UNAUTHORIZED),
        ("GET", "/v1/tasks/task-unified-1-a", {"code": "unauthorized"} | QUERY_UNAUTHORIZED),
        ("GET", "/v1/credits", {"code": 401} | QUERY_UNAUTHORIZED),
    ],
)
@pytest.mark.parametrize("header", [None, "Bearer", "Basic abc"])
def test_missing_key(
    simulator: Any, method: str, path: str, error: dict[str, Any], header: str | None
) -> None:
    """Without a bearer token each route answers its documented 401, and nothing is counted."""
    headers = {} if header is None else {"Authorization": header}
    answer = httpx.request(method, simulator.url + path, headers=headers)
    stats = simulator.client.get("/_sim/stats").json()

    assert (answer.status_code, answer.json()) == (401, {"error": error})
    assert (stats["submits"], stats["polls"]) == (0, 0)


@pytest.mark.parametrize(
    ("task_id", "status", "code"),
    [
        ("task-1", 400, "invalid_task_id"),
        ("task-unified-1790000000-aaaaaaaa", 404, "task_not_found"),
    ],
)
def test_unknown_tasks(simulator: Any, task_id: str, status: int, code: str) -> None:
    """A foreign id is 400 and an unknown one 404."""
    answer = simulator.client.get(f"/v1/tasks/{task_id}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'{"model":"gpt-image-1.5"}', "prompt"),
        (b'{"model":"gpt-image-1.5","prompt":"a fox","quality":"auto"}', "quality"),
        (b'{"model":"gpt-image-1.5","prompt":"a fox [[latency:x]]"}', "prompt"),
    ],
)
def test_bad_requests(simulator: Any, content: bytes, param: str | None) -> None:
    """A body that breaks the rules is 400 invalid_request and creates nothing."""
    answer = simulator.client.post("/v1/images/generations", content=content)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"], error.get("param")) == (
        400,
        "invalid_request",
        param,
    )
    assert simulator.client.get("/v1/credits").json()["data"]["user"]["remaining_credits"] == 100000


def test_unknown_model(simulator: Any) -> None:
    """A model that does not exist has the older 404 row."""
    answer = simulator.submit(model="gpt-image-9")

    assert (answer.status_code, answer.json()) == (
        404,
        {
            "error": {
                "code": 404,
                "fallback_suggestion": "gpt-image-1.5",
                "message": "Specified model not found",
                "param": "model",
                "type": "not_found_error",
            }
        },
    )


@pytest.mark.parametrize(
    ("marker", "status", "code"),
    [
        ("[[submit:content_filter]]", 400, "content_filter"),
        ("[[submit:unauthorized]]", 401, "unauthorized"),
        ("[[submit:insufficient_quota]]", 402, "insufficient_quota"),
        ("[[submit:model_access_denied]]", 403, "model_access_denied"),
        ("[[submit:internal_error]]", 500, "internal_error"),
        ("[[submit:service_unavailable]]", 503, "service_unavailable"),
        ("[[submit:service_unavailable]][[envelope:integer]]", 503, 503),
    ],
)
def test_refused_submits(simulator: Any, marker: str, status: int, code: object) -> None:
    """A marker refuses the submit in either envelope; it arrived, and cost nothing."""
    answer = simulator.submit(f"a fox {marker}")
    simulator.skipped_s = 60
    stats = simulator.client.get("/_sim/stats").json()

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "retry-after" not in answer.headers
    assert (stats["submits"], stats["renders_completed"], stats["credits_used"]) == (1, 0, 0)


def test_rate_limit_says_when_to_return(start_simulator: Any) -> None:
    """A 429 carries the configured Retry-After."""
    simulator = start_simulator(SimulatorSettings(retry_after_s=5))
    answer = simulator.submit("a fox [[submit:rate_limit_exceeded]]")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")


def test_settings_choose_the_envelope(start_simulator: Any) -> None:
    """The older envelope can be the default, and a marker still overrides it."""
    simulator = start_simulator(SimulatorSettings(envelope=Envelope.INTEGER))
    default = simulator.submit(quality="auto").json()["error"]["code"]
    chosen = simulator.submit("a fox [[envelope:string]]", quality="auto").json()["error"]["code"]

    assert (default, chosen) == (400, "invalid_request")


def test_html_submit(simulator: Any) -> None:
    """A proxy's page has no envelope, and nothing was created."""
    answer = simulator.submit("a fox [[html]]")
    simulator.skipped_s = 60

    assert (answer.status_code, answer.headers["content-type"]) == (
        502,
        "text/html; charset=utf-8",
    )
    assert answer.text.startswith("<html>")
    assert simulator.client.get("/_sim/stats").json()["renders_completed"] == 0


def test_submit_without_an_id(simulator: Any) -> None:
    """The answer lacks the id although the task exists and is billed."""
    answer = simulator.submit("a fox [[no-id]]")
    simulator.skipped_s = 60

    assert (answer.status_code, answer.json()["status"]) == (200, "pending")
    assert "id" not in answer.json()
    assert simulator.client.get("/_sim/stats").json()["credits_used"] == 0.5332968


def test_balance_runs_out(start_simulator: Any) -> None:
    """A submit beyond the balance is the documented 402."""
    simulator = start_simulator(SimulatorSettings(credits_balance=Decimal(1)))
    first, second = simulator.submit(), simulator.submit()

    assert (first.status_code, second.status_code) == (200, 402)
    assert second.json()["error"] == {
        "code": "insufficient_quota",
        "message": "Insufficient quota. Please top up your account.",
        "type": "insufficient_quota",
    }


@pytest.mark.parametrize(
    ("marker", "status", "code", "credits_used"),
    [
        ("[[fail:content_policy_violation]]", "failed", "content_policy_violation", 0),
        ("[[fail:image_processing_error]]", "failed", "image_processing_error", 0),
        ("[[failed-without-error]]", "failed", None, 0),
        ("[[status:cancelled]]", "cancelled", None, 0),
        ("[[status:canceled]]", "canceled", None, 0),
        ("[[empty-results]]", "completed", None, 0.5332968),
    ],
)
def test_unhappy_endings(
    simulator: Any, marker: str, status: str, code: str | None, credits_used: float
) -> None:
    """A failed poll answers 200; failures are refunded and empty completions charged."""
    task = simulator.finish(f"a fox {marker}")
    stats = simulator.client.get("/_sim/stats").json()

    assert (task["status"], task.get("error", {}).get("code")) == (status, code)
    assert stats["credits_used"] == credits_used
    assert not task.get("results")


def test_unknown_status_until_due(simulator: Any) -> None:
    """A status outside the documents is no ending."""
    task_id = simulator.submit("a fox [[unknown-status]]").json()["id"]
    early = simulator.client.get(f"/v1/tasks/{task_id}").json()["status"]
    simulator.skipped_s = 60

    assert early == "queued_upstream"
    assert simulator.client.get(f"/v1/tasks/{task_id}").json()["status"] == "completed"


@pytest.mark.parametrize(
    ("marker", "status", "starts"),
    [("[[result:404]]", 404, b"404"), ("[[result:not-image]]", 200, b"<html>")],
)
def test_bad_result_files(simulator: Any, marker: str, status: int, starts: bytes) -> None:
    """A completed task's link may be dead or lie about its type."""
    task = simulator.finish(f"a fox {marker}")
    answer = httpx.get(task["results"][0])

    assert answer.status_code == status
    assert answer.content.startswith(starts)


def test_latency_marker_in_real_time(start_simulator: Any) -> None:
    """Without a moved clock a render takes as long as its marker says."""
    simulator = start_simulator(SimulatorSettings(latency_median_s=100))
    task_id = simulator.submit("a fox [[latency:0.3]]").json()["id"]
    early = simulator.client.get(f"/v1/tasks/{task_id}").json()["status"]
    time.sleep(0.35)

    assert early in {"pending", "processing"}
    assert simulator.client.get(f"/v1/tasks/{task_id}").json()["status"] == "completed"


def test_public_url_in_links(start_simulator: Any) -> None:
    """A configured base wins over the request's host."""
    simulator = start_simulator(SimulatorSettings(public_url="https://files.test/sim/"))
    link = simulator.finish("a fox [[latency:1]]")["results"][0]

    assert re.match(r"https://files\.test/sim/[A-Z0-9]{18}/images/", link)


def test_host_of_the_request_in_links(simulator: Any) -> None:
    """Links lead to the name by which the client knows the simulator."""
    task_id = simulator.submit().json()["id"]
    simulator.skipped_s = 60
    answer = simulator.client.get(f"/v1/tasks/{task_id}", headers={"Host": "evolink.test:9100"})

    assert answer.json()["results"][0].startswith("http://evolink.test:9100/")


def test_link_is_dead_before_the_render_and_after_a_day(simulator: Any) -> None:
    """A result can be read from its completion until it expires."""
    task = simulator.finish()
    ready = httpx.get(task["results"][0]).status_code
    simulator.skipped_s += 86_400
    unknown = simulator.url + "/AAAAAAAAAAAAAAAAAA/images/2026/09/21/0_0.png"

    assert (ready, httpx.get(task["results"][0]).status_code) == (200, 404)
    assert httpx.get(unknown).status_code == 404


def test_reset_repeats_the_world(simulator: Any) -> None:
    """After a reset everything is forgotten and the seed starts again."""
    first = simulator.finish()
    answer = simulator.client.post("/_sim/reset")
    second = simulator.finish()

    assert set(orjson.loads(answer.content).values()) == {0}
    assert simulator.client.get(f"/v1/tasks/{first['id']}").status_code == 404
    assert first["id"][-8:] == second["id"][-8:]
