"""What `make observe` looks at: two simulators, a gateway with two workers, and Prometheus.

All are processes as an operator starts them, on loopback, in a folder of their own.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from gateway.store.notes import SERVER_LOCK, embedded_url, read_note
from tests.observe.rewrite import write_rules
from tests.support.processes import workers_of

ROOT = Path(__file__).parents[2]

#: How long a process may take to say that it listens.
START_S = 60.0

TEAMS = ("design", "growth", "ops", "eighty", "full")

CONFIG = """
[server]
port = {port}
public_url = "http://127.0.0.1:{port}"
wait = "25s"
deadline = "6s"
drain = "2s"
lease = "2s"

[redis]
data_dir = "valkey"

[assets]
url = "file:assets"
min_free = "{min_free_kib}KiB"

[polling]
min_interval = "200ms"

[providers.main]
kind = "evolink"
base_url = "{main}"
result_hosts = ["{main_host}"]
api_key_env = "UPSTREAM_KEY"
max_submits_per_second = 0
balance_every = "1s"

# Another account, that is about empty and bills by another rate than we believe.
[providers.second]
kind = "evolink"
base_url = "{second}"
result_hosts = ["{second_host}"]
api_key_env = "UPSTREAM_KEY"
max_submits_per_second = 0
balance_every = "1s"
credits_per_usd = 60

[models."gpt-image-1.5"]
routes = ["main"]

[models."gpt-image-2"]
routes = ["main"]

[models."gpt-image-1"]
routes = ["second"]

# Nobody knows the price of its squares, and it is gone in ten days.
[models."old-style"]
routes = ["second"]
default_size = "1024x1024"
default_quality = "standard"

[[models."old-style".offers]]
kind = "evolink"
operations = ["generation"]
upstream_model = "gpt-image-1"
retires = "{retires}"
sizes = ["1024x1024", "1536x1024"]
qualities = ["standard"]
prices = "old"

[prices."old"]
form = "picture"
unit = "usd"
rows = [{{ quality = "standard", size = "1536x1024", price = "0.04" }}]
reference = "0"
source = "a test"
note = "Of nothing that is sold."
date = "2026-11-27"

[organization]
budgets = [{{ usd = 500, per = "month" }}]

