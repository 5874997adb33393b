"""What a round left behind: in the journal, in the books, in the asset store, and upstream.

All of it is read as an operator or a client reads it, but for the attempt ids, which say which of
the upstream's tasks a render has ordered: those stand in the records alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.store.client import Store
from tests.chaos.clients import Answer, digest_of
from tests.chaos.world import World
from tests.support.gateway import ENVIRON, TEAM_KEY

#: A round is quiet within this, or something hangs: a write-off, two looks of recovery's audit, and
#: the organization's holds of admissions that were killed half-way.
QUIET_WITHIN_S = 90.0
LOOK_EVERY_S = 0.25
#: How long the organization may not know of a correction yet.
TOLD_WITHIN_S = 40.0

#: Commands print, and a process has one standard output.
_ONE_COMMAND = asyncio.Lock()


@dataclass(frozen=True, slots=True)
class Order:
    """A task as the upstream has it: what it billed, and under which key it was ordered."""

    id: str
    label: str
    key: str
    state: str
    cost_microusd: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A render as journal and ledger have it.

    `verb` is empty for one whose money is not settled. `attempt` is the key of its last order.
    """

    task: str
    index: int
    status: str
    failure: str
    attempt: str
    upstream: str
    verb: str
    cost_microusd: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is left of a round; `verified` is what `ledger verify` found wrong.

    `windows` are spent and held of every budget window after possible charges were corrected to
    the upstream's truth; `refused` are corrections that were not taken. `pictures` are the digests
    that can be fetched of each task. `hanging` says what did not come to rest.
    """

    answers: Sequence[Answer]
    orders: Sequence[Order]
    renders: Sequence[Ended]
    pictures: dict[str, tuple[str, ...]]
    windows: dict[str, tuple[int, int]]
    refused: Sequence[str]
    verified: str
    hanging: str
    complaints: Sequence[str]

    @property
    def bill_microusd(self) -> int:
        """What the upstream bills."""
        return sum(order.cost_microusd for order in self.orders)


async def gather(world: World, answers: Sequence[Answer]) -> Evidence:
    """Wait until everything is over, read it, and correct possible charges to the truth."""
    async with httpx.AsyncClient(
        base_url=world.balancer.url,
        headers={"authorization": f"Bearer {TEAM_KEY}"},
        timeout=30,
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as client:
        hanging = await _until_quiet(world, client)
        tasks = await _tasks(client)
        pictures = {
            str(task["id"]): await _pictures(client, str(task["id"]))
            for task in tasks
            if task["status"] == "completed"
        }
        orders = await _orders(world, client)
    renders = await _renders(world, tasks)
    refused = await _correct(world, renders, orders)
    bill = sum(order.cost_microusd for order in orders)
    await _until(lambda: _all_spent(world, bill), TOLD_WITHIN_S)
    verify = await _run(world, "ledger", "verify")
    return Evidence(
        answers=answers,
        orders=orders,
        renders=renders,
        pictures=pictures,
        windows=await _windows(world),
        refused=refused,
        verified="" if verify.exit_code == 0 else verify.output.strip() or "it broke",
        hanging=hanging,
        complaints=world.complaints,
    )


async def _until_quiet(world: World, client: httpx.AsyncClient) -> str:
    """Return when every task is over everywhere and nothing is held; else say what is not."""
    waits_for = "nothing was looked at"

    async def is_quiet() -> bool:
        nonlocal waits_for
        unfinished = [
            str(task["id"])
            for task in await _tasks(client)
            if task["status"] in ("queued", "in_progress")
        ]
        held = {key: held for key, (_, held) in (await _windows(world)).items() if held}
        stats = (await client.get(f"{world.upstream}/_sim/stats")).json()
        waits_for = ""
        if unfinished or held or stats["in_flight"]:
            waits_for = f"unfinished {unfinished}, held {held}, upstream {stats['in_flight']}"
        return not waits_for

    await _until(is_quiet, QUIET_WITHIN_S)
    return waits_for


async def _until(is_so: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Look again and again, for so long at the most."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while not await is_so() and loop.time() < until_s:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(LOOK_EVERY_S)


async def _tasks(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    page = (await client.get("/v1/images/tasks", params={"limit": 100})).raise_for_status().json()
    tasks: list[dict[str, Any]] = page["data"]
    return tasks


async def _pictures(client: httpx.AsyncClient, task: str) -> tuple[str, ...]:
    answer = await client.get(f"/v1/images/tasks/{task}")
    if answer.status_code != 200:
        return ()
    return tuple(digest_of(image["b64_json"]) for image in answer.json()["data"])


async def _orders(world: World, client: httpx.AsyncClient) -> list[Order]:
    told = (await client.get(f"{world.upstream}/_sim/tasks")).json()["tasks"]
    return [
        Order(row["id"], row["label"], row["idempotency_key"], row["state"], row["cost_microusd"])
        for row in told
    ]


async def _renders(world: World, tasks: Sequence[dict[str, Any]]) -> list[Ended]:
    path = world.folder / "ledger.jsonl"
    await _run(world, "ledger", "export", "--to", str(path), "--format", "jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    ends = {
        (line["task"], int(line["render"])): line
        for line in lines
        if line["team"] == "design" and line["verb"] in ("settle", "release", "possible_charge")
    }
    renders = []
    async with Store(world.store_url, timeout_ms=5_000) as store:
        for task in tasks:
            for render in task["renders"]:
                index = int(render["index"])
                end = ends.get((task["id"], index), {})
                renders.append(
                    Ended(
                        task=task["id"],
                        index=index,
                        status=render["status"],
                        failure=render["error"] or "",
                        attempt=await _attempt(store, task["id"], index),
                        upstream=end.get("upstream", ""),
                        verb=end.get("verb", ""),
                        cost_microusd=end.get("cost_microusd", 0),
                    )
                )
    return renders


async def _attempt(store: Store, task: str, index: int) -> str:
    attempt = await store.command("HGET", f"{{t:design}}:task:{task}", f"{index}:attempt_id")
    return attempt.decode() if isinstance(attempt, bytes) else ""


async def _correct(world: World, renders: Sequence[Ended], orders: Sequence[Order]) -> list[str]:
    """Correct every possible charge to what the upstream billed; return what was refused."""
    costs = {order.key: order.cost_microusd for order in orders}
    refused = []
    for render in renders:
        delta = costs.get(render.attempt, 0) - render.cost_microusd
        if render.verb == "possible_charge" and delta:
            usd = f"--usd={Decimal(delta) / 1_000_000:f}"
            which = ("--task", render.task, "--render", str(render.index))
            done = await _run(world, "ledger", "adjust", *which, usd, "--reason", "as billed")
            if done.exit_code != 0:
                refused.append(f"{render.task}:{render.index} {usd}: {done.output.strip()}")
    return refused


async def _windows(world: World) -> dict[str, tuple[int, int]]:
    """Return spent and held of every budget window there is."""
    async with Store(world.store_url, timeout_ms=5_000) as store:
        keys = await store.command("KEYS", "{*}:budget:*")
        assert isinstance(keys, list)
        windows = {}
        for key in keys:
            assert isinstance(key, bytes)
            reply = await store.command("HMGET", key, "spent", "held")
            assert isinstance(reply, list)
            spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
            windows[key.decode()] = (spent, held)
    return windows


async def _all_spent(world: World, bill_microusd: int) -> bool:
    return all(spent == bill_microusd for spent, _ in (await _windows(world)).values())


async def _run(world: World, *words: str) -> Result:
    async with _ONE_COMMAND:
        command = [*words, "--config", str(world.config)]
        return await asyncio.to_thread(CliRunner().invoke, app, command, env=ENVIRON)
