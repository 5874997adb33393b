"""The document is true: schemathesis calls every operation as it says, and as it does not.

It checks statuses, headers, media types and schemas of answers, that what the document allows is
taken and what it does not is refused, that keys are asked for, and that nothing is a 5xx.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.simulator.settings import References, SimulatorSettings
from tests.support.gateway import ENVIRON, TEAM_KEY, Running, running_gateway

ADMIN_KEY = "Zk3vQ9-pW7xT2mN8bR5cY1dL"

#: What schemathesis has to know. Statuses are those with which what keeps to the schema may be
#: refused all the same: a name that is taken, a time zone that is none, a budget there is not.
SETTINGS = f"""
[auth.openapi.teamKey]
bearer = "{TEAM_KEY}"

[auth.openapi.adminKey]
bearer = "{ADMIN_KEY}"

[[operations]]
include-tag = "admin"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 404]

# A cap below the price; an Idempotency-Key that stood for another body.
[[operations]]
include-operation-id = "images.generations"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 422]

# As well, and bytes that are no picture: no schema can say what one is.
[[operations]]
include-operation-id = "images.edits"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 422]

[[operations]]
include-operation-id = "images.quotes"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400]

# Days that are the wrong way round or too far apart.
[[operations]]
include-operation-id = "usage"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400]
"""

#: How to see more of a deviation.
HOW = """
The server and /openapi.json disagree; each failure above names the operation and how to repeat it.
Mend the server where it is wrong, else its description in gateway/edge/openapi/.
"""


async def _schemathesis(folder: Path, *options: str) -> tuple[int, str]:
    """Run it within `folder`; return its exit code and what it printed."""
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS)
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(settings)),
        *("run", "--no-color", "--request-timeout", "30", "--continue-on-failure", *options),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, printed.decode()


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Serve with everything switched on, and with money."""
    monkeypatch.setitem(ENVIRON, "GATEWAY_ADMIN_KEY", ADMIN_KEY)
    async with running_gateway(
        tmp_path,
        # Made-up links lead to nobody that is to be called.
        simulator=SimulatorSettings(
            latency_median_s=0.0, latency_sigma=0.0, seed=7, references=References.IGNORED
        ),
        budget="1000000",
        server='public_url = "http://127.0.0.1:9"',
        team="limits = { requests_per_minute = 100_000, images_per_minute = 1_000_000 }",
    ) as served:
        yield served


@pytest.mark.slow
async def test_the_server_does_what_the_document_says(running: Running, tmp_path: Path) -> None:
    """Every operation with every kind of wrong field, and with a few made-up calls."""
    code, printed = await _schemathesis(
        *(tmp_path, f"{running.url}/openapi.json", "--generation-deterministic"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "5"),
    )

    assert 0 == code, printed + HOW


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
async def test_however_long_one_tries(running: Running, tmp_path: Path) -> None:
    """With other calls each time, and with calls that build on each other."""
    code, printed = await _schemathesis(
        *(tmp_path, f"{running.url}/openapi.json", "--generation-database", "none"),
        *("--max-time", "1200"),
    )

    assert 0 == code, printed + HOW


@pytest.mark.slow
async def test_a_lie_is_found(running: Running, tmp_path: Path) -> None:
    """The net has no hole of that size: a field that is another is reported, also in a stream."""
    document = (await running.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    schemas["Model"]["properties"]["created"] = {"type": "string"}
    schemas["StreamEvent"]["oneOf"][0]["properties"]["created_at"] = {"type": "string"}
    lie = tmp_path / "openapi.json"
    lie.write_text(json.dumps(document))
    for phase, operation, words in (
        ("coverage", "models.list", "Response violates schema"),
        ("examples", "images.generations", "SSE event payload violates content schema"),
    ):
        code, printed = await _schemathesis(
            *(tmp_path, str(lie), "--url", running.url, "--generation-deterministic"),
            *("--phases", phase, "--include-operation-id", operation),
        )

        assert 1 == code, printed
        assert words in printed