[alerts]
webhook_url_env = "NOBODY"
"""

TEAM = """
[teams.{team}]
budgets = [{{ usd = {usd}, per = "{per}"{more} }}]
[[teams.{team}.keys]]
name = "app"
env = "{env}"
"""

#: So much must be written before there is no room for pictures.
SPARE_BYTES = 1 << 30

#: Budgets of the teams, in dollars; that of `full` is what is held for one picture.
BUDGETS = {
    "design": (20, "day"),
    "growth": (60, "month"),
    "ops": (5, "day"),
    "eighty": (0.06, "day"),
}


def key_of(team: str) -> str:
    """Return the key of a team."""
    return f"sk-{team}-0123456789abcdef0123456789"


def _environ() -> dict[str, str]:
    keys = {f"KEY_{team.upper()}": key_of(team) for team in TEAMS}
    path = os.environ["PATH"]  # noqa: TID251 - a child's environment
    # Where budgets are announced, nothing listens (the port of "discard").
    nobody = "http://127.0.0.1:9/"
    return {"PATH": path, "UPSTREAM_KEY": "sk-evo-observed", "NOBODY": nobody, **keys}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def _started(log: Path, *command: str) -> asyncio.subprocess.Process:
    with log.open("ab") as target:
        return await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=target, env=_environ()
        )


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
    await process.communicate()


@dataclass
class Stack:
    """The processes, and ways to ask and to hurt them."""

    folder: Path
    root: str
    prometheus: str
    gateway: asyncio.subprocess.Process
    second: asyncio.subprocess.Process
    client: httpx.AsyncClient = field(repr=False)

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return workers_of(self.gateway.pid)

    @property
    def store_pid(self) -> int:
        """The process id of the ledger store."""
        pid, _ = read_note(self.folder / "valkey" / SERVER_LOCK)
        return int(pid)

    @property
    def store_url(self) -> str:
        """Where the ledger store listens."""
        return embedded_url(self.folder / "valkey")

    async def order(self, team: str, prompt: str, **fields: object) -> httpx.Response:
        """Ask for a low square, unless told otherwise, and wait for the answer."""
        headers = {"authorization": f"Bearer {key_of(team)}"}
        for name in ("prefer", "retry"):
            if name in fields:
                header = {"prefer": "prefer", "retry": "x-stainless-retry-count"}[name]
                headers[header] = str(fields.pop(name))
        body = {"model": "gpt-image-1.5", "quality": "low", "size": "1024x1024", "prompt": prompt}
        timeout = fields.pop("timeout", 60)
        return await self.client.post(
            f"{self.root}/v1/images/generations",
            json=body | fields,
            headers=headers,
            timeout=timeout,  # type: ignore[arg-type]
        )

    async def ask(self, path: str, **query: object) -> list[dict]:
        """Ask Prometheus; return the series."""
        answer = await self.client.get(f"{self.prometheus}/api/v1/{path}", params=query, timeout=60)
        told = answer.json()
        if told["status"] != "success":
            raise ValueError(f"{query}: {told['error']}")
        return list(told["data"]["result"])

    async def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        series = await self.ask("query", query='ALERTS{alertstate="firing"}')
        return {one["metric"]["alertname"] for one in series}


async def _announced(process: asyncio.subprocess.Process, pattern: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        line = (await process.stdout.readline()).decode()
    found = re.search(pattern, line)
    if found is None:
        raise RuntimeError(f"said {line!r} instead of {pattern}")
    return found[1]


async def _hold_of_one(config: Path) -> float:
    """Return the dollars that are held for one picture of the load."""
    asked = ("--model", "gpt-image-1.5", "--prompt", "x" * 40, "--quality", "low")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "quote", "--config", str(config), "--json"),
        *(*asked, "--size", "1024x1024"),
        stdout=asyncio.subprocess.PIPE,
        env=_environ(),
    )
    out, _ = await process.communicate()
    found = re.search(r'"hold": {\s*"usd": "([\d.]+)"', out.decode())
    assert found is not None, out
    return float(found[1])


def _write_config(folder: Path, port: int, main: str, second: str) -> Path:
    config = folder / "config.toml"
    ends = datetime.now(UTC).date() + timedelta(days=10)  # noqa: TID251 - the catalogue's calendar
    text = CONFIG.format(
        port=port,
        retires=ends.isoformat(),
        min_free_kib=(shutil.disk_usage(folder).free - SPARE_BYTES) // 1024,
        main=main,
        main_host=main.removeprefix("http://"),
        second=second,
        second_host=second.removeprefix("http://"),
    )
    for team, (usd, per) in BUDGETS.items():
        more = ", alert_at = [0.8]" if team == "eighty" else ""
        text += TEAM.format(team=team, usd=usd, per=per, more=more, env=f"KEY_{team.upper()}")
    config.write_text(text)
    return config


def _write_prometheus(folder: Path, target: str, every: str) -> Path:
    rules = write_rules(ROOT / "deploy" / "prometheus", folder)
    text = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    for old, new in (("15s", every), ("127.0.0.1:8080", target)):
        assert old in text
        text = text.replace(old, new)
    path = folder / "prometheus.yml"
    path.write_text(text)
    assert all(rule.name in text for rule in rules)
    return path


@asynccontextmanager
async def _running(log: Path, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await _started(log, *command)
    try:
        yield process
    finally:
        await _ended(process)


@asynccontextmanager
async def running_stack(folder: Path) -> AsyncIterator[Stack]:
    """Start everything; end it all after."""
    gateway = (sys.executable, "-m", "gateway")
    simulate: Sequence[str] = (
        *(*gateway, "simulate", "--port", "0", "--plain-pictures"),
        *("--latency-median", "0.6", "--latency-sigma", "0.4", "--seed", "7"),
    )
    async with AsyncExitStack() as stack:
        urls = []
        for name, options in (("main", ()), ("second", ("--balance", "6"))):
            process = await stack.enter_async_context(
                _running(folder / f"{name}.log", *simulate, *options)
            )
            urls.append(await _announced(process, r"listening on (\S+)"))
        second = process
        port = free_port()
        config = _write_config(folder, port, *urls)
        full = await _hold_of_one(config)
        with config.open("a") as target:
            usd = f"{full:.6f}"
            target.write(TEAM.format(team="full", usd=usd, per="day", more="", env="KEY_FULL"))
        served = await stack.enter_async_context(
            _running(
                folder / "gateway.log",
                *(*gateway, "serve", "--config", str(config), "--workers", "2"),
            )
        )
        await _announced(served, r"listening on (\S+)")
        program = shutil.which("prometheus")
        assert program is not None, "needs Prometheus: apt install prometheus"
        scraper = f"127.0.0.1:{free_port()}"
        rules = _write_prometheus(folder, f"127.0.0.1:{port}", "1s")
        await stack.enter_async_context(
            _running(
                folder / "prometheus.log",
                *(program, f"--config.file={rules}", f"--web.listen-address={scraper}"),
                f"--storage.tsdb.path={folder / 'tsdb'}",
            )
        )
        client = await stack.enter_async_context(httpx.AsyncClient())
        made = Stack(
            folder, f"http://127.0.0.1:{port}", f"http://{scraper}", served, second, client
        )
        async with asyncio.timeout(START_S):
            while not await _is_ready(made):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
        yield made


async def _is_ready(stack: Stack) -> bool:
    try:
        return (await stack.client.get(f"{stack.prometheus}/-/ready")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
