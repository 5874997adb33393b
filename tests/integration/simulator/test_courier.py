import time
from typing import Any

import orjson
import pytest

from gateway.simulator.settings import SimulatorSettings


def test_callback_is_the_task_as_a_poll_shows_it(simulator: Any, receiver: Any) -> None:
    """When a task is settled its body is posted, once, unwrapped."""
    task_id = simulator.submit(callback_url=receiver.url + "/hook").json()["id"]
    simulator.skipped_s = 7
    assert simulator.stats()["callbacks_sent"] == 0
    simulator.skipped_s = 9
    simulator.stats()
    [body] = receiver.wait_for(1)
    polled = simulator.client.get(f"/v1/tasks/{task_id}").json()

    assert orjson.loads(body) == polled
    assert polled["status"] == "completed"
    assert simulator.stats()["credits_used"] == 0.5332968


@pytest.mark.parametrize("latency_s", [0.0, 0.2])
def test_callback_needs_no_request_to_be_sent(
    start_simulator: Any, receiver: Any, latency_s: float
) -> None:
    """It goes out when the render is due, though nobody asks."""
    simulator = start_simulator(SimulatorSettings(latency_median_s=latency_s, latency_sigma=0))
    simulator.submit(callback_url=receiver.url)
    [body] = receiver.wait_for(1)

    assert orjson.loads(body)["status"] == "completed"


@pytest.mark.parametrize(
    ("marker", "status"),
    [
        ("[[fail:service_error]]", "failed"),
        ("[[status:cancelled]]", "cancelled"),
    ],
)
def test_bad_endings_are_called_back_too(
    simulator: Any, receiver: Any, marker: str, status: str
) -> None:
    """Failed and cancelled tasks have callbacks as completed ones do."""
    simulator.submit(f"a fox [[latency:0]] {marker}", callback_url=receiver.url)
    [body] = receiver.wait_for(1)

    assert orjson.loads(body)["status"] == status


def test_failed_callbacks_are_repeated_after_one_two_and_four_seconds(
    simulator: Any, receiver: Any
) -> None:
    """Three repetitions, then it is given up."""
    receiver.statuses = [500, 302, 404, 503]
    receiver.pages["/"] = b"a redirect must not lead here"
    simulator.submit("a fox [[latency:0]]", callback_url=receiver.url)
    receiver.wait_for(1)
    for pause_s, sent in ((1, 2), (2, 3), (4, 4)):
        eventually(simulator, "callbacks_waiting", 1)
        simulator.skipped_s += pause_s - 0.5
        assert simulator.stats()["callbacks_sent"] == sent - 1
        simulator.skipped_s += 0.6
        simulator.stats()
        receiver.wait_for(sent)
    stats = eventually(simulator, "callbacks_given_up", 1)
    simulator.skipped_s += 60

    assert (stats["callbacks_sent"], stats["callbacks_accepted"]) == (4, 0)
    assert simulator.stats()["callbacks_sent"] == 4


def eventually(simulator: Any, name: str, value: float) -> Any:
    """Return the stats once a count has its value; fail after a minute."""
    end_s = time.monotonic() + 60
    while (stats := simulator.stats())[name] != value:
        assert time.monotonic() < end_s, stats
        time.sleep(0.01)
    return stats


def test_a_receiver_that_does_not_answer_in_time_has_failed(
    start_simulator: Any, receiver: Any
) -> None:
    """The time-out is a failure like any other."""
    simulator = start_simulator(SimulatorSettings(latency_median_s=0, callback_timeout_s=0.1))
    receiver.pause_s = 0.5
    simulator.submit(callback_url=receiver.url)
    receiver.wait_for(1)
    stats = eventually(simulator, "callbacks_waiting", 1)

    assert (stats["callbacks_sent"], stats["callbacks_accepted"]) == (1, 0)


def test_accepted_on_the_second_try(simulator: Any, receiver: Any) -> None:
    """After a success nothing is repeated."""
    receiver.statuses = [500, 204]
    simulator.submit("a fox [[latency:0]]", callback_url=receiver.url)
    receiver.wait_for(1)
    eventually(simulator, "callbacks_waiting", 1)
    simulator.skipped_s += 1.1
    simulator.stats()
    stats = eventually(simulator, "callbacks_accepted", 1)

    assert (stats["callbacks_sent"], stats["callbacks_given_up"]) == (2, 0)


def test_repetition_needs_no_request_to_be_sent(simulator: Any, receiver: Any) -> None:
    """In real time, and though nobody asks, it comes about a second later."""
    receiver.statuses = [500]
    simulator.submit("a fox [[latency:0]]", callback_url=receiver.url)
    receiver.wait_for(1)
    first_s = time.monotonic()
    receiver.wait_for(2)

    assert time.monotonic() - first_s > 0.8


def test_a_closed_port_is_a_failure(simulator: Any) -> None:
    """Nobody listens; the courier lives on."""
    simulator.submit("a fox [[latency:0]]", callback_url="http://127.0.0.1:9/hook")

    assert eventually(simulator, "callbacks_sent", 1)["callbacks_accepted"] == 0


