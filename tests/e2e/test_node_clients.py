"""One picture, one charge, for clients from Node: they are what most pictures are asked for with.

They are installed from tests/clients/package.json for the session. Where there is no Node, or no
registry to install them from, the tests are skipped and say so; any other failure is one.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, Running, running_gateway

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
#: The oldest Node that all of the clients run on.
NODE_MAJOR = 20
INSTALL_S = 90.0
#: What npm says when it cannot reach its registry, or is not let in.
UNREACHABLE = re.compile(
    r"\b(ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|E401|E403|E407|E5\d\d)\b"
)

SLOW = SimulatorSettings(latency_median_s=4.0, latency_sigma=0.0, seed=7)


def _node_major() -> int:
    """Return the major version of Node, zero without npm or it."""
    if not (shutil.which("node") and shutil.which("npm")):
        return 0
    told = subprocess.run(
        ["node", "--version"],  # noqa: S607 - whichever Node people use
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout.removeprefix("v").partition(".")[0])


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the clients and return the folder to run them in."""
    major = _node_major()
    if major < NODE_MAJOR:
        pytest.skip(f"no Node {NODE_MAJOR} with npm here" + (f", only {major}" if major else ""))
    folder = tmp_path_factory.mktemp("clients")
    shutil.copytree(CLIENTS, folder, dirs_exist_ok=True)
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
    try:
        installed = subprocess.run(
            ["npm", "install", *options],  # noqa: S607 - whichever npm people use
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install the clients within {INSTALL_S:.0f} s")
    if installed.returncode and (why := UNREACHABLE.search(installed.stderr)):
        pytest.skip(f"npm cannot reach its registry: {why[0]}")
    assert installed.returncode == 0, installed.stderr
    return folder


async def picture_by(folder: Path, script: str, running: Running, **environ: str) -> None:
    """Run a client, which must print that it has got a picture."""
    process = await asyncio.create_subprocess_exec(
        *("node", script),
        cwd=folder,
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
    tmp_path: Path, clients: Path, package: str
) -> None:
    """The stock SDK gives up twice before the picture is there, and pays once."""
    async with running_gateway(tmp_path, simulator=SLOW) as running:
        await picture_by(clients, "openai_image.mjs", running, PACKAGE=package, TIMEOUT_MS="1800")
        await assert_one_charge(running)


async def test_a_client_that_retries_without_a_sign_gets_its_one_picture(
    tmp_path: Path, clients: Path
) -> None:
    """The AI SDK's retry after a 504 does not say that it is one, and pays once all the same."""
    async with running_gateway(tmp_path, simulator=SLOW, wait="1s") as running:
        await picture_by(clients, "ai_sdk_image.mjs", running)
        await assert_one_charge(running)


@pytest.mark.parametrize("package", ["openai", "openai-6"])
async def test_a_client_that_is_kept_awake_needs_no_retry(
    tmp_path: Path, clients: Path, package: str
) -> None:
    """Spaces before the answer are read over, whatever the SDK makes of its first byte."""
    server = 'keepalive_after = "500ms"'
    async with running_gateway(tmp_path, simulator=SLOW, server=server) as running:
        await picture_by(clients, "openai_image.mjs", running, PACKAGE=package, TIMEOUT_MS="20000")

        assert 1 == (await running.simulated())["submits"]
