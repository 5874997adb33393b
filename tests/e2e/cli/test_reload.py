"""`gateway reload` against two workers, and their parent's part in it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import (
    ENVIRON,
    START_S,
    TEAM_KEY,
    serving_gateway,
    serving_simulator,
    start_gateway,
    write_config,
)
from tests.support.live import NEW_KEY, NEWCOMER, Caller, SettingsFile, until
from tests.support.processes import connected_to, workers_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel by /proc")

SIMULATOR = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
NEW_TEAM = NEWCOMER.format(variable="NEW_KEY")
REPLICA = r"[0-9a-z_]+"


async def reload(config: Path, *options: str) -> tuple[int | None, list[str], str]:
    """Run the command; return its exit code, what it printed, and its errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "reload", "--config", str(config), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **ENVIRON, "NEW_KEY": NEW_KEY},  # noqa: TID251 - a child's environment
    )
    printed, errors = await process.communicate()
    return process.returncode, printed.decode().splitlines(), errors.decode()


async def accepts(root: str, worker: int) -> bool:
    """Tell whether a worker takes connections yet."""
    try:
        await (await connected_to(root, worker)).aclose()
    except RuntimeError:
        return False
    return True


def matches(pattern: str, lines: list[str]) -> list[bool]:
    """Tell of each line whether it is of this form."""
    return [re.fullmatch(pattern, line) is not None for line in lines]


@pytest.mark.slow
async def test_every_worker_takes_the_file_and_says_so(tmp_path: Path) -> None:
    """Asked by the command or by SIGHUP to the parent; who starts later has it, too."""
    async with serving_simulator(SIMULATOR) as upstream:
        file = SettingsFile(write_config(tmp_path, upstream, server='watch = false\nlease = "1s"'))
        async with serving_gateway(file.path, "--workers", "2", NEW_KEY=NEW_KEY) as served:
            parent, design = served.process.pid, Caller(served.url, TEAM_KEY)
            newcomer = Caller(served.url, NEW_KEY)
            file.add(NEW_TEAM)
            taken = await reload(file.path)
            statuses = [await newcomer.status() for _ in range(8)]
            file.replace('data_dir = "valkey"', 'data_dir = "valkey"\nacknowledge_on_disk = true')
            refused = await reload(file.path)
            file.replace("\nacknowledge_on_disk = true", "")
            file.replace('models = ["gpt-image-*"]', 'models = ["gpt-image-1.5"]')
            served.process.send_signal(signal.SIGHUP)

            async def counts() -> dict[str, int]:
                return await design.reloads()

            await until(counts, {"taken": 4, "refused": 2, "unchanged": 0})
            there = workers_of(parent)
            os.kill(there[0], signal.SIGKILL)

            async def later() -> bool:
                return len([pid for pid in workers_of(parent) if pid not in there]) == 1

            await until(later, wanted=True)
            [late] = set(workers_of(parent)) - set(there)
            await until(partial(accepts, served.url.removesuffix("/v1"), late), wanted=True)
            client = await connected_to(served.url.removesuffix("/v1"), late)
            client.headers["Authorization"] = f"Bearer {NEW_KEY}"
            by_the_late_one = (await client.get("/v1/models")).status_code
            await client.aclose()

    code, lines, _ = taken
    assert (0, [True, True]) == (code, matches(f"{REPLICA}: taken: teams.newcomer", lines))
    assert [200] * 8 == statuses
    code, lines, _ = refused
    assert (1, [True, True]) == (code, matches(f"{REPLICA}: refused", lines[::2]))
    fixed = "  redis.acknowledge_on_disk: cannot change while the gateway runs: restart it"
    assert [fixed, fixed] == lines[1::2]
    assert 200 == by_the_late_one


async def test_a_mistake_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    """As `gateway check` tells it; a right file of a gateway that does not run is told apart."""
    file = SettingsFile(write_config(tmp_path, "http://127.0.0.1:1"))
    nobody = await reload(file.path)
    file.add("\n[teams.newcomer]\nbudgets = [{ usd = 1 }]\n")
    checked = CliRunner().invoke(app, ["check", str(file.path)])
    code, lines, errors = await reload(file.path)

    told = f"gateway: no gateway runs on the store of {file.path}: it will read the file when it"
    assert (1, []) == nobody[:2]
    assert f"{told} starts.\n" == nobody[2]
    assert not (tmp_path / "valkey").exists()
    assert (1, []) == (code, lines)
    assert checked.stderr == errors


async def test_with_json_programs_read_who_serves_and_who_took_it(tmp_path: Path) -> None:
    """The address as it is served, and an entry for each replica."""
    config = write_config(tmp_path, "http://127.0.0.1:1")
    process = await start_gateway(config, "--json", **ENVIRON)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            told = json.loads(await process.stdout.readline())
        status = await Caller(told["listening"], TEAM_KEY).status()
        code, lines, _ = await reload(config, "--json")
    finally:
        process.terminate()
        await process.communicate()

    assert (200, None) == (status, told["operators"])
    [answer] = json.loads("\n".join(lines))
    assert (0, "unchanged", []) == (code, answer["outcome"], answer["lines"])
    assert re.fullmatch(REPLICA, answer["replica"])
