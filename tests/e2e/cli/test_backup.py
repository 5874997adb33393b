"""The books go back to an older day: nothing is charged twice, and what is missing is told."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from gateway.cli.fault_points import FAULT_ENV
from gateway.cli.main import app
from gateway.simulator.settings import SimulatorSettings
from gateway.store.backup import write_backup
from gateway.store.client import Store
from gateway.store.embedded import EmbeddedServer
from tests.support.command_line import gateway
from tests.support.gateway import (
    ENVIRON,
    START_S,
    ServedProcess,
    serving_gateway,
    serving_simulator,
    write_config,
)

#: What the first picture costs: 272 image tokens at 28.8, two text tokens at 4.5.
COST_MICROUSD = 7_843


async def end(served: ServedProcess) -> None:
    """Stop a gateway and its store."""
    served.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(START_S):
        await served.process.communicate()


async def submitted(upstream: str) -> int:
    """Return how many orders the simulator took."""
    async with httpx.AsyncClient() as client:
        return int((await client.get(f"{upstream}/_sim/stats")).json()["submits"])


async def until_submitted(upstream: str) -> None:
    """Return once the simulator has taken an order."""
    async with asyncio.timeout(START_S):
        while await submitted(upstream) == 0:  # noqa: ASYNC110 - another server's
            await asyncio.sleep(0.02)


async def spent_microusd(config: Path) -> int:
    """Return what has been spent, by the books."""
    told = await gateway("usage", "--json", config=config)
    return int(json.loads(told.printed)["total"]["cost"]["microusd"])


@pytest.mark.slow
async def test_what_was_made_since_the_backup_is_told_and_not_made_again(tmp_path: Path) -> None:
    """While the backup is made, a picture is being made and one waits; a third comes after it.

    The first is followed from the restored journal on, and booked. The second was submitted after
    the backup, whose journal says that it waits: it is not submitted again. It and the third are
    told as made, and in nobody's books.
    """
    settings = SimulatorSettings(latency_median_s=0.2, latency_sigma=0.0, seed=7)
    file = tmp_path / "books.tar"
    async with serving_simulator(settings) as upstream:
        config = write_config(tmp_path, upstream, provider="max_in_flight = 1")
        async with serving_gateway(config) as served:
            async with asyncio.TaskGroup() as group:
                group.create_task(served.picture("a fox [[latency:8]]"))
                await until_submitted(upstream)
                group.create_task(served.picture())
                made = await gateway("backup", file, config=config)
            await served.picture()
            await end(served)

        again = await gateway("restore", file, config=config)
        restored = await gateway("restore", file, "--replace", "--json", config=config)
        told = json.loads(restored.printed)
        async with serving_gateway(config) as served:
            booked = await spent_microusd(config)
            async with asyncio.timeout(START_S):
                while booked == 0:
                    booked = await spent_microusd(config)
            await end(served)
        submits = await submitted(upstream)
        verified = await gateway("ledger", "verify", config=config)

    assert 0 == made.exit_code, made.errors
    assert (1, True) == (again.exit_code, "--replace" in again.errors)
    [account] = told["accounts"]
    assert ("evolink", 2, 1) == (account["provider"], len(account["unbooked"]), told["withdrawn"])
    assert {"completed"} == {task["status"] for task in account["unbooked"]}
    assert (3, COST_MICROUSD) == (submits, booked)
    assert 0 == verified.exit_code, verified.printed


@asynccontextmanager
async def store_of(data_dir: Path) -> AsyncIterator[Store]:
    """Run the server of a directory as a gateway does at its start."""
    server = EmbeddedServer(data_dir)
    await server.start()
    try:
        async with Store(server.url, timeout_ms=15_000) as store:
            yield store
    finally:
        await server.stop()


async def is_killed(*words: str | Path, config: Path, at: str) -> bool:
    """Run a command that is killed at a step, like by the kernel; tell whether it was."""
    done = await gateway(*words, config=config, **{FAULT_ENV: f"kill:{at}"})
    return done.exit_code == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "in_force", "told"),
    [
        ("unpacked", "old", "is undone: the books are those from before it"),
        ("compared", "old", "is undone"),
        ("ready", "old", "is undone"),
        ("decided", "new", "is finished now; older books are in"),
        ("aside", "new", "is finished now"),
        ("replaced", "new", "is finished now"),
    ],
)
async def test_a_restore_is_killed(tmp_path: Path, step: str, in_force: str, told: str) -> None:
    """Either books are in force, whole; the next start says which, and clears up."""
    config, data_dir = write_config(tmp_path, "http://127.0.0.1:9"), tmp_path / "valkey"
    async with store_of(data_dir) as store:
        await store.command("SET", "books", "new")
        file = tmp_path / "books.tar"
        await write_backup(store, data_dir, file, now_ms=1_790_000_000_000, version="1")
        await store.command("SET", "books", "old")

    killed = await is_killed("restore", file, "--replace", config=config, at=step)
    with capture_logs() as logs:
        async with store_of(data_dir) as store:
            books = await store.command("GET", "books")
    left = {path.name for path in data_dir.iterdir() if path.suffix not in {".lock", ".log"}}
    aside = {name for name in left if name.startswith("appendonlydir.")}

    assert (killed, books) == (True, in_force.encode())
    assert [told in line["reason"] for line in logs if "reason" in line] == [True]
    assert (in_force == "new") == bool(aside)
    assert left - aside == {"appendonlydir"}


@pytest.mark.parametrize("step", ["saved", "packed"])
async def test_a_backup_is_killed(tmp_path: Path, step: str) -> None:
    """The backup before it stays as it is; nothing is left behind by the next one."""
    config, data_dir = write_config(tmp_path, "http://127.0.0.1:9"), tmp_path / "valkey"
    folder = tmp_path / "backups"
    folder.mkdir()
    file = folder / "books.tar"
    async with store_of(data_dir) as store:
        await store.command("SET", "a key", "of two")
        await write_backup(store, data_dir, file, now_ms=17, version="1")
        before = file.read_bytes()
        await store.command("SET", "another", "of two")
        killed = await is_killed("backup", file, config=config, at=step)
        kept = file.read_bytes()
        left = {path.name for path in folder.iterdir()} | {
            path.name for path in data_dir.glob("*.rdb")
        }
        again = await gateway("backup", file, config=config)
        left_after = {path.name for path in (*folder.iterdir(), *data_dir.glob("*.rdb"))}

    assert (killed, kept) == (True, before)
    assert left > {"dump.rdb"}
    assert ("2 keys" in again.printed, left_after) == (True, {"books.tar"})


def test_only_the_embedded_store_is_backed_up(tmp_path: Path) -> None:
    """A server of somebody else's has backups of its own."""
    config = write_config(tmp_path, "http://127.0.0.1:9", redis='url = "redis://nowhere"')
    done = CliRunner().invoke(
        app, ["backup", str(tmp_path / "x"), "--config", str(config)], env=ENVIRON
    )

    assert 1 == done.exit_code
    assert "its own backups" in done.output
