"""A replica is killed at any point of a picture's way: another one ends it, and it is paid once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from gateway.cli.fault_points import FAULT_ENV
from gateway.cli.main import app
from gateway.simulator.settings import Idempotency, SimulatorSettings
from gateway.store.client import Store
from tests.support.gateway import (
    ENVIRON,
    ServedProcess,
    serving_gateway,
    serving_simulator,
    write_config,
)
from tests.support.valkey import ValkeyProcess

#: What a low square costs, and what may be held for it.
COST_MICROUSD = 7_852
SERVER = 'lease = "1s"\ndeadline = "{deadline}"'
#: As it ships, but for the longest wait and the deadline: a pause of a minute must fit into both.
LONG_SERVER, LONG_WAIT = 'deadline = "5m"', "140s"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replicas on one store; the first dies at its fault point."""

    first: ServedProcess
    second: ServedProcess
    config: Path
    upstream: str
    store: Store

    async def lose_and_retry(self) -> httpx.Response:
        """Call the first until it dies, then do what an SDK does: try again, elsewhere."""
        with pytest.raises(httpx.TransportError):
            await self.first.picture(x_stainless_retry_count="0")
        return await self.second.picture(x_stainless_retry_count="1")

    async def submits(self) -> int:
        """Return how many pictures the upstream was made to make."""
        async with httpx.AsyncClient() as client:
            stats = (await client.get(f"{self.upstream}/_sim/stats")).json()
        return int(stats["submits"] - stats["replays"])

    async def money(self) -> tuple[int, int]:
        """Return the micro-dollars spent and held."""
        [key] = await self.store.command("KEYS", "{t:design}:budget:team:*")  # type: ignore[misc]
        reply = await self.store.command("HMGET", key, "spent", "held")
        assert isinstance(reply, list)
        spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
        return spent, held

    async def until_undelivered(self, microusd: int) -> None:
        """Wait until the second says that so much is paid for what nobody has."""
        async with httpx.AsyncClient() as client, asyncio.timeout(30):
            while await self._undelivered(client) != microusd:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)

    async def _undelivered(self, client: httpx.AsyncClient) -> int:
        text = (await client.get(f"{self.second.url.removesuffix('/v1')}/metrics")).text
        told = re.search(r'^gateway_paid_undelivered_usd{team="design"} (\S+)$', text, re.MULTILINE)
        return 0 if told is None else round(float(told[1]) * 1_000_000)

    async def books_agree(self) -> bool:
        """Verify the ledger."""
        command = ["ledger", "verify", "--config", str(self.config)]
        verified = await asyncio.to_thread(CliRunner().invoke, app, command, env=ENVIRON)
        return verified.exit_code == 0


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, valkey_process: ValkeyProcess, store: Store, tmp_path: Path
) -> AsyncIterator[Pair]:
    """Start two replicas, the first with the fault that the test names."""
    how, _, fault_spec = request.param.rpartition("|")
    is_proven, is_long = how == "proven", how == "long"
    settings = SimulatorSettings(
        latency_median_s=1.0,
        latency_sigma=0.0,
        seed=7,
        idempotency=Idempotency.REPLAYED if is_proven else Idempotency.IGNORED,
    )
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving_simulator(settings))
        redis = f'url = "{valkey_process.url}"'
        # What nobody knows the fate of is written off at the deadline.
        server = SERVER.format(deadline="4s" if fault_spec.startswith("kill") else "20s")
        config = write_config(
            tmp_path,
            upstream,
            redis=redis,
            server=LONG_SERVER if is_long else server,
            wait=LONG_WAIT if is_long else "15s",
            provider='idempotency = "proven"' if is_proven else "",
        )
        fault = {FAULT_ENV: fault_spec}
        first = await stack.enter_async_context(serving_gateway(config, **fault))
        second = await stack.enter_async_context(serving_gateway(config))
        yield Pair(first, second, config, upstream, store)


#: Points at which the upstream has to be asked, under the same key, whether it has the task.
PROVEN = ["proven|kill:submitting", "proven|kill:posted"]
WHOLE = ["admitted", "queued", "submitted", "finished", "concluded", "stored", "leaving"]


@pytest.mark.parametrize("pair", [f"kill:{point}" for point in WHOLE] + PROVEN, indirect=True)
async def test_a_picture_survives_its_replica(pair: Pair) -> None:
    """Killed wherever one can tell how far it came: one submission, one charge, delivered."""
    answer = await pair.lose_and_retry()

    assert (answer.status_code, answer.headers["x-gateway-joined"]) == (200, "true")
    assert await pair.submits() == 1
    assert await pair.money() == (COST_MICROUSD, 0)
    assert await pair.books_agree()


