from __future__ import annotations

import asyncio
import json
import resource
import signal
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import (
    ENVIRON,
    START_S,
    serving_gateway,
    serving_simulator,
    start_gateway,
    write_config,
)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Return the exit code and what was printed to stderr."""
    async with asyncio.timeout(START_S):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


@pytest.fixture
async def config(tmp_path: Path) -> AsyncIterator[Path]:
    """Write a settings file in front of a simulator."""
    settings = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
    async with serving_simulator(settings) as upstream:
        yield write_config(tmp_path, upstream)


async def test_money_survives_a_kill(config: Path) -> None:
    """After kill -9 no server holds the directory, and the next start has the same books."""
    async with serving_gateway(config) as first:
        spent = (await first.picture()).headers["x-gateway-budget-remaining-usd"]
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
    async with serving_gateway(config) as second:
        left = (await second.picture()).headers["x-gateway-budget-remaining-usd"]
        second.process.send_signal(signal.SIGTERM)
        code, _ = await ended(second.process)

    assert ("4.992148", "4.984296") == (spent, left)
    assert 0 == code


async def test_a_second_gateway_on_one_directory_says_so(config: Path) -> None:
    """The second one names the directory and ends with 1; the first goes on serving."""
    async with serving_gateway(config) as first:
        code, errors = await ended(await start_gateway(config, **ENVIRON))
        answer = await first.picture()

    assert 1 == code
    assert "gateway: Another gateway" in errors
    assert str(config.parent / "valkey") in errors
    assert 200 == answer.status_code


async def test_all_descriptors_that_may_be_had_are_taken(config: Path) -> None:
    """Where the system begins with few, a gateway that serves has as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        async with serving_gateway(config) as running:
            taken, _ = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)) == taken


async def test_missing_secrets_are_named_before_anything_starts(config: Path) -> None:
    """Every variable that is not set is told with its place in the file."""
    code, errors = await ended(await start_gateway(config))

    assert 1 == code
    for place in ("providers.evolink.api_key_env", "teams.design.keys[0].env"):
        assert place in errors
    assert not (config.parent / "valkey").exists()


async def test_a_taken_port_is_told(config: Path) -> None:
    """A port in use ends the command with 1 and a reason."""
    async with serving_gateway(config) as first:
        port = first.url.split(":")[2].removesuffix("/v1")
        code, errors = await ended(await start_gateway(config, "--port", port, **ENVIRON))

    assert 1 == code
    assert f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use.\n" in errors


async def test_logs_are_json_lines_without_secrets(config: Path) -> None:
    """One line a request, in UTC, with its action; neither the prompt nor a key is in any."""
    async with serving_gateway(config) as running:
        await running.picture()
        running.process.send_signal(signal.SIGINT)
        code, errors = await ended(running.process)

    lines = [line for line in errors.splitlines() if line]
    assert 0 == code
    assert all(line.startswith("{") and line.endswith("}") for line in lines)
    [access] = [line for line in lines if '"action": "request"' in line]
    assert '"status": 200' in access
    assert "red fox" not in errors
    assert not any(secret in errors for secret in ENVIRON.values())


async def _printed(config: Path, *options: str) -> str:
    process = await start_gateway(config, *options)
    async with asyncio.timeout(START_S):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def test_the_settings_in_force_can_be_printed(tmp_path: Path) -> None:
    """Also where secrets are not at hand; a password is masked, and nothing is started."""
    address = 'url = "redis://user:hunter2-password@nowhere:6379/0"'
    config = write_config(tmp_path, "http://127.0.0.1:9", redis=address)
    printed, as_json = [
        await _printed(config, "--print-config", *options) for options in ((), ("--json",))
    ]
    settings = tomllib.loads(printed)

    assert settings == json.loads(as_json)
    assert "redis://**********@nowhere:6379/0" == settings["redis"]["url"]
    assert "10m" == settings["server"]["deadline"]
    assert "hunter2" not in printed + as_json
