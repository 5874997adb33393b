"""What a served gateway writes about a picture, and what it never writes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import (
    TEAM_KEY,
    UPSTREAM_KEY,
    serving_gateway,
    serving_simulator,
    write_config,
)

PROMPT = "a very secret fox"
DIGEST = hashlib.sha256(PROMPT.encode()).hexdigest()


async def written(folder: Path, log: str) -> str:
    """Make a picture, and have a key and a field refused; return what was written to stderr."""
    settings = SimulatorSettings(latency_median_s=0.1, latency_sigma=0.0, seed=7)
    async with serving_simulator(settings) as upstream:
        config = write_config(folder, upstream, sections=f"[log]\n{log}")
        async with serving_gateway(config) as served:
            answer = await served.picture(PROMPT)
            refused = await served.picture(PROMPT, Authorization="Bearer sk-nobody-0123456789")
            served.process.terminate()
            _, errors = await served.process.communicate()
    assert (200, 401) == (answer.status_code, refused.status_code)
    return errors.decode()


@pytest.mark.parametrize("hashes", [False, True])
async def test_the_lines_of_a_picture(tmp_path: Path, hashes: bool) -> None:
    """One line for each transition of its task and one for each request; no prompt, key or link."""
    text = await written(tmp_path, f"prompt_hashes = {str(hashes).lower()}")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    tasks = [line for line in lines if line["action"].startswith("task_")]
    made, refused = (line for line in lines if line["action"] == "request")

    assert [
        *("task_admitted", "task_submitting", "task_submitted", "task_concluded", "task_stored")
    ] == [line["action"] for line in tasks]
    assert {made["task"]} == {line["task"] for line in tasks}
    assert {("design", "evolink")} == {(line["team"], line["provider"]) for line in [made, *tasks]}
    assert (200, 7_852) == (made["status"], made["cost_microusd"])
    assert {"receive", "admit", "queue", "submit", "render", "fetch", "store", "deliver"} == set(
        made["phases_ms"]
    )
    assert (401, "invalid_api_key", None) == (refused["status"], refused["code"], refused["task"])
    assert hashes is (DIGEST in text)
    assert not any(
        secret in text
        for secret in (PROMPT, "secret fox", TEAM_KEY, UPSTREAM_KEY, "sk-nobody", "/results/")
    )
    assert "http://" not in "".join(line for line in text.splitlines() if line.startswith("{"))


async def test_lines_for_people(tmp_path: Path) -> None:
    """`format = "console"` writes the same events without JSON."""
    text = await written(tmp_path, 'format = "console"')
    lines = [line for line in text.splitlines() if "action=request" in line]

    assert 2 == len(lines)
    assert "team=design" in lines[0]
    assert PROMPT not in text
