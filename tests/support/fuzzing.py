"""What the fuzz tests share: JSON of every kind and bytes that nearly are it, and a gateway.

The gateway is a process of its own, so that its memory can be seen and nothing of the test's is in
it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import TEAM_KEY, serving_gateway, serving_simulator, write_config

T = TypeVar("T")

log = logging.getLogger(__name__)

#: The form that the suite runs: always the same examples, so that it fails for a change only.
SHORT = settings(
    deadline=None,
    derandomize=True,
    database=None,
    # Many calls make one example: making it smaller takes longer than reading it.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

#: How long the long form tries.
LONG_S = 300.0

#: How much the memory may grow in the last two thirds of the long form.
MAY_GROW_BYTES = 16 * 2**20

#: How long a call may take before it counts as one that hangs.
HANGS_S = 30.0

#: Any JSON: the numbers that parsers differ about, and names that mean something elsewhere.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 1, 2**31, 2**53, 2**63, 2**64, 10**40])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", " ", "auto", "null", "\u0000", "\ud800", "__proto__", "é" * 300]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)

#: What is no JSON at all, or more of it than is good.
OTHER = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b"null",
            b"<!doctype html><title>502 Bad Gateway</title>",
            b"{",
            b"[" * 2_000 + b"]" * 2_000,
            b'{"a":' * 1_500 + b"1" + b"}" * 1_500,
            b"9" * 5_000,
            b"1e999",
            b'{"n":NaN}',
            b"\xef\xbb\xbf{}",
            b'"' + b"x" * 200_000 + b'"',
        ]
    ),
)


def written(value: object) -> bytes:
    """Write a value as JSON, with NaN and half surrogates where they are."""
    return json.dumps(value).encode()


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Cut bytes off, or put other ones in their place."""
    body = draw(whole)
    at = draw(st.integers(0, max(len(body) - 1, 0)))
    if draw(st.booleans()):
        return body[:at]
    return body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]


class _Drawn(Generic[T]):
    """Something drawn, which is too long to be printed."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __repr__(self) -> str:
        """Say that it is left out: hypothesis would print every field of a dataclass."""
        return "…"


@st.composite
def _unprinted(draw: st.DrawFn, drawn: st.SearchStrategy[T]) -> _Drawn[T]:
    return _Drawn(draw(drawn))


async def tried_with(
    drawn: st.SearchStrategy[T], attempt: Callable[[T], Awaitable[None]], tried: settings
) -> None:
    """Let hypothesis draw, and make each attempt on this loop. Raises what an attempt raises."""
    loop = asyncio.get_running_loop()

    @tried
    @given(one=_unprinted(drawn))
    def every(one: _Drawn[T]) -> None:
        asyncio.run_coroutine_threadsafe(attempt(one.value), loop).result()

    await asyncio.to_thread(every)


@asynccontextmanager
async def serving_upstream_at_once() -> AsyncIterator[str]:
    """Simulate an upstream that draws nothing and is done at once; its URL."""
    at_once = SimulatorSettings(
        latency_median_s=0.0, latency_sigma=0.0, seed=7, plain_pictures=True
    )
    async with serving_simulator(at_once) as url:
        yield url


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """A gateway that is tried: its process, and a client of its team."""

    pid: int
    client: httpx.AsyncClient

    async def budget(self) -> tuple[int, int]:
        """Return the micro-dollars that are spent and held."""
        [budget] = (await self.client.get("/v1/usage")).json()["budgets"]
        return budget["spent"]["microusd"], budget["held"]["microusd"]

    async def open_tasks(self) -> int:
        """Return how many tasks are not over."""
        lines = (await self.client.get("/metrics")).text.splitlines()
        name = "gateway_tasks_in_flight"
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))

    async def settle(self) -> int:
        """Wait until no task is open and no money held; return what is spent."""
        async with asyncio.timeout(HANGS_S):
            while await self.open_tasks() or (await self.budget())[1]:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)
        return (await self.budget())[0]

    def resident_bytes(self) -> int:
        """Return how much memory the process has."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def fuzzed_gateway(folder: Path, upstream: str, **placeholders: str) -> AsyncIterator[Fuzzed]:
    """Serve with money for everything; fail when it logged an error that nobody foresaw."""
    team = "limits = { requests_per_minute = 10_000_000, images_per_minute = 10_000_000 }"
    roomy = {"budget": "1000000", "team": team, "submit_timeout": "20s", "wait": "25s"}
    config = write_config(folder, upstream, **roomy | placeholders)
    log = folder / "log"
    with log.open("wb") as opened:
        async with (
            serving_gateway(config, log=opened.fileno()) as served,
            httpx.AsyncClient(
                base_url=served.url.removesuffix("/v1"),
                headers={"Authorization": f"Bearer {TEAM_KEY}"},
                timeout=HANGS_S,
            ) as client,
        ):
            yield Fuzzed(served.process.pid, client)
    assert "Traceback" not in log.read_text()


async def for_minutes(gateway: Fuzzed, one_round: Callable[[], Awaitable[None]]) -> list[int]:
    """Play rounds; return the memory after each, in bytes."""
    memory, until_s = [], time.monotonic() + LONG_S
    while time.monotonic() < until_s:
        await one_round()
        memory.append(gateway.resident_bytes())
    return memory


def assert_level(memory: list[int]) -> None:
    """What the process keeps levels off once everything has been used."""
    log.info("resident MiB: %s", [size >> 20 for size in memory])

    assert memory[-1] < memory[len(memory) // 3] + MAY_GROW_BYTES, memory
