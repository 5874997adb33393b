"""`make clients`: stock clients, each in an environment of its own, against the served product.

    make clients                               all of them
    make clients ARGS="--only litellm"         those with this in their name
    make clients ARGS=--newest                 what the suite tries

Prints a table of clients and cases, and exits with 1 unless all of it is green.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from tests.clients.environments import Client, NotInstalledError, command_of, known_clients
from tests.support.gateway import ENVIRON, TEAM_KEY, serving_gateway, write_config

CASES = ("generate", "n", "stream", "url", "edit", "errors", "retry", "models")
#: Clients that are tried at a time; most of it is waiting.
LANES = 3
#: How long one client may take for all of its cases.
PLAY_S = 180.0
START_S = 60.0

KEYS = {
    "POOR_KEY": "sk-poor-0123456789abcdef0123",
    "HURRIED_KEY": "sk-hurried-0123456789abcdef",
}
SECTIONS = """
[models."gpt-image-1"]
routes = ["evolink"]
aliases = ["dall-e-2", "dall-e-3"]

[teams.poor]
models = ["*"]
budgets = [{ usd = "0.0001", per = "month" }]
keys = [{ name = "web", env = "POOR_KEY" }]

[teams.hurried]
models = ["*"]
limits = { images_per_minute = 1 }
keys = [{ name = "ci", env = "HURRIED_KEY" }]
"""


@dataclass(slots=True)
class Played:
    """How a client fared: what was wrong with each case, empty where nothing was."""

    client: Client
    wrong: dict[str, str] = field(default_factory=dict)
    #: Why it was not tried at all.
    skipped: str = ""
    unreachable: bool = False

    @property
    def is_green(self) -> bool:
        """Tell whether all that it can play went well."""
        return not self.skipped and all(
            self.wrong.get(case, "was not played") == "" for case in CASES if self.can(case)
        )

    def can(self, case: str) -> bool:
        """Tell whether the client can play a case."""
        return case not in self.client.lacks

    def cell(self, case: str) -> str:
        """Return what the table says of a case."""
        if self.skipped:
            return "[yellow]skipped"
        if not self.can(case):
            return "[dim]-"
        return "[green]ok" if self.wrong.get(case, "?") == "" else "[red]NO"


@dataclass(frozen=True, slots=True)
class Product:
    """The gateway and the upstream that clients are tried with."""

    url: str
    upstream: str

    async def orders(self, label: str) -> int:
        """Return how often something was ordered under a label."""
        async with httpx.AsyncClient(base_url=self.upstream, timeout=30) as client:
            answer = await client.get("/_sim/tasks", params={"label": label})
        return int(answer.json()["total"])

    async def differences(self) -> int:
        """Return by how many micro-dollars the books differ from the upstream's bill."""
        teams = (TEAM_KEY, KEYS["HURRIED_KEY"])
        spent = 0
        async with httpx.AsyncClient(timeout=30) as client:
            for key in teams:
                headers = {"Authorization": f"Bearer {key}"}
                usage = (await client.get(f"{self.url}/usage", headers=headers)).json()
                spent += usage["total"]["cost"]["microusd"]
            stats = (await client.get(f"{self.upstream}/_sim/stats")).json()
        return spent - int(stats["cost_microusd"])


@asynccontextmanager
async def simulating() -> AsyncIterator[str]:
    """Run `gateway simulate` as a process; yield its URL."""
    options = ("--port", "0", "--latency-median", "0", "--latency-sigma", "0", "--seed", "7")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "simulate", *options),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},  # noqa: TID251 - a child's environment
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
        [url, *_] = re.findall(r"http://127\.0\.0\.1:\d+", line)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@asynccontextmanager
