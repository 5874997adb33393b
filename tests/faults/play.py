"""One fault from before it until everything is quiet again, and what must be true then."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import httpx

from tests.faults.stage import PATIENCE_S, Answer, Stage

Act = Callable[[], Awaitable[None]]
Place = TypeVar("Place")

#: Callers at once while a fault lasts, and the pause between their calls.
CALLERS, PAUSE_S = 2, 0.4
#: What a machine that is busy with other tests adds to any answer.
SLACK_S = 8.0
#: How often a caller tries again what it was told to try again.
TRIES, MOST_RETRY_AFTER_S = 4, 3.0


async def nothing() -> None:
    """End by itself."""


@dataclass
class Scene:
    """A stage with a fault that can begin and end there.

    `markers` are what callers write into their prompts, `gateway` is the one they call; a call that
    is in progress when it begins was made with `before`, at the gateway `before_at`.
    """

    stage: Stage
    begin: Act
    end: Act = nothing
    markers: str = ""
    gateway: int = 0
    before: str = "[[latency:1]]"
    before_at: int = 0
    #: Calls over this connection, which was there before, must get their pictures all the while.
    kept: httpx.AsyncClient | None = None


@dataclass(frozen=True)
class On(Generic[Place]):
    """A fault of a place where others can be played, too: one after another, on the same books."""

    place: Callable[[Path], AbstractAsyncContextManager[Place]]
    scene: Callable[[Place], Scene]

    @asynccontextmanager
    async def __call__(self, folder: Path) -> AsyncIterator[Scene]:
        """Make a place for this one alone."""
        async with self.place(folder) as here:
            yield self.scene(here)


@dataclass(frozen=True)
class Fault:
    """A row: what breaks, and what is stated of it.

    Calls that are made meanwhile are answered one of `stated` within `bound_s`; a call that was in
    progress gets its picture. A new call is served within `recovers_s` of the end. What callers may
    try again ends with a picture, or with one of `finally_`.
    """

    name: str
    what: str
    stage: Callable[[Path], AbstractAsyncContextManager[Scene]]
    stated: frozenset[str]
    bound_s: float
    recovers_s: float
    finally_: frozenset[str] = frozenset({"200"})
    short_s: float = 1.5
    long_s: float = 10.0
    needs: str = ""


@dataclass
class Played:
    """What was seen of a fault."""

    fault: Fault
    before: Answer | None = None
    during: list[Answer] = field(default_factory=list)
    recovered_s: float | None = None
    retried: list[Answer] = field(default_factory=list)
    ordered_twice: list[str] = field(default_factory=list)
    spent_microusd: int = 0
    possible_microusd: int = 0
    bill_microusd: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def slowest_s(self) -> float:
        """The longest that a caller waited for an answer meanwhile."""
        return max((answer.took_s for answer in self.during), default=0.0)


def counted(answers: Iterable[Answer]) -> str:
    """Return what answers were, the most frequent first."""
    kinds = Counter(answer.what for answer in answers)
    return ", ".join(f"{what} ({times})" for what, times in kinds.most_common())


async def play(fault: Fault, folder: Path, *, short: bool) -> Played:
    """Play a fault in a folder of its own. A stage that cannot be set up raises."""
    async with fault.stage(folder) as scene:
        return await play_scene(fault, scene, short=short)


async def play_scene(fault: Fault, scene: Scene, *, short: bool) -> Played:
    """Play a fault where everything is ready for it."""
    played = Played(fault)
    try:
        async with asyncio.timeout(4 * PATIENCE_S):
            await _play(scene, played, fault.short_s if short else fault.long_s)
    except TimeoutError:
        played.problems.append("it did not come to rest")
    return played


async def _play(scene: Scene, played: Played, lasts_s: float) -> None:
    stage = scene.stage
    first = await stage.call(gateway=scene.before_at)
    if not first.is_picture:
        played.problems.append(f"before it: {first.what}")
    async with asyncio.TaskGroup() as group:
        label = stage.new_label()
        before = group.create_task(stage.call(label, markers=scene.before, gateway=scene.before_at))
        await stage.until_ordered(label)
        began_s = time.monotonic()
        await scene.begin()
        while not played.during or time.monotonic() - began_s < lasts_s:
            played.during += await asyncio.gather(
                *(stage.call(markers=scene.markers, gateway=scene.gateway) for _ in range(CALLERS))
            )
            if scene.kept is not None:
                answer = await stage.call(client=scene.kept)
                played.during.append(answer)
                if not answer.is_picture:
                    played.problems.append(f"over a connection that was there: {answer.what}")
            await asyncio.sleep(PAUSE_S)
        await scene.end()
        ended_s = time.monotonic()
        while not (await stage.call(gateway=scene.gateway)).is_picture:
            if time.monotonic() - ended_s > PATIENCE_S:
                played.problems.append("no call is served afterwards")
                break
            await asyncio.sleep(PAUSE_S)
        else:
            played.recovered_s = time.monotonic() - ended_s
    played.before = before.result()
    played.retried = await asyncio.gather(
        *(
            _again(stage, answer, scene.gateway)
            for answer in (played.before, *played.during)
            if answer.again
        )
    )
    _judge_answers(played)
    await _judge_books(stage, played)


async def _again(stage: Stage, answer: Answer, gateway: int) -> Answer:
    """Do as an SDK does with an answer that may be tried again."""
    for _ in range(TRIES):
        if not answer.again:
            break
        await asyncio.sleep(min(answer.retry_after_s, MOST_RETRY_AFTER_S))
        answer = await stage.call(answer.label, again=True, gateway=gateway)
    return answer


def _judge_answers(played: Played) -> None:
    fault = played.fault
    if strange := {one.what for one in played.during} - fault.stated:
        played.problems.append(f"answers that nobody stated: {', '.join(sorted(strange))}")
    if played.slowest_s > fault.bound_s + SLACK_S:
        played.problems.append(f"an answer took {played.slowest_s:.1f} s")
    if played.recovered_s is not None and played.recovered_s > fault.recovers_s + SLACK_S:
        played.problems.append(f"calls were served {played.recovered_s:.1f} s late")
    assert played.before is not None
    ends = {one.what for one in played.retried}
    if not played.before.again:
        ends.add(played.before.what)
    if strange := ends - fault.finally_:
        played.problems.append(f"calls that ended otherwise: {', '.join(sorted(strange))}")


async def _judge_books(stage: Stage, played: Played) -> None:
    """Compare what was ordered and spent with the upstream's bill once nothing is held."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        orders = await stage.orders()
        spent, held, possible = await stage.money()
        open_orders = [one for one in orders if one["state"] not in ("completed", "failed")]
        if not (held or open_orders) or time.monotonic() > until_s:
            break
        await asyncio.sleep(PAUSE_S)
    if held:
        played.problems.append(f"{held} micro-dollars are still held")
    billed = Counter(str(order["label"]) for order in orders if order["cost_microusd"])
    played.ordered_twice = sorted(label for label, times in billed.items() if times > 1)
    played.bill_microusd = sum(int(order["cost_microusd"]) for order in orders)
    played.spent_microusd, played.possible_microusd = spent, possible
    if played.ordered_twice:
        played.problems.append(f"ordered twice: {', '.join(played.ordered_twice)}")
    if not spent - possible <= played.bill_microusd <= spent:
        played.problems.append(f"{spent} spent, {played.bill_microusd} billed")
    pictures = {answer.label for answer in stage.answers if answer.is_picture}
    if unbilled := pictures - billed.keys():
        played.problems.append(f"pictures that nobody billed: {', '.join(sorted(unbilled))}")
    played.problems += await stage.findings()
