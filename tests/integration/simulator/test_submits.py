import email.utils
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import orjson
import pytest

from gateway.simulator.latency import read_profile
from gateway.simulator.rules import Rule
from gateway.simulator.settings import Idempotency, RetryAfter, SimulatorSettings

URL = "/v1/images/generations"


def submit_with_key(simulator: Any, key: str, prompt: str = "a fox") -> httpx.Response:
    """Submit under an idempotency key."""
    body = {"model": "gpt-image-1.5", "prompt": prompt, "quality": "low"}
    answer: httpx.Response = simulator.client.post(URL, json=body, headers={"Idempotency-Key": key})
    return answer


@pytest.mark.parametrize(
    ("marker", "status", "text", "tasks"),
    [
        ("[[submit:html]]", 502, "<html>", 0),
        ("[[submit:text]]", 503, "upstream connect error", 0),
        ("[[submit:empty]]", 200, "", 0),
        ("[[submit:unsuccessful]]", 200, '{"code":500', 0),
        ("[[submit:internal_error]]", 500, '{"error"', 0),
        ("[[created:html]]", 502, "<html>", 1),
        ("[[created:text]]", 503, "upstream connect error", 1),
        ("[[created:empty]]", 200, "", 1),
        ("[[created:internal_error]]", 500, '{"error"', 1),
        ("[[created:unauthorized]]", 401, '{"error"', 1),
        ("[[created:truncated]]", 200, '{"created":', 1),
        ("[[created:no-id]]", 200, '{"created":', 1),
        ("[[created:slow:0.1]]", 200, '{"created":', 1),
        ("[[created:late:0.1]]", 200, '{"created":', 1),
    ],
)
def test_bad_answers(simulator: Any, marker: str, status: int, text: str, tasks: int) -> None:
    """Before the task is made nothing costs anything; behind it everything does."""
    answer = simulator.submit(f"a fox {marker}")
    simulator.skipped_s = 60
    stats = simulator.stats()

    assert (answer.status_code, answer.text[: len(text)]) == (status, text)
    assert (text == "") == (answer.content == b"")
    assert (stats["tasks"], stats["renders_completed"]) == (tasks, tasks)
    assert stats["credits_used"] == tasks * 0.5332968


def test_truncated_answer_is_half_of_a_json_text(simulator: Any) -> None:
    """It is complete as HTTP, and not as JSON."""
    answer = simulator.submit("a fox [[created:truncated]]")

    assert int(answer.headers["content-length"]) == len(answer.content)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.content)


@pytest.mark.parametrize(
    ("marker", "tasks"), [("[[drop-before]]", 0), ("[[created:drop]]", 1), ("[[created:cut]]", 1)]
)
def test_broken_connections(simulator: Any, marker: str, tasks: int) -> None:
    """For the client the outcome is unknown; the books know it."""
    with pytest.raises(httpx.RemoteProtocolError):
        simulator.submit(f"a fox {marker}")

    assert simulator.stats()["tasks"] == tasks


@pytest.mark.parametrize(("place", "tasks"), [("submit", 0), ("created", 1)])
def test_late_answers(simulator: Any, place: str, tasks: int) -> None:
    """A client that does not wait leaves a task behind, or not yet."""
    with pytest.raises(httpx.ReadTimeout):
        simulator.client.post(
            URL,
            json={"model": "gpt-image-1.5", "prompt": f"a fox [[{place}:late:1]]"},
            timeout=0.3,
        )

    assert simulator.stats()["tasks"] == tasks


def test_first_times_only(simulator: Any) -> None:
    """The same submit succeeds at the third try; another one starts anew."""
    prompt = "a fox [[submit:rate_limit_exceeded*2]]"
    statuses = [simulator.submit(prompt).status_code for _ in range(4)]

    assert statuses == [429, 429, 200, 200]
    assert simulator.submit("another " + prompt).status_code == 429


@pytest.mark.parametrize(
    ("settings", "marker", "header"),
    [
        (SimulatorSettings(), "", "2"),
        (SimulatorSettings(retry_after_s=9), "[[retry-after:seconds]]", "9"),
        (SimulatorSettings(), "[[retry-after:5]]", "5"),
        (SimulatorSettings(), "[[retry-after:none]]", None),
        (SimulatorSettings(retry_after=RetryAfter.NONE), "", None),
    ],
)
def test_retry_after_in_seconds(
    start_simulator: Any, settings: SimulatorSettings, marker: str, header: str | None
) -> None:
    """Settings and markers choose what the header says."""
    answer = start_simulator(settings).submit(f"a fox [[submit:rate_limit_exceeded]]{marker}")

    assert answer.headers.get("retry-after") == header


