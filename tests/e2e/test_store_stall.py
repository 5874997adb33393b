"""The store stops answering in the middle of ten calls, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from gateway.simulator.settings import SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import (
    Running,
    ServedProcess,
    running_gateway,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.journal import keys_in
from tests.support.valkey import run_valkey

STALL_S = 5.0

#: Callers of each of two gateways; what a busy machine adds to any answer.
CALLERS, SLACK_S = 4, 8.0


async def settled(running: Running) -> tuple[int, int]:
    """Return spent and held once nothing is held any more (or after a while)."""
    for _ in range(100):
        if (await running.budget())[1] == 0:
            break
        await asyncio.sleep(0.1)
    return await running.budget()


@pytest.mark.parametrize("head_start_s", [0.0, 0.15, 0.6])
async def test_calls_across_a_stall_are_answered_and_counted_once(
    tmp_path: Path, head_start_s: float
) -> None:
    """Every call is answered within its bound, and each counter has moved exactly once.

    Calls that were not admitted yet get 503 within the store's limit; the others get their picture
    when the store is back. What either is charged is what the upstream charged.
    """
    simulator = SimulatorSettings(latency_median_s=0.5, latency_sigma=0.0, seed=7)
    async with running_gateway(tmp_path, simulator=simulator) as running:
        assert running.gateway.embedded is not None
        pid = running.gateway.embedded.pid
        assert pid is not None
        await running.generate()
        before = await running.metrics()

        async def call() -> tuple[httpx.Response, float]:
            started_s = time.monotonic()
            return await running.generate(), time.monotonic() - started_s

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call()) for _ in range(10)]
            await asyncio.sleep(head_start_s)
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(STALL_S)
                ready = await running.client.get("/readyz")
            finally:
                os.kill(pid, signal.SIGCONT)
        results = [task.result() for task in calls]
        pictures = sum(response.status_code == 200 for response, _ in results)
        spent, held = await settled(running)
        after = await running.metrics()
        simulated = await running.simulated()

    assert 503 == ready.status_code
    assert {200, 503} >= {response.status_code for response, _ in results}
    for response, took_s in results:
        if response.status_code == 503:
            assert "ledger_unavailable" == response.json()["error"]["code"]
            assert int(response.headers["retry-after"]) <= 60
            assert took_s < 4.0
        else:
            assert took_s < STALL_S + 5.0
    assert (1 + pictures, 0) == (simulated["submits"], held)
    assert 7_852 * (1 + pictures) == spent
    # Each picture is rounded once, so the sums differ by less than half a micro-dollar each.
    assert abs(spent - simulated["credits_used"] / 68 * 1e6) <= 0.5 * (1 + pictures)

    def moved(prefix: str) -> float:
        return sum(after[name] - before.get(name, 0) for name in after if name.startswith(prefix))

    assert 7_852 * pictures == round(moved("gateway_cost_usd_total") * 1e6)
    assert pictures == moved("gateway_images_total")
    assert pictures == moved("gateway_renders_total")
    assert 10 == moved('gateway_requests_total{code="",model="gpt-image-1.5"') + moved(
        'gateway_requests_total{code="ledger_unavailable"'
    )
    assert 0 == after['gateway_tasks_in_flight{provider="evolink"}']


@dataclass
class Load:
    """Calls to one gateway, one after another by each of `CALLERS`; what they got, and when."""

    served: ServedProcess
    over: bool = False
    #: Status, seconds it took, monotonic time of its beginning.
    answers: list[tuple[int, float, float]] = field(default_factory=list)

    async def call_again_and_again(self) -> None:
        """Call until it is over."""
        while not self.over:
            began_s = time.monotonic()
            answer = await self.served.picture()
            self.answers.append((answer.status_code, time.monotonic() - began_s, began_s))
            if answer.status_code != 200:
                await asyncio.sleep(0.2)

    async def metrics(self) -> dict[str, float]:
        """Return the sums of what it counts, whatever the labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.served.url.removesuffix('/v1')}/metrics")).text
        sums: dict[str, float] = defaultdict(float)
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                sums[name.partition("{")[0]] += float(value)
        return sums


@pytest.mark.parametrize(
    ("stall_s", "lease_s"),
    [
        pytest.param(4.0, 2, id="two leases"),
        pytest.param(10.0, 10, id="ten seconds", marks=pytest.mark.stall),
    ],
)
async def test_two_gateways_sit_out_a_stall(tmp_path: Path, stall_s: float, lease_s: int) -> None:
    """Under load: answers within their bounds, counters moved once, no task changes hands.

    Both serve again without being told to.
    """
    simulator = SimulatorSettings(latency_median_s=0.7, latency_sigma=0.3, seed=7)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(run_valkey(tmp_path / "store"))
        upstream = await stack.enter_async_context(serving_simulator(simulator))
        loads = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            log = stack.enter_context((folder / "log").open("wb"))
            config = write_config(
                folder,
                upstream,
                redis=f'url = "{store.url}"',
                assets='url = "file:../assets"',
                server=f'lease = "{lease_s}s"',
                submit_timeout="20s",
                wait="50s",
            )
            serving = serving_gateway(config, log=log.fileno())
            loads.append(Load(await stack.enter_async_context(serving)))
        async with asyncio.TaskGroup() as group:
            for load in loads:
                for _ in range(CALLERS):
                    group.create_task(load.call_again_and_again())
            await asyncio.sleep(2.0)
            store.stop()
            try:
                # Those that have called before wait for their pictures; these are not admitted.
                for load in loads:
                    group.create_task(load.call_again_and_again())
                await asyncio.sleep(stall_s)
            finally:
                store.cont()
            woken_s = time.monotonic()
            # Long enough for a replica to be taken for gone by one that is not careful.
            await asyncio.sleep(2 * lease_s + 2)
            for load in loads:
                load.over = True
        answers = [answer for load in loads for answer in load.answers]
        async with Store(store.url, timeout_ms=5_000) as direct:
            async with asyncio.timeout(20):
                while (money := await budget_of(direct))[1]:  # noqa: ASYNC110 - the store sets no event
                    await asyncio.sleep(0.1)
        counted = [await load.metrics() for load in loads]
        async with httpx.AsyncClient() as client:
            simulated = (await client.get(f"{upstream}/_sim/stats")).json()

    pictures = sum(status == 200 for status, _, _ in answers)
    assert {200, 503} >= {status for status, _, _ in answers}
    assert 0 < sum(status == 503 for status, _, _ in answers)
    for status, took_s, _ in answers:
        assert took_s < (SLACK_S + 2.0 if status == 503 else SLACK_S + stall_s)
    for load in loads:
        assert any(status == 200 and began_s > woken_s for status, _, began_s in load.answers)
    assert (pictures, pictures) == (simulated["submits"], simulated["renders_completed"])
    assert (7_852 * pictures, 0) == money

    def moved(name: str) -> float:
        return sum(metrics[f"gateway_{name}"] for metrics in counted)

    assert (pictures, pictures) == (moved("images_total"), moved("renders_total"))
    assert 7_852 * pictures == round(moved("cost_usd_total") * 1e6)
    assert len(answers) == moved("requests_total")
    assert (0, 0) == (moved("recovered_tasks_total"), moved("tasks_in_flight"))


async def budget_of(store: Store) -> tuple[int, int]:
    """Return what is spent and held of the team's budget."""
    [key] = await keys_in(store, "{t:design}:budget:team:*")
    reply = await store.command("HMGET", key, "spent", "held")
    assert isinstance(reply, list)
    spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
    return spent, held