def test_dropped_callback_is_never_sent(simulator: Any, receiver: Any) -> None:
    """A marker loses it."""
    simulator.submit("a fox [[latency:0]] [[callback:drop]]", callback_url=receiver.url)
    simulator.submit("a fox [[latency:0]]", callback_url=receiver.url)
    receiver.wait_for(1)

    assert eventually(simulator, "callbacks_accepted", 1)["callbacks_sent"] == 1


@pytest.mark.parametrize(("marker", "copies"), [("twice", 2), ("storm:20", 20)])
def test_repeated_callbacks(simulator: Any, receiver: Any, marker: str, copies: int) -> None:
    """One task may be told many times."""
    simulator.submit(f"a fox [[latency:0]] [[callback:{marker}]]", callback_url=receiver.url)
    bodies = receiver.wait_for(copies)

    assert len({orjson.loads(body)["id"] for body in bodies}) == 1
    assert eventually(simulator, "callbacks_accepted", copies)["callbacks_sent"] == copies


def test_early_callback_comes_before_the_completion(simulator: Any, receiver: Any) -> None:
    """It says completed while a poll still says processing."""
    prompt = "a fox [[latency:10]] [[callback:early]]"
    task_id = simulator.submit(prompt, callback_url=receiver.url).json()["id"]
    simulator.skipped_s = 6
    polled = simulator.client.get(f"/v1/tasks/{task_id}").json()["status"]
    [body] = receiver.wait_for(1)

    assert (polled, orjson.loads(body)["status"]) == ("processing", "completed")


def test_late_callback_comes_after_the_completion(simulator: Any, receiver: Any) -> None:
    """It takes its time."""
    prompt = "a fox [[latency:10]] [[callback:late:5]]"
    simulator.submit(prompt, callback_url=receiver.url)
    simulator.skipped_s = 14
    assert simulator.stats()["renders_completed"] == 1
    assert receiver.bodies == []
    simulator.skipped_s = 16
    simulator.stats()

    receiver.wait_for(1)


@pytest.mark.parametrize("marker", ["forged", "foreign"])
def test_lies_come_at_once_and_the_truth_later(simulator: Any, receiver: Any, marker: str) -> None:
    """Anybody can post to a callback: a completion that is none, then the true one."""
    prompt = f"a fox [[latency:10]] [[callback:{marker}]]"
    task_id = simulator.submit(prompt, callback_url=receiver.url).json()["id"]
    lie = orjson.loads(receiver.wait_for(1)[0])
    simulator.skipped_s = 11
    simulator.stats()
    truth = orjson.loads(receiver.wait_for(2)[1])

    assert (lie["status"], truth["status"]) == ("completed", "completed")
    assert (lie["id"] == task_id) == (marker == "forged")
    assert lie["results"][0].startswith(
        "https://forged.example/" if marker == "forged" else simulator.url
    )
    assert truth["id"] == task_id
    assert truth["results"][0].startswith(simulator.url)


def test_trimmed_and_garbage(simulator: Any, receiver: Any) -> None:
    """First-party examples show four fields; others may send no JSON at all."""
    simulator.submit("a fox [[latency:0]] [[callback:trimmed]]", callback_url=receiver.url)
    trimmed = orjson.loads(receiver.wait_for(1)[0])
    simulator.submit("a fox [[latency:0]] [[callback:garbage]]", callback_url=receiver.url)

    assert set(trimmed) == {"id", "model", "results", "status"}
    assert receiver.wait_for(2)[1].startswith(b"<html>")


@pytest.mark.parametrize(
    ("strict", "url", "status"),
    [
        (False, "http://127.0.0.1:9/hook", 200),
        (False, "ftp://files.example/hook", 400),
        (False, "https://hooks.example/" + "x" * 2048, 400),
        (True, "http://hooks.example/hook", 400),
        (True, "https://10.0.0.1/hook", 400),
        (True, "https://hooks.example/hook", 200),
    ],
)
def test_targets(start_simulator: Any, strict: bool, url: str, status: int) -> None:
    """A local tool takes any target; a switch enforces EvoLink's rule."""
    simulator = start_simulator(SimulatorSettings(strict_callbacks=strict, latency_median_s=100))

    assert simulator.submit(callback_url=url).status_code == status


def test_reset_forgets_callbacks(simulator: Any, receiver: Any) -> None:
    """After a reset nothing of before is told to anybody."""
    simulator.submit("a fox [[latency:10]]", callback_url=receiver.url)
    simulator.client.post("/_sim/reset")
    assert simulator.stats()["callbacks_waiting"] == 0
    simulator.skipped_s = 60
    simulator.submit("a fox [[latency:0]]", callback_url=receiver.url)
    receiver.wait_for(1)

    assert eventually(simulator, "callbacks_accepted", 1)["callbacks_sent"] == 1
