"""Uploads that end before they should: nothing is lost, paid for nothing, or left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.cli.fault_points import FAULT_ENV
from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import (
    TEAM_KEY,
    ServedProcess,
    running_gateway,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.processes import files_below, open_files
from tests.support.uploads import a_file, a_form, a_part, a_picture, form_headers
from tests.support.valkey import ValkeyProcess

QUICK = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
FIELDS = [
    a_part("model", "gpt-image-1.5"),
    a_part("prompt", "make it blue"),
    a_part("quality", "low"),
    a_part("size", "1024x1024"),
]
AUTHORIZATION = {"authorization": f"Bearer {TEAM_KEY}"}


async def edit(server: ServedProcess, picture: bytes, **headers: str) -> httpx.Response:
    """Ask for an edit; names of headers are written with underscores."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(
            f"{server.url}/images/edits",
            content=a_form([*FIELDS, a_file(picture)]),
            headers=form_headers() | AUTHORIZATION | told,
        )


async def half_of(body: bytes, sent: asyncio.Event) -> AsyncIterator[bytes]:
    """Send half of a body, and then nothing more."""
    yield body[: len(body) // 2]
    sent.set()
    await asyncio.Event().wait()


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """Serve a quick simulator."""
    async with serving_simulator(QUICK) as url:
        yield url


async def stats_of(upstream: str) -> dict[str, float]:
    """Return the simulator's own counts."""
    async with httpx.AsyncClient() as client:
        stats: dict[str, float] = (await client.get(f"{upstream}/_sim/stats")).json()
    return stats


async def test_a_server_that_is_killed_while_it_takes_an_upload(
    valkey_process: ValkeyProcess, store: Store, tmp_path: Path, upstream: str
) -> None:
    """`kill -9` in the middle: no byte of it is left, and the next one serves as ever."""
    config = write_config(tmp_path, upstream, redis=f'url = "{valkey_process.url}"')
    picture = a_picture() + os.urandom(8_000_000)
    body, sent = a_form([*FIELDS, a_file(picture)]), asyncio.Event()
    async with (
        serving_gateway(config) as server,
        httpx.AsyncClient(timeout=60) as client,
        asyncio.TaskGroup() as group,
    ):
        posting = group.create_task(
            client.post(
                f"{server.url}/images/edits",
                content=half_of(body, sent),
                headers=form_headers() | AUTHORIZATION,
            )
        )
        await sent.wait()
        spool = tmp_path / "var" / "spool"
        while not open_files(server.process.pid, spool):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
        server.process.kill()
        await server.process.wait()
        posting.cancel()

    assert [] == files_below(spool)
    assert [] == files_below(tmp_path / "assets")
    async with serving_gateway(config) as server:
        answer = await edit(server, picture)
        assert 0 == open_files(server.process.pid, spool)
    assert 200 == answer.status_code
    assert [] == files_below(spool)
    # The picture is kept for its time; what it was made of goes with its task.
    kept = [each for each in files_below(tmp_path / "assets") if "/references/" not in each]
    assert 1 == len(kept), kept
    assert 1 == (await stats_of(upstream))["submits"]


@pytest.mark.parametrize("point", ["admitted", "uploaded"])
async def test_an_edit_survives_its_replica(
    valkey_process: ValkeyProcess, store: Store, tmp_path: Path, upstream: str, point: str
) -> None:
    """Killed before or after its references went up: another one submits it, once."""
    config = write_config(
        tmp_path, upstream, redis=f'url = "{valkey_process.url}"', server='lease = "1s"'
    )
    picture = a_picture()
    async with (
        serving_gateway(config, **{FAULT_ENV: f"kill:{point}"}) as first,
        serving_gateway(config) as second,
    ):
        with pytest.raises(httpx.TransportError):
            await edit(first, picture, x_stainless_retry_count="0")
        answer = await edit(second, picture, x_stainless_retry_count="1")

    assert (200, "true") == (answer.status_code, answer.headers["x-gateway-joined"])
    stats = await stats_of(upstream)
    assert (1, 1, 1) == (stats["submits"], stats["files"], stats["references_read"])


async def test_a_client_that_goes_away_in_the_middle(tmp_path: Path) -> None:
    """Its files are closed at once; nothing was admitted."""
    body, sent = a_form([*FIELDS, a_file(a_picture() + os.urandom(4_000_000))]), asyncio.Event()
    spool = tmp_path / "var" / "spool"
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await running.client.post(
                    "/v1/images/edits", content=half_of(body, sent), headers=form_headers()
                )
        assert sent.is_set()
        async with asyncio.timeout(60):
            while open_files(os.getpid(), spool):  # noqa: ASYNC110 - the kernel sets no event
                await asyncio.sleep(0.01)
        tasks = (await running.client.get("/v1/images/tasks")).json()["data"]

    assert ([], [], []) == (tasks, files_below(spool), files_below(tmp_path / "assets"))


async def test_a_store_of_pictures_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 and another try; nothing was submitted, and no file is left."""
    async with running_gateway(tmp_path, simulator=QUICK) as running:
        body = a_form([*FIELDS, a_file(a_picture())])
        folder = tmp_path / "assets" / "design"
        folder.parent.mkdir(exist_ok=True)
        # Where a folder of the team has to be, there is a file.
        folder.touch()
        refused = await running.client.post(
            "/v1/images/edits", content=body, headers=form_headers()
        )
        folder.unlink()
        taken = await running.client.post(
            "/v1/images/edits",
            content=body,
            headers=form_headers() | {"x-stainless-retry-count": "1"},
        )
        stats = await running.simulated()

    assert (503, "storage_unavailable", "2") == (
        refused.status_code,
        refused.json()["error"]["code"],
        refused.headers["retry-after"],
    )
    assert (200, 1) == (taken.status_code, stats["submits"])
    assert [] == files_below(tmp_path / "var" / "spool")
