"""The whole product in one event loop: simulator, embedded store, gateway, each as it ships."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp

from gateway.app import Server, listen, serve
from gateway.assembly.build import build
from gateway.assembly.gateway import Gateway
from gateway.config.load import load
from gateway.simulator.app import create_simulator
from gateway.simulator.rules import Rule
from gateway.simulator.settings import SimulatorSettings

TEAM_KEY = "sk-team-0123456789abcdef0123"
OTHER_KEY = "sk-other-0123456789abcdef012"
UPSTREAM_KEY = "sk-evo-upstream-secret"

CONFIG = """
[server]
port = 0
wait = "{wait}"
drain = "{drain}"
{server}

[redis]
{redis}
timeout = "{store_timeout}"

[assets]
{assets}

{sections}

[polling]
min_interval = "50ms"

[providers.evolink]
kind = "evolink"
base_url = "{upstream}"
result_hosts = ["{upstream_host}"]
api_key_env = "EVOLINK_API_KEY"
submit_timeout = "{submit_timeout}"
max_submits_per_second = 0
{provider}

[models."gpt-image-1.5"]
routes = ["evolink"]
{model}

[teams.design]
models = ["{team_models}"]
budgets = [{{ usd = {budget}, per = "month" }}]
{team}

[[teams.design.keys]]
name = "ci"
env = "TEAM_KEY"
{key}

[teams.others]
models = ["dall-e-*"]

[[teams.others.keys]]
name = "ci"
env = "OTHER_KEY"
"""

#: What stands in the placeholders unless a test says otherwise.
DEFAULTS = {
    "wait": "20s",
    "server": "",
    "sections": "",
    "provider": "",
    "budget": "5",
    "store_timeout": "2s",
    "submit_timeout": "2s",
    "redis": 'data_dir = "valkey"',
    "assets": 'url = "file:assets"',
    "team": "",
    "model": "",
    "team_models": "gpt-image-*",
    "key": "",
    "drain": "2s",
}

#: How long a process may take to start or stop.
START_S = 90.0

ENVIRON = {"EVOLINK_API_KEY": UPSTREAM_KEY, "TEAM_KEY": TEAM_KEY, "OTHER_KEY": OTHER_KEY}


def write_config(folder: Path, upstream: str, **placeholders: str) -> Path:
    """Write a settings file for an upstream; return its path."""
    config = folder / "config.toml"
    config.write_text(
        CONFIG.format(
            **DEFAULTS | placeholders,
            upstream=upstream,
            upstream_host=upstream.partition("://")[2],
        )
    )
    return config


@dataclass(frozen=True, slots=True)
class Running:
    """A served gateway: where it is, a client of the team, and the simulator behind it."""

    gateway: Gateway
    url: str
    client: httpx.AsyncClient
    upstream: str
    stop: asyncio.Event
    served: asyncio.Task[None]

    async def generate(
        self, prompt: str = "a small red fox", *, patience_s: float = 60, **fields: object
    ) -> httpx.Response:
        """Ask for a low square picture, unless told otherwise."""
        body = {"model": "gpt-image-1.5", "prompt": prompt, "quality": "low"} | fields
        body.setdefault("size", "1024x1024")
        return await self.client.post("/v1/images/generations", json=body, timeout=patience_s)

    async def until_submitted(self, count: int = 1) -> None:
        """Return once the simulator has taken so many orders."""
        async with asyncio.timeout(START_S):
            while (await self.simulated())["submits"] < count:  # noqa: ASYNC110 - another server's
                await asyncio.sleep(0.02)

    async def hang_up(self, prompt: str = "a small red fox") -> None:
        """Ask for a picture, and go away once it is ordered."""
        count = int((await self.simulated())["submits"]) + 1
        call = asyncio.get_running_loop().create_task(self.generate(prompt))
        await self.until_submitted(count)
        call.cancel()
        await asyncio.wait({call})

    async def until_told(self) -> None:
        """Return once the organization has heard what everything came to: it holds nothing."""
        store = self.gateway.store
        async with asyncio.timeout(START_S):
            while True:
                keys = await store.command("KEYS", "{org}:budget:*")
                assert isinstance(keys, list)
                held = [await store.command("HGET", key, "held") for key in keys]  # type: ignore[arg-type]
                if set(held) == {b"0"}:
                    return
                await asyncio.sleep(0.02)

    async def simulated(self) -> dict[str, float]:
        """Return the simulator's own counts."""
        async with httpx.AsyncClient() as client:
            stats: dict[str, float] = (await client.get(f"{self.upstream}/_sim/stats")).json()
        return stats

    async def metrics(self) -> dict[str, float]:
        """Return every sample by its name and labels as the scrape writes them."""
        text = (await self.client.get("/metrics")).text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def budget(self) -> tuple[int, int]:
        """Return the micro-dollars spent and held in the team's only budget window."""
        store = self.gateway.store
        keys = await store.command("KEYS", "{t:design}:budget:team:*")
        assert isinstance(keys, list)
        if not keys:
            return 0, 0
        [key] = keys
        assert isinstance(key, bytes)
        reply = await store.command("HMGET", key, "spent", "held")
        assert isinstance(reply, list)
        spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
        return spent, held


