from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.domain.ids import TeamId
from gateway.ledger.holds import user_hash
from gateway.store.client import Store
from tests.support.factories import an_admission
from tests.support.journal import a_journal, admitted, failed, submitted
from tests.support.valkey import ValkeyProcess


def purge(config: Path, *options: str) -> Result:
    """Purge what is ada's."""
    return CliRunner().invoke(app, ["purge", "--user", "ada", "--config", str(config), *options])


def test_an_end_user_s_tasks_go(valkey_process: ValkeyProcess, config: Path) -> None:
    """Over all teams; what runs is told with exit code 1, and so is a team that is none."""

    async def write() -> None:
        async with Store(valkey_process.url, timeout_ms=15_000) as store:
            await store.command("FLUSHALL")
            journal, ada = a_journal(store), user_hash(TeamId("design"), "ada")
            for name in ("over", "running"):
                task = (await admitted(journal, replace(an_admission(name), subject=ada))).task
                if name == "over":
                    await journal.conclude(task, await submitted(journal, task), failed())

    asyncio.run(write())
    elsewhere = purge(config, "--team", "desing")
    first, again = purge(config), purge(config, "--json")

    assert (1, True) == (elsewhere.exit_code, "no team 'desing'" in elsewhere.output)
    assert (1, "1 tasks are deleted.") == (first.exit_code, first.output.splitlines()[0])
    assert "running is still running: purge again when it is over." in first.output
    assert {"deleted": 0, "running": ["running"]} == json.loads(again.output)


def test_pictures_in_a_gateway_s_memory_are_out_of_reach(config: Path) -> None:
    """Nothing is deleted rather than half of it."""
    config.write_text(config.read_text() + '[assets]\nurl = "memory:"\n')
    refused = purge(config)

    assert 1 == refused.exit_code
    assert "out of reach" in refused.output
