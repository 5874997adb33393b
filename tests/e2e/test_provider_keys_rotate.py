"""The key of an upstream's account, exchanged in its file while a gateway serves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, serving_gateway, serving_simulator, write_config
from tests.support.live import UNBILLED, Caller, SettingsFile, logged, until
from tests.support.uploads import a_picture

SIMULATOR = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)
OLD, NEW = "sk-evo-old-5a6b7c8d9e0f", "sk-evo-new-0f9e8d7c6b5a"
REVOKED = {"error": {"code": "unauthorized", "message": "Invalid key", "type": "authentication"}}


@dataclass
class Door:
    """Lets in whoever has the key of the moment; pictures are had without one."""

    key: str = OLD
    app: ASGIApp | None = None

    def before(self, app: ASGIApp) -> ASGIApp:
        """Stand before an application."""
        self.app = app
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        assert self.app is not None
        asks = scope["type"] == "http" and scope["path"].startswith(("/v1/", "/api/"))
        if asks and Headers(scope=scope).get("authorization") != f"Bearer {self.key}":
            return await JSONResponse(REVOKED, 401)(scope, receive, send)
        return await self.app(scope, receive, send)


async def edited(url: str) -> int:
    """Edit a picture that is brought up to the upstream's files; return how it is answered."""
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(
            f"{url}/images/edits",
            data={"model": "gpt-image-1.5", "prompt": "at night", "quality": "low"},
            files={"image": ("fox.png", a_picture(), "image/png")},
            headers={"Authorization": f"Bearer {TEAM_KEY}"},
        )
    return answer.status_code


async def test_a_new_key_in_its_file_is_used_from_the_next_call_on(tmp_path: Path) -> None:
    """No restart: orders, polls of what was ordered before, and uploads go by the new one."""
    door = Door()
    held = tmp_path / "upstream-key"
    held.write_text(f"{OLD}\n")
    async with (
        serving_simulator(SIMULATOR, behind=door.before) as upstream,
        asyncio.TaskGroup() as group,
    ):
        file = SettingsFile(write_config(tmp_path, upstream))
        file.replace('api_key_env = "EVOLINK_API_KEY"', 'api_key_file = "upstream-key"')
        with (tmp_path / "log").open("wb") as log:
            async with serving_gateway(file.path, log=log.fileno()) as served:
                caller = Caller(served.url)
                by_old = [(await caller.picture(UNBILLED.format(seconds=0))).status_code]
                by_old.append(await edited(served.url))
                slow = group.create_task(caller.picture(UNBILLED.format(seconds=2)))
                await until(partial(_orders_in, tmp_path / "log"), wanted=3)
                door.key = NEW
                revoked = (await caller.picture(UNBILLED.format(seconds=0))).status_code
                # In one step, as whoever mounts secrets does it.
                (tmp_path / "next").write_text(NEW)
                (tmp_path / "next").replace(held)
                await until(partial(_told, caller, "taken"), wanted=1)
                by_new = [(await caller.picture(UNBILLED.format(seconds=0))).status_code]
                by_new += [await edited(served.url), (await slow).status_code]
                held.write_text("")
                await until(partial(_told, caller, "refused"), wanted=1)
                without = (await caller.picture(UNBILLED.format(seconds=0))).status_code

    assert ([200, 200], 503) == (by_old, revoked)
    assert [200, 200, 200] == by_new
    assert 200 == without
    [taken], [refused] = (
        logged(tmp_path / "log", f"config_{what}") for what in ("taken", "refused")
    )
    assert ["providers.evolink.api_key_file"] == taken["settings"]
    assert ["providers.evolink.api_key_file: the file is empty"] == refused["problems"]
    said = (tmp_path / "log").read_text()
    assert OLD not in said
    assert NEW not in said


async def _orders_in(log: Path) -> int:
    """Return how many orders are written down."""
    return log.read_text().count('"event": "task_submitted"')


async def _told(caller: Caller, outcome: str) -> int:
    """Return how often the file has been looked at with this outcome."""
    return (await caller.reloads())[outcome]
