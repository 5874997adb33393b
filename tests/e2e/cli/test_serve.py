from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import CONFIG, ENVIRON, TEAM_KEY, serving_simulator

START_S = 30.0


@dataclass
class Served:
    """A `gateway serve` of its own."""

    process: asyncio.subprocess.Process
    url: str

    async def picture(self) -> httpx.Response:
        """Ask for one low square."""
        async with httpx.AsyncClient(timeout=30) as client:
            return await client.post(
                f"{self.url}/images/generations",
                json={
                    "model": "gpt-image-1.5",
                    "prompt": "a small red fox",
                    "quality": "low",
                    "size": "1024x1024",
                },
                headers={"Authorization": f"Bearer {TEAM_KEY}"},
            )


def write_config(folder: Path, upstream: str) -> Path:
    """Write a settings file for the simulator."""
    config = folder / "config.toml"
    config.write_text(
        CONFIG.format(
            wait="20s",
            budget="5",
            store_timeout="2s",
            upstream=upstream,
            upstream_host=upstream.removeprefix("http://"),
        )
    )
    return config


async def start(config: Path, *options: str, **environ: str) -> asyncio.subprocess.Process:
    """Start the command."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--config", str(config), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environ},  # noqa: TID251 - a child's environment
    )


@asynccontextmanager
async def served(config: Path) -> AsyncIterator[Served]:
    """Start the command, wait for its line, and end it if the test did not."""
    process = await start(config, **ENVIRON)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
        match = re.fullmatch(r"gateway: listening on (http://127\.0\.0\.1:\d+/v1)\n", line)
        assert match is not None, (line, await process.communicate())
        yield Served(process, match[1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


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
    async with served(config) as first:
        spent = (await first.picture()).headers["x-gateway-budget-remaining-usd"]
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
    async with served(config) as second:
        left = (await second.picture()).headers["x-gateway-budget-remaining-usd"]
        second.process.send_signal(signal.SIGTERM)
        code, _ = await ended(second.process)

    assert ("4.992148", "4.984296") == (spent, left)
    assert 0 == code


async def test_a_second_gateway_on_one_directory_says_so(config: Path) -> None:
    """The second one names the directory and ends with 1; the first goes on serving."""
    async with served(config) as first:
        code, errors = await ended(await start(config, **ENVIRON))
        answer = await first.picture()

    assert 1 == code
    assert "gateway: Another gateway" in errors
    assert str(config.parent / "valkey") in errors
    assert 200 == answer.status_code


async def test_missing_secrets_are_named_before_anything_starts(config: Path) -> None:
    """Every variable that is not set is told with its place in the file."""
    code, errors = await ended(await start(config))

    assert 1 == code
    for place in ("providers.evolink.api_key_env", "teams.design.keys[0].env"):
        assert place in errors
    assert not (config.parent / "valkey").exists()


async def test_a_taken_port_is_told(config: Path) -> None:
    """A port in use ends the command with 1 and a reason."""
    async with served(config) as first:
        port = first.url.split(":")[2].removesuffix("/v1")
        code, errors = await ended(await start(config, "--port", port, **ENVIRON))

    assert 1 == code
    assert f"gateway: cannot listen on 127.0.0.1:{port}" in errors


async def test_logs_are_json_lines_without_secrets(config: Path) -> None:
    """One line a request, in UTC, with its action; neither the prompt nor a key is in any."""
    async with served(config) as running:
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
