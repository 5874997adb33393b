"""A settings file that changes under a gateway, and what the gateway says of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.gateway import ENVIRON, START_S, TEAM_KEY

NEW_KEY = "sk-newcomer-0123456789abcdef"

#: A flat price, so that what an upstream without a bill costs is ours to say.
PRICES = """
[prices."evolink/gpt-image-1.5"]
form = "call"
source = "a test"
date = "2026"
note = "Flat."
tiers = [{ price = "0.010000" }]
"""

NEWCOMER = """
[teams.newcomer]

[[teams.newcomer.keys]]
name = "ci"
env = "{variable}"
"""

#: The simulator makes the picture and says nothing of what it cost (its `Shape.DOCS`).
UNBILLED = "a small red fox [[shape:docs]] [[latency:{seconds}]]"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file as its operator edits it."""

    path: Path

    def replace(self, old: str, new: str) -> None:
        """Write another text in place of one that is there."""
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))

    def add(self, text: str) -> None:
        """Write something at the end."""
        self.path.write_text(self.path.read_text() + text)


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls a gateway at `url` (with `/v1`) by one key."""

    url: str
    key: str = TEAM_KEY

    async def get(self, path: str) -> httpx.Response:
        """Get something below `/v1`."""
        async with self._client() as client:
            return await client.get(f"{self.url}{path}")

    async def picture(self, prompt: str) -> httpx.Response:
        """Ask for a low square."""
        async with self._client() as client:
            return await client.post(
                f"{self.url}/images/generations", json=_BODY | {"prompt": prompt}
            )

    async def quote(self) -> int:
        """Return what a low square would cost, in micro-dollars."""
        async with self._client() as client:
            answer = await client.post(f"{self.url}/images/quotes", json=_BODY)
        return int(answer.json()["hold"]["microusd"])

    async def status(self) -> int:
        """Return how a call is answered that costs nothing."""
        return (await self.get("/models")).status_code

    async def spent(self) -> int:
        """Return what the team has spent in all, in micro-dollars."""
        usage = await self.get("/usage")
        return int(usage.json()["total"]["cost"]["microusd"])

    async def reloads(self) -> dict[str, int]:
        """Return how often the file was taken, refused and unchanged, by the metrics."""
        async with self._client() as client:
            text = (await client.get(f"{self.url.removesuffix('/v1')}/metrics")).text
        start = 'gateway_config_reloads_total{outcome="'
        lines = [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]
        return {name: int(float(count)) for name, count in (line.split('"} ') for line in lines)}

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=60, headers={"Authorization": f"Bearer {self.key}"})


_BODY = {
    "model": "gpt-image-1.5",
    "prompt": "a small red fox",
    "quality": "low",
    "size": "1024x1024",
}


async def until(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Return as soon as a look finds what is wanted."""
    async with asyncio.timeout(START_S):
        while await look() != wanted:  # noqa: ASYNC110 - what another process does
            await asyncio.sleep(0.05)


def logged(log: Path, action: str) -> list[dict[str, object]]:
    """Return the lines of a log that tell of an action."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("action") == action]


async def verified_books(config: Path) -> int | None:
    """Return the exit code of the audit of all books."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "ledger", "verify", "--config", str(config)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], **ENVIRON},  # noqa: TID251 - a child's environment
    )
    return await process.wait()
