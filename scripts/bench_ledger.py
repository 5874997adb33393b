"""Print how many admissions and settlements the books take per second, and what each costs.

One process, one event loop, the embedded server with every write on the disk before it is
acknowledged. Compare figures of one run only: machines are noisy.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from gateway.background import SystemClock
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import Operation, TokenUsage
from gateway.domain.limits import Budget, Period, Quotas
from gateway.domain.pricing import Charge, ChargeBasis
from gateway.domain.task import Event, Render, SubmitOrder, Task
from gateway.store.client import Store
from gateway.store.embedded import EmbeddedServer
from gateway.tasks.admissions import Keeping
from gateway.tasks.interface import Admission, Admitted, Call, Ending
from gateway.tasks.redis_tasks import RedisTaskStore

CALLS = 3_000
KEEPING = Keeping(record_ms=60_000, answer_ms=60_000, listed_ms=60_000)
CONCURRENCY = (1, 16, 64)
BUDGETS = (
    Budget("day", 2**50, Period.DAY),
    Budget("month", 2**50, Period.MONTH),
    Budget("total", 2**50, Period.TOTAL),
)
TEAM = Team(
    id=TeamId("bench"),
    models=("*",),
    budgets=BUDGETS,
    quotas=Quotas(requests_per_minute=10**6, images_per_day=10**9),
)
CALLER = Caller(TEAM, ApiKey("bench", budgets=BUDGETS[:1]))
CHARGE = Charge(7_852, {"image_output": 7_834, "text_input": 18}, ChargeBasis.CREDITS)
ENDING = Ending(
    Event.FINISH, CHARGE, links=("https://files/x.png",), usage=TokenUsage(image_output=272)
)
ORDER = SubmitOrder("evolink", "evolink:1", {"model": "gpt-image-1.5", "prompt": "a fox " * 20})


async def spread(work: list[Callable[[], Coroutine[object, object, None]]], at_once: int) -> float:
    """Run all work with so much of it at once; return seconds."""
    waiting = iter(work)

    async def worker() -> None:
        for call in waiting:
            await call()

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return time.perf_counter() - began_s


async def measure(tasks: RedisTaskStore, at_once: int) -> tuple[float, float]:
    """Return admissions and settlements per second."""
    admitted: list[Task] = []

    async def admit(number: int) -> None:
        admission = Admission(
            id=TaskId(f"bench_{at_once}_{number}"),
            caller=CALLER,
            user="",
            images=1,
            model="gpt-image-1.5",
            operation=Operation.GENERATION,
            size="1024x1024",
            quality="low",
            hold_microusd=10_206,
            order=ORDER,
            call=Call(f"call_{at_once}_{number}", waiter=f"req_{at_once}_{number}"),
        )
        answer = await tasks.admit(admission)
        if not isinstance(answer, Admitted):
            raise TypeError("every call of the bench is one of its own")
        admitted.append(answer.task)

    async def ready(task: Task) -> tuple[Task, Render]:
        begun = await tasks.begin_submit(task, task.renders[0], f"run_{task.id}")
        return task, await tasks.record_submitted(task, begun, f"up-{task.id}")

    async def settle(task: Task, render: Render) -> None:
        await tasks.conclude(task, render, ENDING)

    admit_s = await spread([lambda n=n: admit(n) for n in range(CALLS)], at_once)
    submitted = [await ready(task) for task in admitted]
    settle_s = await spread([lambda one=one: settle(*one) for one in submitted], at_once)
    return CALLS / admit_s, CALLS / settle_s


async def inner_commands(store: Store) -> dict[str, int]:
    """Return how often each command ran, also those inside scripts."""
    stats = await store.command("INFO", "commandstats")
    if not isinstance(stats, dict):
        raise TypeError("INFO answers a mapping")
    return {name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()}


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        server = EmbeddedServer(Path(folder))
        await server.start()
        try:
            async with Store(server.url, timeout_ms=10_000) as store:
                tasks = RedisTaskStore(store, SystemClock(), owner="bench", keeping=KEEPING)
                rows = [(at_once, *await measure(tasks, at_once)) for at_once in CONCURRENCY]
                counts = await inner_commands(store)
        finally:
            await server.stop()
    table = Table(title=f"{CALLS} calls, 4 budgets and 2 quotas each, appendfsync always")
    for name in ("callers at once", "admissions/s", "settlements/s"):
        table.add_column(name, justify="right")
    for at_once, admissions, settlements in rows:
        table.add_row(str(at_once), f"{admissions:,.0f}", f"{settlements:,.0f}")
    console = Console()
    console.print(table)
    pictures = CALLS * len(CONCURRENCY)
    scripts = counts["evalsha"] + counts.get("eval", 0)
    inside = sum(calls for name, calls in counts.items() if name not in {"evalsha", "eval"})
    console.print(
        f"round trips per picture: {scripts / pictures:.2f};"
        f" commands inside its scripts: {inside / pictures:.1f}"
    )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
