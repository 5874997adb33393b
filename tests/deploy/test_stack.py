"""The processes of compose.yml on this machine: store, simulator, two gateways, nginx."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from openai import AsyncOpenAI
from PIL import Image

from gateway.simulator.settings import SimulatorSettings
from tests.deploy.test_files import DEPLOY, ROOT, tool
from tests.support.gateway import (
    ENVIRON,
    START_S,
    ServedProcess,
    serving_gateway,
    serving_simulator,
)
from tests.support.valkey import ValkeyProcess, free_ports

KEY = "sk-design-0123456789abcdef"


@dataclass(frozen=True)
class Stack:
    """What runs: where it is reached, and the gateways behind."""

    url: str
    gateways: list[ServedProcess]
    config: Path
    environ: dict[str, str]


@asynccontextmanager
async def nginx(folder: Path, gateways: list[str]) -> AsyncIterator[str]:
    """Serve with the shipped settings, only the addresses replaced; yield the URL."""
    [port] = free_ports(1)
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    for number, url in enumerate(gateways, start=1):
        assert f"gateway-{number}:8080" in text
        text = text.replace(f"gateway-{number}:8080", urlsplit(url).netloc)
    assert "listen 8080;" in text
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    temporary = "\n".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"{user} daemon off; pid {folder}/nginx.pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\n{text}\n}}\n"
    )
    process = await asyncio.create_subprocess_exec(tool("nginx"), "-c", str(config))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def stack(valkey_process: ValkeyProcess, tmp_path: Path) -> AsyncIterator[Stack]:
    """Run all of it with the settings that compose mounts, only the addresses replaced."""
    text = (DEPLOY / "compose" / "config.toml").read_text()
    settings = SimulatorSettings(latency_median_s=1.0, latency_sigma=0.2, seed=7)
    async with AsyncExitStack() as held:
        upstream = await held.enter_async_context(serving_simulator(settings))
        for there, here in (
            ("simulator:9100", urlsplit(upstream).netloc),
            ("/var/lib/gateway", str(tmp_path / "data")),
        ):
            assert there in text
            text = text.replace(there, here)
        config = tmp_path / "etc" / "config.toml"
        config.parent.mkdir()
        config.write_text(text)
        environ = {"REDIS_URL": valkey_process.url, "DESIGN_CI_KEY": KEY}
        gateways = [
            await held.enter_async_context(
                serving_gateway(config, "--port", "0", log=asyncio.subprocess.DEVNULL, **environ)
            )
            for _ in range(2)
        ]
        proxy = await held.enter_async_context(nginx(tmp_path, [one.url for one in gateways]))
        async with asyncio.timeout(START_S), httpx.AsyncClient() as client:
            while True:
                try:
                    await client.get(f"{proxy}/healthz")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield Stack(proxy, gateways, config, ENVIRON | environ)


@pytest.mark.usefixtures("store")
async def test_pictures_arrive_while_the_gateways_are_replaced(stack: Stack) -> None:
    """Calls through nginx get their pictures though one gateway stops meanwhile; none fails."""
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=KEY, timeout=60) as client:

        async def picture() -> bytes:
            answer = await client.images.generate(
                model="gpt-image-1.5", prompt="a fox", size="1024x1024", quality="low"
            )
            assert answer.data is not None
            assert answer.data[0].b64_json is not None
            return base64.b64decode(answer.data[0].b64_json)

        before = [asyncio.ensure_future(picture()) for _ in range(6)]  # noqa: TID251
        await asyncio.sleep(0.5)
        stack.gateways[0].process.send_signal(signal.SIGTERM)
        after = [asyncio.ensure_future(picture()) for _ in range(6)]  # noqa: TID251
        pictures = await asyncio.gather(*before, *after)

    for data in pictures:
        with Image.open(BytesIO(data)) as image:
            assert (1024, 1024) == image.size


@pytest.mark.usefixtures("store")
async def test_what_is_for_operators_is_not_served(stack: Stack) -> None:
    """Neither metrics nor the admin API leave through the proxy; readiness does."""
    async with httpx.AsyncClient(base_url=stack.url) as client:
        statuses = [
            (await client.get(path)).status_code
            for path in ("/metrics", "/admin/v1/teams", "/readyz")
        ]

    assert [404, 404, 200] == statuses


#: What the container engine alone can do. Everything else of the walk is run.
ENGINE = tuple(
    f"docker compose -f deploy/compose.yml {words}" for words in ("up --build --wait", "down")
)
INSIDE = "docker compose -f deploy/compose.yml exec gateway-1 gateway "


def walk() -> list[str]:
    """Return the commands that lead from compose.yml to a first picture, as they are printed."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("\n## From nothing to a first picture\n")
    section, _, _ = rest.partition("\n## ")
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.usefixtures("store")
async def test_the_docs_lead_to_a_first_picture(stack: Stack, tmp_path: Path) -> None:
    """Each command works as printed, in order, on the processes that the first one starts."""
    commands = walk()
    assert (ENGINE[0], ENGINE[-1]) == (commands[0], commands[-1])
    told: dict[str, str] = {}
    for command in commands:
        if command in ENGINE:
            continue
        line = command.replace("http://127.0.0.1:8080", stack.url)
        if line.startswith(INSIDE):
            line = f"{sys.executable} -m gateway {line.removeprefix(INSIDE)}"
        line = line.replace("/etc/gateway/config.toml", str(stack.config))
        assert "docker" not in line
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", line),
            stdout=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env=stack.environ | {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},  # noqa: TID251 - a child's environment
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, command
        told[command.removeprefix(INSIDE)] = out.decode()

    with Image.open(tmp_path / "fox.png") as image:
        assert (1024, 1024) == image.size
    # In a container, nothing could be written there.
    assert [stack.config] == list(stack.config.parent.iterdir())
    ready, _, usage, budgets, tasks, books, reloaded = told.values()
    assert "ok" in ready
    assert 1 == json.loads(usage)["total"]["images"]
    assert "design" in budgets
    assert "completed" in tasks
    assert "design" in books
    assert 2 == reloaded.count(": unchanged")
