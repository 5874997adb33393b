"""Where a fault is played: its own store, upstream and `gateway serve` processes, and callers."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from gateway.domain.ids import TeamId
from gateway.ledger.audit import verify
from gateway.ledger.redis_books import RedisBooks
from gateway.simulator.rules import Rule
from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.front import Front, front_of
from tests.support.gateway import (
    TEAM_KEY,
    ServedProcess,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.journal import keys_in

#: Nothing hangs for longer, whatever breaks; machines that test are busy.
PATIENCE_S = 60.0
#: How long a render of the simulator takes unless a prompt says otherwise.
RENDER_S = 0.3

TEAM = TeamId("design")


@dataclass(frozen=True)
class Switched(Rule):
    """Plays while its switch is among those that are on."""

    switch: str = ""
    on: set[str] = field(default_factory=set)

    def applies(self, number: int, random: Random) -> bool:
        """Tell whether it plays now."""
        return self.switch in self.on


@dataclass(frozen=True)
class Answer:
    """What a caller got: `what` is the status with the error's code, or the client's own error."""

    label: str
    what: str
    took_s: float
    again: bool = False
    retry_after_s: float = 0.0

    @property
    def is_picture(self) -> bool:
        """Tell whether it is a picture."""
        return self.what == "200"


@dataclass
class Stage:
    """The processes of one fault, and what has been asked of them."""

    folder: Path
    store_url: str
    simulator: str
    front: Front
    gateways: list[ServedProcess]
    on: set[str]
    trust: ssl.SSLContext | bool = True
    answers: list[Answer] = field(default_factory=list)
    _markers: dict[str, str] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def pid(self) -> int:
        """The process id of the first gateway."""
        return self.gateways[0].process.pid

    def new_label(self) -> str:
        """Return a name for a call that no other call has."""
        return f"call-{next(self._numbers)}"

    async def call(
        self,
        label: str = "",
        *,
        markers: str = "",
        gateway: int = 0,
        client: httpx.AsyncClient | None = None,
        again: bool = False,
    ) -> Answer:
        """Ask for a picture, or `again` for one that was asked for before under this label."""
        label = label or self.new_label()
        markers = self._markers.setdefault(label, markers)
        headers = {"authorization": f"Bearer {TEAM_KEY}"}
        if again:
            headers["x-stainless-retry-count"] = "1"
        body = {
            "model": "gpt-image-1.5",
            "prompt": f"[[label:{label}]]{markers} a small red fox, {label}",
            "quality": "low",
            "size": "1024x1024",
        }
        began_s = time.monotonic()
        async with AsyncExitStack() as held:
            fresh = httpx.AsyncClient(timeout=PATIENCE_S, verify=self.trust)
            used = client or await held.enter_async_context(fresh)
            try:
                answer = await used.post(
                    f"{self.gateways[gateway].url}/images/generations", json=body, headers=headers
                )
                what = _told(answer)
                should = answer.headers.get("x-should-retry")
                retry = answer.status_code >= 500 and should != "false"
                wait_s = float(answer.headers.get("retry-after", 0))
            except httpx.TransportError as error:
                what, retry, wait_s = type(error).__name__, True, 0.5
        told = Answer(label, what, time.monotonic() - began_s, retry, wait_s)
        self.answers.append(told)
        return told

    async def until_ordered(self, label: str) -> None:
        """Return once the upstream has the order of a call."""
        async with asyncio.timeout(PATIENCE_S):
            while label not in {order["label"] for order in await self.orders()}:  # noqa: ASYNC110 - another server's
                await asyncio.sleep(0.05)

    async def orders(self) -> list[Mapping[str, Any]]:
        """Return the upstream's tasks."""
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            told = (await client.get(f"{self.simulator}/_sim/tasks")).json()
        return list(told["tasks"])

    async def money(self) -> tuple[int, int, int]:
        """Return spent, held and what of the spent is a possible charge, in micro-dollars."""
        async with Store(self.store_url, timeout_ms=15_000) as store:
            spent = held = possible = 0
            for key in await keys_in(store, f"{{t:{TEAM}}}:budget:team:*"):
                reply = await store.command("HMGET", key, "spent", "held")
                assert isinstance(reply, list)
                values = [int(value or 0) for value in reply]  # type: ignore[arg-type]
                spent, held = spent + values[0], held + values[1]
            lines: Any = await store.command("XRANGE", f"{{t:{TEAM}}}:ledger", "-", "+")
            for _, line in lines:
                if line[b"verb"] == b"possible_charge":
                    possible += int(line[b"cost"])
        return spent, held, possible

    async def findings(self) -> list[str]:
        """Return what `gateway ledger verify` would tell."""
        async with Store(self.store_url, timeout_ms=15_000) as store:
            audit = await verify(RedisBooks(store), TEAM)
        return [str(finding) for finding in audit.findings]


def _told(answer: httpx.Response) -> str:
    if answer.is_success:
        return str(answer.status_code)
    try:
        return f"{answer.status_code} {answer.json()['error']['code']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} without an envelope"


@asynccontextmanager
async def standing(
    folder: Path,
    store_url: str,
    *,
    gateways: int = 1,
    rules: Sequence[tuple[str, str, str]] = (),
    environ: Mapping[str, str] | None = None,
    trust: ssl.SSLContext | bool = True,
    tls: ssl.SSLContext | None = None,
    **placeholders: str,
) -> AsyncIterator[Stage]:
    """Run gateways on a store, with an upstream behind a front.

    `rules` are switch, route and what is played while the switch is on.
    """
    on: set[str] = set()
    played = [Switched(route, play, switch=switch, on=on) for switch, route, play in rules]
    async with AsyncExitStack() as held:
        front = await held.enter_async_context(front_of(0, tls))
        settings = SimulatorSettings(
            latency_median_s=RENDER_S,
            latency_sigma=0.0,
            seed=7,
            plain_pictures=True,
            # Links lead to the front, which may speak TLS where the simulator does not.
            public_url=front.url,
        )
        simulator = await held.enter_async_context(serving_simulator(settings, played))
        front.behind = httpx.URL(simulator).port or 0
        config = write_config(folder, front.url, redis=f'url = "{store_url}"', **placeholders)
        served = []
        for number in range(gateways):
            log = held.enter_context((folder / f"gateway{number}.log").open("wb"))
            serving = serving_gateway(config, log=log.fileno(), **environ or {})
            served.append(await held.enter_async_context(serving))
        yield Stage(folder, store_url, simulator, front, served, on, trust)