@pytest.mark.parametrize("pair", ["kill:leaving"], indirect=True)
async def test_a_picture_whose_client_was_lost_with_its_replica_is_seen(pair: Pair) -> None:
    """It was finished and on its way: others count what was paid for it until its retry has it."""
    with pytest.raises(httpx.TransportError):
        await pair.first.picture(x_stainless_retry_count="0")
    await pair.until_undelivered(COST_MICROUSD)
    retry = await pair.second.picture(x_stainless_retry_count="1")
    await pair.until_undelivered(0)

    assert (200, 1) == (retry.status_code, await pair.submits())


@pytest.mark.parametrize(
    ("pair", "submits"), [("kill:submitting", 0), ("kill:posted", 1)], indirect=["pair"]
)
async def test_what_was_perhaps_ordered_is_not_ordered_again(pair: Pair, submits: int) -> None:
    """Killed around the submission itself, the picture becomes a possible charge."""
    answer = await pair.lose_and_retry()

    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "submit_unknown")
    assert await pair.submits() == submits
    spent, held = await pair.money()
    assert spent >= COST_MICROUSD
    assert held == 0
    assert await pair.books_agree()


@pytest.mark.parametrize("pair", ["kill:submitted", "kill:stored"], indirect=True)
async def test_who_asks_again_without_a_sign_gets_what_was_lost(pair: Pair) -> None:
    """Nobody waits at a replica that was killed: the same call, a lease later, is no second one."""
    with pytest.raises(httpx.TransportError):
        await pair.first.picture()
    async with asyncio.timeout(20):
        while await pair.store.command("ZCARD", "replicas") != 1:  # noqa: ASYNC110 - the store sets no event
            await asyncio.sleep(0.1)
    # As long again, until the other one may tell; and until it was renewed once more.
    await asyncio.sleep(1.5)
    answer = await pair.second.picture()

    assert (answer.status_code, answer.headers["x-gateway-joined"]) == (200, "true")
    assert await pair.submits() == 1
    assert await pair.money() == (COST_MICROUSD, 0)
    assert await pair.books_agree()


async def test_who_asks_again_after_a_restart_gets_what_was_lost(tmp_path: Path) -> None:
    """The only process there was is killed with its store; a lease after the next has come up."""
    settings = SimulatorSettings(latency_median_s=0.5, latency_sigma=0.0, seed=7)
    async with serving_simulator(settings) as upstream, httpx.AsyncClient() as client:
        config = write_config(tmp_path, upstream, server=SERVER.format(deadline="20s"))
        async with serving_gateway(config, **{FAULT_ENV: "kill:stored"}) as first:
            with pytest.raises(httpx.TransportError):
                await first.picture()
        async with serving_gateway(config) as second:
            await asyncio.sleep(1.5)
            answer = await second.picture()
        stats = (await client.get(f"{upstream}/_sim/stats")).json()

    assert (answer.status_code, answer.headers["x-gateway-joined"]) == (200, "true")
    assert stats["submits"] == 1


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("pair", "pause_s"),
    [
        # Long enough to be taken for gone, and for its own five seconds to be over.
        ("pause:submitting", 5.5),
        pytest.param("long|pause:submitting", 60.0, marks=pytest.mark.pause),
    ],
    indirect=["pair"],
)
async def test_a_paused_owner_that_wakes_up_submits_nothing_twice(
    pair: Pair, pause_s: float
) -> None:
    """Paused between winning and posting until it is adopted, it only says that it did not post.

    For some leases of a second; and for a minute, with the lease that is the default.
    """
    async with asyncio.TaskGroup() as group:
        lost = group.create_task(pair.first.picture(x_stainless_retry_count="0"))
        await asyncio.sleep(1.0)
        retried = group.create_task(pair.second.picture(x_stainless_retry_count="1"))
        await asyncio.sleep(pause_s)
        async with httpx.AsyncClient() as client:
            told = (await client.get(f"{pair.second.url.removesuffix('/v1')}/metrics")).text
        assert "gateway_recovered_tasks_total 1.0" in told.splitlines()
        pair.first.process.send_signal(18)
    answers = [lost.result(), retried.result()]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert await pair.submits() == 1
    assert await pair.money() == (COST_MICROUSD, 0)
    assert await pair.books_agree()