async def product(folder: Path) -> AsyncIterator[Product]:
    """Serve the product from a folder: a gateway that sends calls away after some seconds."""
    async with simulating() as upstream:
        config = write_config(
            folder, upstream, wait="8s", sections=SECTIONS, budget="1000", submit_timeout="30s"
        )
        log = (folder / "gateway.log").open("wb")
        with log:
            async with serving_gateway(config, log=log.fileno(), **KEYS) as served:
                yield Product(served.url, upstream)


async def play(client: Client, node: str, served: Product) -> Played:
    """Install a client and let it play its cases."""
    played = Played(client)
    try:
        command = await command_of(client, node)
    except NotInstalledError as error:
        played.skipped, played.unreachable = str(error), error.unreachable
        return played
    environ = {
        "PATH": os.environ["PATH"],  # noqa: TID251 - a child's environment
        "HOME": os.environ.get("HOME", ""),  # noqa: TID251 - as above
        "BASE_URL": served.url,
        "OPENAI_BASE_URL": served.url,
        "API_KEY": TEAM_KEY,
        "OTHER_KEY": ENVIRON["OTHER_KEY"],
        "LABEL": client.label,
        "CASES": ",".join(case for case in CASES if played.can(case)),
        **KEYS,
        **client.environ,
    }
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environ
    )
    err = b""
    try:
        async with asyncio.timeout(PLAY_S):
            out, err = await process.communicate()
        lines = (json.loads(line) for line in out.splitlines() if line.startswith(b'{"case"'))
        played.wrong = {line["case"]: line["wrong"] for line in lines}
    except TimeoutError:
        played.wrong = {"generate": f"not over within {PLAY_S:.0f} s"}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    for case in CASES:
        if played.can(case) and case not in played.wrong:
            played.wrong[case] = err.decode(errors="replace").strip()[-300:] or "was not played"
    orders = await served.orders(client.label)
    if not played.wrong["retry"] and orders != 1:
        played.wrong["retry"] = f"ordered {orders} times"
    return played


def table_of(rows: list[Played]) -> Table:
    """Return the table of clients and cases."""
    table = Table("runtime", "client", *CASES)
    for row in rows:
        table.add_row(row.client.runtime, row.client.name, *(row.cell(case) for case in CASES))
    return table


def notes_of(rows: list[Played]) -> list[str]:
    """Return what is behind the cells that are not green."""
    notes = []
    for row in rows:
        name = f"{row.client.runtime} {row.client.name}"
        if row.skipped:
            notes.append(f"{name}: skipped, {row.skipped}")
            continue
        notes += [f"{name}: no {case}: it {why}" for case, why in row.client.lacks.items()]
        notes += [f"{name}: {case}: {wrong}" for case, wrong in row.wrong.items() if wrong]
    return notes


async def clients_played(
    chosen: list[Client], node: str, console: Console
) -> tuple[list[Played], int]:
    """Try these clients; return how they fared, and by how much the books are off."""
    lanes = asyncio.Semaphore(LANES)
    with tempfile.TemporaryDirectory() as folder:
        async with product(Path(folder)) as served:

            async def in_turn(client: Client) -> Played:
                async with lanes:
                    played = await play(client, node, served)
                console.print(f"{client.runtime} {client.name}", "ok" if played.is_green else "NO")
                return played

            rows = list(await asyncio.gather(*(in_turn(client) for client in chosen)))
            return rows, await served.differences()


def main() -> int:
    """Try clients; return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", default="", help="clients with this in their name")
    parser.add_argument("--newest", action="store_true", help="the newest of each kind")
    asked = parser.parse_args()
    clients, node = known_clients()
    chosen = [
        client
        for client in clients
        if asked.only in f"{client.runtime} {client.name}" and (client.newest or not asked.newest)
    ]
    console = Console(width=120)
    rows, off = asyncio.run(clients_played(chosen, node, console))
    console.print(table_of(rows))
    for note in notes_of(rows):
        console.print(note, markup=False, highlight=False)
    if off:
        console.print(f"the books are {off} micro-dollars off the upstream's bill")
    return 0 if rows and not off and all(row.is_green for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