@pytest.mark.parametrize("by", ["marker", "settings"])
def test_retry_after_as_a_date(start_simulator: Any, by: str) -> None:
    """The other form is an HTTP date, also on other refusals."""
    form = RetryAfter.DATE if by == "settings" else RetryAfter.SECONDS
    simulator = start_simulator(SimulatorSettings(retry_after=form, retry_after_s=60))
    marker = "[[retry-after:date]]" if by == "marker" else ""
    answer = simulator.submit(f"a fox [[submit:rate_limit_exceeded]]{marker}")
    at = email.utils.parsedate_to_datetime(answer.headers["retry-after"])

    assert 50 < at.timestamp() - simulator.clock().wall_s() <= 60


def test_refusals_carry_their_request_id(simulator: Any) -> None:
    """Header and rich envelope name the same request."""
    answer = simulator.submit("a fox [[submit:insufficient_quota]][[envelope:rich]]")
    error = answer.json()["error"]

    assert answer.headers["x-request-id"] == error["request_id"]
    assert error["message"].endswith(f"(request id: {error['request_id']})")


def test_at_once(simulator: Any) -> None:
    """The submit's own answer may be the completed task."""
    body = simulator.submit("a fox [[at-once]]").json()

    assert (body["status"], body["duration"], len(body["results"])) == ("completed", 0, 1)
    assert httpx.get(body["results"][0]).status_code == 200


def test_fewer_pictures_than_asked(simulator: Any) -> None:
    """What is made is what is billed; the reservation was for all."""
    answer = simulator.submit("a fox [[images:1]]", model="gpt-image-2", n=4, quality="low")
    simulator.skipped_s = 60
    task = simulator.client.get(f"/v1/tasks/{answer.json()['id']}").json()

    assert len(task["results"]) == 1
    assert task["usage"]["image_output_tokens"] == 196
    reserved = Decimal(str(answer.json()["usage"]["credits_reserved"]))
    assert reserved == 4 * 196 * Decimal("0.001836") + 2 * Decimal("0.000306")
    assert simulator.stats()["credits_used"] == task["usage"]["credits_used"]
    assert simulator.client.get("/v1/credits").json()["data"]["user"][
        "remaining_credits"
    ] == pytest.approx(100000 - task["usage"]["credits_used"], abs=0.0001)


def test_missing_prompt_of_another_family(simulator: Any) -> None:
    """One family was seen to answer 500."""
    answer = simulator.client.post(URL, json={"model": "gemini-3-pro-image-preview"})

    assert (answer.status_code, answer.json()["error"]["message"]) == (
        500,
        "This field is required",
    )


@pytest.mark.parametrize(
    ("marker", "fields", "status"),
    [
        ("", {"moderation": "low"}, 200),
        ("[[rules:no-unknown]]", {"moderation": "low"}, 400),
        ("[[rules:no-unknown]]", {"size": "1:1", "n": 1, "callback_url": None}, 200),
        ("", {"quality": "hd"}, 400),
        ("[[rules:lenient]]", {"quality": "hd", "size": 7, "n": 5}, 200),
        ("", {"image_urls": []}, 400),
        ("[[rules:empty-references]]", {"image_urls": []}, 200),
        ("", {"n": 2}, 400),
        ("[[rules:other]]", {"n": 2}, 200),
    ],
)
def test_leanings(simulator: Any, marker: str, fields: dict[str, Any], status: int) -> None:
    """What no document settles can be played both ways."""
    assert simulator.submit(f"a fox {marker}", **fields).status_code == status


def test_another_model_name_in_answers(simulator: Any) -> None:
    """The model of an answer may differ from the one that was asked."""
    assert simulator.finish("a fox [[model:gpt-image-1.5-azure]]")["model"] == "gpt-image-1.5-azure"


def test_repeated_key_without_idempotency(simulator: Any) -> None:
    """By default the header changes nothing: two tasks, two bills."""
    first, second = submit_with_key(simulator, "run_1"), submit_with_key(simulator, "run_1")
    stats = simulator.stats()

    assert first.json()["id"] != second.json()["id"]
    assert (stats["tasks"], stats["submits_with_key"], stats["replays"]) == (2, 2, 0)


@pytest.mark.parametrize("by", ["marker", "settings"])
def test_repeated_key_is_replayed(start_simulator: Any, by: str) -> None:
    """The same key and body give the first task again; another body is a conflict."""
    mode = Idempotency.REPLAYED if by == "settings" else Idempotency.IGNORED
    simulator = start_simulator(SimulatorSettings(idempotency=mode))
    prompt = "a fox" if by == "settings" else "a fox [[idempotency:replayed]]"
    first, second = (submit_with_key(simulator, "run_1", prompt) for _ in range(2))
    other = submit_with_key(simulator, "run_1", "another " + prompt)
    stats = simulator.stats()

    assert first.json() == second.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert (stats["tasks"], stats["submits_with_key"], stats["replays"]) == (1, 3, 1)


def test_lost_answer_can_be_asked_for_again(start_simulator: Any) -> None:
    """With idempotency the retry after a broken connection finds the task."""
    simulator = start_simulator(SimulatorSettings(idempotency=Idempotency.REPLAYED))
    with pytest.raises(httpx.RemoteProtocolError):
        submit_with_key(simulator, "run_1", "a fox [[drop-response]]")
    answer = submit_with_key(simulator, "run_1", "a fox [[drop-response]]")

    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (200, "true")
    assert simulator.stats()["tasks"] == 1