@asynccontextmanager
async def serving_simulator(
    settings: SimulatorSettings,
    rules: Sequence[Rule] = (),
    *,
    behind: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> AsyncIterator[str]:
    """Serve a simulator on a free port, `behind` whatever is put before it; yield its URL."""
    listener = listen("127.0.0.1", 0)
    app = behind(create_simulator(settings, rules=rules))
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False)
    server = Server(config)
    async with asyncio.TaskGroup() as group:
        served = group.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await asyncio.wait({served})


@asynccontextmanager
async def running_gateway(
    folder: Path,
    *,
    simulator: SimulatorSettings | None = None,
    rules: Sequence[Rule] = (),
    upstream: str = "",
    prepare: Callable[[Gateway], None] = lambda _: None,
    **placeholders: str,
) -> AsyncIterator[Running]:
    """Serve the product from `folder`, with an upstream of its own unless one is named.

    `placeholders` fill `CONFIG`; in that of the server, URL stands for where it will listen.
    """
    simulator = simulator or SimulatorSettings(latency_median_s=0.2, latency_sigma=0.0, seed=7)
    async with serving_simulator(simulator, rules) as simulator_url:
        listener = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        placeholders["server"] = placeholders.get("server", "").replace("URL", url)
        config = write_config(folder, upstream or simulator_url, **placeholders)
        stop, started = asyncio.Event(), asyncio.Event()
        async with (
            build(load(config, ENVIRON)) as gateway,
            httpx.AsyncClient(
                base_url=url, headers={"Authorization": f"Bearer {TEAM_KEY}"}, timeout=60
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            prepare(gateway)
            served = group.create_task(serve(gateway, listener, stop=stop, on_started=started.set))
            await started.wait()
            try:
                yield Running(gateway, url, client, simulator_url, stop, served)
            finally:
                await client.aclose()
                stop.set()
                # Waited for here: a group left by an error would cancel the server mid-way.
                await asyncio.wait({served})


@dataclass
class ServedProcess:
    """A `gateway serve` of its own."""

    process: asyncio.subprocess.Process
    url: str

    async def picture(self, prompt: str = "a small red fox", **headers: str) -> httpx.Response:
        """Ask for one low square; names of headers are written with underscores."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(timeout=150) as client:
            return await client.post(
                f"{self.url}/images/generations",
                json={
                    "model": "gpt-image-1.5",
                    "prompt": prompt,
                    "quality": "low",
                    "size": "1024x1024",
                },
                headers={"Authorization": f"Bearer {TEAM_KEY}"} | told,
            )


async def start_gateway(
    config: Path, *options: str, log: int = asyncio.subprocess.PIPE, **environ: str
) -> asyncio.subprocess.Process:
    """Start the command; `log` is a file that takes what it prints beside its first line."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--config", str(config), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env={"PATH": os.environ["PATH"], **environ},  # noqa: TID251 - a child's environment
    )


@asynccontextmanager
async def serving_gateway(
    config: Path, *options: str, log: int = asyncio.subprocess.PIPE, **environ: str
) -> AsyncIterator[ServedProcess]:
    """Start the command, wait for its line, and end it if the test did not."""
    process = await start_gateway(config, *options, log=log, **ENVIRON, **environ)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
        match = re.fullmatch(r"gateway: listening on (https?://127\.0\.0\.1:\d+/v1)\n", line)
        assert match is not None, (line, await process.communicate())
        yield ServedProcess(process, match[1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
