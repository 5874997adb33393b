"""One picture, one charge, for clients from Node: they are what most pictures are asked for with.

They are installed from tests/clients/node/package.json for the session, with a Node of their own.
Where there is no registry to install them from, the tests are skipped and say so.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.clients.environments import (
    NODE_CLIENTS,
    NotInstalledError,
    known_clients,
    node_of,
    npm_folder,
)
from tests.support.gateway import TEAM_KEY, Running, running_gateway

SLOW = SimulatorSettings(latency_median_s=4.0, latency_sigma=0.0, seed=7)


@dataclass(frozen=True, slots=True)
class Installed:
    """The folder that clients run in, and the Node that runs them."""

    folder: Path
    node: Path


async def _installed() -> Installed:
    node = await node_of(known_clients()[1])
    package_json = (NODE_CLIENTS / "package.json").read_text()
    return Installed(await npm_folder("node-alike", package_json, node), node)


@pytest.fixture(scope="session")
def clients() -> Installed:
    """Install the clients, and Node itself out of its wheel."""
    try:
        return asyncio.run(_installed())
    except NotInstalledError as error:
        if not error.unreachable:
            raise
        pytest.skip(str(error))


async def picture_by(installed: Installed, script: str, running: Running, **environ: str) -> None:
    """Run a client, which must print that it has got a picture."""
    process = await asyncio.create_subprocess_exec(
        *(str(installed.node), script),
        cwd=installed.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],  # noqa: TID251 - a child's environment
            "BASE_URL": f"{running.url}/v1",
            "API_KEY": TEAM_KEY,
            **environ,
        },
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, err.decode()
    assert "PNG" == orjson.loads(out)["head"]


async def assert_one_charge(running: Running) -> None:
    """One submission, one picture, one charge, and at least one retry that was joined to it."""
    stats, metrics = await running.simulated(), await running.metrics()
    spent, held = await running.budget()

    assert (1, 1) == (stats["submits"], stats["renders_completed"])
    assert (stats["cost_microusd"], 0) == (spent, held)
    assert metrics['gateway_joined_retries_total{team="design"}'] >= 1


@pytest.mark.parametrize("package", ["openai", "openai-6"])
async def test_a_client_that_times_out_gets_its_one_picture_by_its_retry(
    tmp_path: Path, clients: Installed, package: str
) -> None:
    """The stock SDK gives up twice before the picture is there, and pays once."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        await picture_by(clients, "openai_image.mjs", running, PACKAGE=package, TIMEOUT_MS="1800")
        await assert_one_charge(running)


async def test_a_client_that_retries_without_a_sign_gets_its_one_picture(
    tmp_path: Path, clients: Installed
) -> None:
    """The AI SDK's retry after a 504 does not say that it is one, and pays once all the same."""
    async with running_gateway(tmp_path, simulator=SLOW, wait="1s") as running:
        await picture_by(clients, "ai_sdk_image.mjs", running)
        await assert_one_charge(running)


@pytest.mark.parametrize("package", ["openai", "openai-6"])
async def test_a_client_that_is_kept_awake_needs_no_retry(
    tmp_path: Path, clients: Installed, package: str
) -> None:
    """Spaces before the answer are read over, whatever the SDK makes of its first byte."""
    server = 'keepalive_after = "500ms"'
    async with running_gateway(tmp_path, simulator=SLOW, server=server) as running:
        await picture_by(clients, "openai_image.mjs", running, PACKAGE=package, TIMEOUT_MS="20000")

        assert 1 == (await running.simulated())["submits"]