def test_open_key_is_a_conflict(start_simulator: Any) -> None:
    """While the first submit is undecided its outcome is unknown."""
    simulator = start_simulator(SimulatorSettings(idempotency=Idempotency.REPLAYED))
    prompt = "a fox [[submit:late:1]]"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(submit_with_key, simulator, "run_1", prompt)
        end_s = time.monotonic() + 60
        while simulator.stats()["submits"] == 0:
            assert time.monotonic() < end_s
        second = submit_with_key(simulator, "run_1", prompt)

    assert (second.status_code, second.json()["error"]["code"]) == (409, "paid_outcome_unknown")
    assert first.result().status_code == 200


def test_expired_task_is_not_replayed(start_simulator: Any) -> None:
    """When the task is gone the key makes another, and that one is replayed."""
    simulator = start_simulator(
        SimulatorSettings(idempotency=Idempotency.REPLAYED, keep_s=100, latency_median_s=0)
    )
    first = submit_with_key(simulator, "run_1").json()["id"]
    simulator.skipped_s = 200
    second, third = (submit_with_key(simulator, "run_1").json()["id"] for _ in range(2))

    assert first != second
    assert second == third


def test_refused_submit_frees_its_key(start_simulator: Any) -> None:
    """A key that made nothing can be used again."""
    simulator = start_simulator(SimulatorSettings(idempotency=Idempotency.REPLAYED))
    refused = submit_with_key(simulator, "run_1", "a fox [[submit:internal_error*1]]")
    answer = submit_with_key(simulator, "run_1", "a fox [[submit:internal_error*1]]")

    assert (refused.status_code, answer.status_code) == (500, 200)
    assert "idempotency-replayed" not in answer.headers


def test_in_flight_limit(start_simulator: Any) -> None:
    """Beyond it a submit is 429, until a task has ended."""
    simulator = start_simulator(
        SimulatorSettings(max_in_flight=2, latency_median_s=8, latency_sigma=0)
    )
    statuses = [simulator.submit().status_code for _ in range(3)]
    simulator.skipped_s = 9
    statuses.append(simulator.submit().status_code)
    stats = simulator.stats()

    assert statuses == [200, 200, 429, 200]
    assert (stats["submits"], stats["tasks"], stats["rate_limited"]) == (4, 3, 1)
    assert (stats["in_flight"], stats["max_in_flight"]) == (1, 2)


def test_submits_per_second(start_simulator: Any) -> None:
    """A burst of one second's worth, then the rate; 429 says when to come again."""
    simulator = start_simulator(SimulatorSettings(submits_per_second=0.01))
    first, second = simulator.submit(), simulator.submit()
    simulator.skipped_s = 101
    third = simulator.submit()

    assert [first.status_code, second.status_code, third.status_code] == [200, 429, 200]
    assert second.headers["retry-after"] == "2"
    assert second.json()["error"]["code"] == "rate_limit_exceeded"
    assert simulator.stats()["rate_limited"] == 1


def test_rules_of_submits(start_simulator: Any) -> None:
    """The second submit fails as the file says; a prompt's own marker wins."""
    rules = [
        Rule("submit", "[[fail:service_error]][[latency:1]]", nth=frozenset({2, 3})),
        Rule("submit", "[[submit:upstream_error]]", every=4),
    ]
    simulator = start_simulator(rules=rules)
    answers = [
        simulator.submit(prompt)
        for prompt in ("a fox", "a fox", "a fox [[fail:quota_exceeded]]", "a fox")
    ]
    simulator.skipped_s = 2
    tasks = [
        simulator.client.get(f"/v1/tasks/{answer.json()['id']}").json() for answer in answers[:3]
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 502]
    assert [task["status"] for task in tasks] == ["processing", "failed", "failed"]
    assert [task["error"]["code"] for task in tasks[1:]] == ["service_error", "quota_exceeded"]


def test_reset_starts_the_rules_anew(start_simulator: Any) -> None:
    """After a reset the first request is the first again."""
    simulator = start_simulator(rules=[Rule("submit", "[[html]]", first=1)])
    statuses = []
    for _ in range(2):
        statuses += [simulator.submit().status_code for _ in range(2)]
        simulator.client.post("/_sim/reset")

    assert statuses == [502, 200, 502, 200]


def test_latency_profile(start_simulator: Any) -> None:
    """Settings and prompts choose how render times are spread."""
    simulator = start_simulator(
        SimulatorSettings(
            latency_median_s=2, latency_sigma=0, latency_profile=read_profile("bimodal:1:3")
        )
    )
    chosen = [simulator.submit().json()["id"]]
    chosen.append(simulator.submit("a fox [[latency-profile:lognormal]]").json()["id"])
    simulator.skipped_s = 10
    durations = [
        simulator.client.get(f"/v1/tasks/{task_id}").json()["duration"] for task_id in chosen
    ]

    assert durations == [6, 2]
