"""The product of one round, as it is run: store, upstream, balancer and `gateway serve` processes.

Everything is this round's own, in a folder of its own, so that a round can be replayed alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cli.fault_points import FAULT_ENV
from gateway.simulator.settings import Idempotency, SimulatorSettings
from gateway.store.embedded import die_with_parent
from gateway.store.notes import SERVER_LOCK, embedded_url, read_note
from tests.chaos.plan import Act, Moment, Plan
from tests.support.balancer import Balancer, balancing
from tests.support.gateway import ENVIRON, serving_simulator, write_config
from tests.support.valkey import ValkeyProcess, run_valkey

#: How long a process may take to say that it listens; machines that test are busy.
START_S = 60.0
#: How long a replica that was killed is gone before it is started again.
RESTART_AFTER_S = 0.7
#: What nobody knows the fate of is written off after this.
DEADLINE = "5s"
WAIT = "40s"
ORGANIZATION = '[organization]\nbudgets = [{ usd = 50, per = "month" }]'

#: What replicas may end with: an orderly stop, SIGKILL, and SIGTERM before they listen for it.
_EXPECTED_ENDS = (0, -signal.SIGKILL, -signal.SIGTERM)


class Replica:
    """A `gateway serve` that is started again whenever it ends, until the round is over."""

    def __init__(self, number: int, config: Path, balancer: Balancer, trap: str) -> None:
        self.log = config.parent / f"replica{number}.log"
        self.deaths: list[int] = []
        self._config = config
        self._balancer = balancer
        self._trap = trap
        self._process: asyncio.subprocess.Process | None = None
        self._serving = asyncio.Event()
        self._closing = False

    async def run(self) -> None:
        """Start it again and again."""
        trap = self._trap
        while not self._closing:
            with self.log.open("ab") as log:
                process = self._process = await self._start(trap, log.fileno())
            trap = ""
            assert process.stdout is not None
            async with asyncio.timeout(START_S):
                line = (await process.stdout.readline()).decode()
            backend = line.removeprefix("gateway: listening on ").strip().removesuffix("/v1")
            if backend:
                self._balancer.backends.append(backend)
                self._serving.set()
            await process.communicate()
            self._serving.clear()
            if backend:
                self._balancer.backends.remove(backend)
            if not self._closing:
                assert process.returncode is not None
                self.deaths.append(process.returncode)
                await asyncio.sleep(RESTART_AFTER_S)

    async def _start(self, trap: str, log: int) -> asyncio.subprocess.Process:
        parent = os.getpid()
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--config", str(self._config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={"PATH": os.environ["PATH"], FAULT_ENV: trap, **ENVIRON},  # noqa: TID251 - a child's environment
            preexec_fn=lambda: die_with_parent(parent),
        )

    async def until_serving(self) -> None:
        """Return when it listens."""
        async with asyncio.timeout(START_S):
            await self._serving.wait()

    def send(self, number: int) -> None:
        """Send a signal; nothing happens while it is not there."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def close(self) -> None:
        """End it for good."""
        self._closing = True
        self.send(signal.SIGKILL)

    @property
    def unexpected_ends(self) -> list[int]:
        """Return the exit codes that nobody asked for."""
        return [code for code in self.deaths if code not in _EXPECTED_ENDS]


@dataclass
class World:
    """One round's processes, and what can be done to them."""

    folder: Path
    config: Path
    upstream: str
    balancer: Balancer
    valkey: ValkeyProcess | None
    replicas: list[Replica] = field(default_factory=list)

    @property
    def store_url(self) -> str:
        """Where the store listens now."""
        if self.valkey is not None:
            return self.valkey.url
        return embedded_url(self.folder / "valkey")

    async def play(self, moment: Moment) -> None:
        """Do what a moment says, and undo it when it has lasted."""
        await asyncio.sleep(moment.at_s)
        replica = self.replicas[moment.replica]
        match moment.act:
            case Act.KILL:
                replica.send(signal.SIGKILL)
            case Act.TERM:
                replica.send(signal.SIGTERM)
            case Act.CONTINUE:
                # It may pause itself only later; whoever calls it must not wait for ever.
                while True:
                    replica.send(signal.SIGCONT)
                    await asyncio.sleep(moment.at_s)
            case Act.CRASH:
                self._signal_store(signal.SIGKILL)
            case Act.STOP:
                await _for_a_while(replica.send, moment.for_s)
            case Act.STALL:
                await _for_a_while(self._signal_store, moment.for_s)

    def _signal_store(self, number: int) -> None:
        if self.valkey is not None:
            pids = list(self.valkey.pids)
        else:
            noted, _ = read_note(self.folder / "valkey" / SERVER_LOCK)
            pids = [int(noted)] if noted else []  # none while it is being started
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def heal(self) -> None:
        """Let everything go on that may have been stopped, and wait until all replicas serve."""
        with suppress(OSError, ValueError):
            self._signal_store(signal.SIGCONT)
        for replica in self.replicas:
            replica.send(signal.SIGCONT)
        for replica in self.replicas:
            await replica.until_serving()
        await self.balancer.until_ready(len(self.replicas))

    @property
    def complaints(self) -> list[str]:
        """Return what replicas should not have done or logged."""
        return [
            *(
                f"a replica ended by itself with {code}: {replica.log}"
                for replica in self.replicas
                for code in replica.unexpected_ends
            ),
            *(
                f"a replica has a defect: {line[:300]}"
                for replica in self.replicas
                for line in replica.log.read_text(errors="replace").splitlines()
                if any(word in line for word in ("step_failed", "loop_died", "Traceback"))
            ),
        ]


async def _for_a_while(send: Callable[[int], None], seconds: float) -> None:
    send(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        send(signal.SIGCONT)


@asynccontextmanager
async def running_world(plan: Plan, folder: Path) -> AsyncIterator[World]:
    """Run everything a plan needs until the block ends; its replicas all serve."""
    simulator = SimulatorSettings(
        latency_median_s=plan.latency_s,
        latency_sigma=0.4,
        seed=plan.number,
        idempotency=Idempotency.REPLAYED if plan.proven else Idempotency.IGNORED,
    )
    async with serving_simulator(simulator) as upstream, balancing(plan.probe) as balancer:
        if plan.embedded:
            async with _running_replicas(plan, folder, upstream, balancer, None) as world:
                yield world
        else:
            with run_valkey(folder / "store") as valkey:
                async with _running_replicas(plan, folder, upstream, balancer, valkey) as world:
                    yield world


@asynccontextmanager
async def _running_replicas(
    plan: Plan, folder: Path, upstream: str, balancer: Balancer, valkey: ValkeyProcess | None
) -> AsyncIterator[World]:
    config = write_config(
        folder,
        upstream,
        wait=WAIT,
        budget="50",
        server=f'lease = "1s"\ndeadline = "{DEADLINE}"\npublic_url = "{balancer.url}"',
        redis='data_dir = "valkey"' if valkey is None else f'url = "{valkey.url}"',
        sections=ORGANIZATION if plan.organization else "",
        provider=f'idempotency = "{"proven" if plan.proven else "unproven"}"',
    )
    world = World(folder, config, upstream, balancer, valkey)
    traps = {trap.replica: trap.spec for trap in plan.traps}
    async with asyncio.TaskGroup() as group:
        for number in range(plan.replicas):
            replica = Replica(number, config, balancer, traps.get(number, ""))
            world.replicas.append(replica)
            group.create_task(replica.run())
        try:
            for replica in world.replicas:
                await replica.until_serving()
            await balancer.until_ready(plan.replicas)
            yield world
        finally:
            for replica in world.replicas:
                replica.close()
