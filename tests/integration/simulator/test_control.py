import hashlib
from typing import Any

import pytest

from gateway.simulator.settings import SimulatorSettings


def test_tasks_can_be_matched_with_a_ledger(simulator: Any) -> None:
    """The list says what each task cost and whence it came, the newest first."""
    prompt = "a fox [[label:case 1]]"
    simulator.client.post(
        "/v1/images/generations",
        json={"model": "gpt-image-1.5", "prompt": prompt, "quality": "low"},
        headers={"Idempotency-Key": "run_1"},
    )
    failed = simulator.submit("a fox [[fail:service_error]]").json()["id"]
    running = simulator.submit("a fox [[latency:100]]", model="gpt-image-2", n=2).json()["id"]
    simulator.skipped_s = 60
    body = simulator.client.get("/_sim/tasks").json()
    first = body["tasks"][2]

    assert [task["id"] for task in body["tasks"][:2]] == [running, failed]
    assert body["total"] == 3
    assert first == {
        "cost_microusd": 7843,
        "created": first["created"],
        "credits": 0.5332968,
        "error": "",
        "id": first["id"],
        "idempotency_key": "run_1",
        "images": 1,
        "label": "case 1",
        "model": "gpt-image-1.5",
        "n": 1,
        "noticed_after_ms": None,
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
        "references": 0,
        "state": "completed",
    }
    assert [
        (task["state"], task["error"], task["credits"], task["n"]) for task in body["tasks"][:2]
    ] == [("processing", "", 0, 2), ("failed", "service_error", 0, 1)]
    assert (
        sum(task["cost_microusd"] for task in body["tasks"]) == simulator.stats()["cost_microusd"]
    )


def test_tasks_by_label(simulator: Any) -> None:
    """A test finds its own tasks."""
    for label in ("one", "two", "one"):
        simulator.submit(f"a fox [[label:{label}]]")

    assert simulator.client.get("/_sim/tasks?label=one").json()["total"] == 2


@pytest.mark.parametrize(("per_usd", "microusd"), [(68, 7843), (72, 7407)])
def test_older_rate(start_simulator: Any, per_usd: int, microusd: int) -> None:
    """A dollar was 72 credits once."""
    simulator = start_simulator(SimulatorSettings(credits_per_usd=per_usd, latency_median_s=1))
    usd = simulator.finish("a fox [[shape:cost]]")["usage"]["cost"]["usd"]

    assert (round(usd * 1_000_000), simulator.stats()["cost_microusd"]) == (microusd, microusd)


def test_reset_forgets_files(simulator: Any) -> None:
    """Uploads go with everything else."""
    simulator.client.post("/api/v1/files/upload/base64", json={"base64_data": "iVBORw0KGgo="})
    before = simulator.client.get("/api/v1/files/quota").json()["data"]["used_files"]
    simulator.client.post("/_sim/reset")
    after = simulator.client.get("/api/v1/files/quota").json()["data"]["used_files"]

    assert (before, after) == (1, 0)


def test_it_is_told_how_soon_an_end_was_noticed(simulator: Any) -> None:
    """By the first poll that read it; those before and after it do not count."""
    task = simulator.submit("a fox [[latency:10]]").json()["id"]
    noticed = []
    for seconds in (9, 4, 4):
        simulator.skipped_s += seconds
        simulator.client.get(f"/v1/tasks/{task}")
        noticed.append(simulator.client.get("/_sim/tasks").json()["tasks"][0]["noticed_after_ms"])

    assert None is noticed[0]
    assert noticed[1] == pytest.approx(3_000, abs=900)
    assert noticed[1] == noticed[2]
