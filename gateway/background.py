"""The only parent of background work, and the system's clock.

A *loop* runs for the life of the process; one that ends is a defect: it is logged, readiness turns
red (`dead_loops`) and `on_death` is called so that the process stops and a fresh one recovers from
the store. A *step* is one unit of work with an end; it is never cancelled by the request that
started it, and a stop waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Seconds until a loop that is still there after it was cancelled is cancelled again.
CANCEL_AGAIN_S = 0.5


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds that only move forward."""
        return time.monotonic()


class Background:
    """Owns every loop and step of a process; an async context manager.

    Leaving the context cancels the loops, waits `grace_s` seconds for running steps, then cancels
    what is left. `count_death` is told the name of each loop that dies.
    """

    def __init__(
        self, *, grace_s: float, count_death: Callable[[str], None] = lambda _: None
    ) -> None:
        self._grace_s = grace_s
        self._count_death = count_death
        self._group = asyncio.TaskGroup()
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._steps: set[asyncio.Task[None]] = set()
        self._dead: list[str] = []
        self._on_death: Callable[[], None] = lambda: None
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        await self._end_loops()
        await self._finish_steps()
        # The body's own error leaves as it is: handed to the group, it would come back wrapped.
        await self._group.__aexit__(None, None, None)

    async def _end_loops(self) -> None:
        """Cancel the loops until all have ended.

        Once is not always enough: before Python 3.12 `asyncio.wait_for`, which redis-py sends with,
        loses a cancellation that arrives in the moment in which it is done, and the loop goes on.
        """
        while running := [task for task in self._loops.values() if not task.done()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=CANCEL_AGAIN_S)

    async def _finish_steps(self) -> None:
        """Wait for steps and those that they start, for `grace_s` in all; then cut them off."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._grace_s):
                while self._steps:
                    await asyncio.wait(set(self._steps))
        while self._steps:
            for step in self._steps:
                log.warning("step_cut_off", action="step_cut_off", step=step.get_name())
                step.cancel()
            await asyncio.wait(set(self._steps))

    def on_death(self, callback: Callable[[], None]) -> None:
        """Call this when a loop dies; at once if one is dead already."""
        self._on_death = callback
        if self._dead:
            callback()

    @property
    def dead_loops(self) -> tuple[str, ...]:
        """Names of the loops that ended although they never should."""
        return tuple(self._dead)

    @property
    def running_loops(self) -> tuple[str, ...]:
        """Names of the loops that are alive."""
        return tuple(name for name, task in self._loops.items() if not task.done())

    def loop(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Start a loop that must run until the process stops."""
        self._loops[name] = self._group.create_task(self._watch(name, run), name=name)

    def step(self, name: str, work: Coroutine[object, object, None]) -> None:
        """Start one unit of work; what it raises is a defect, logged and confined to it."""
        task = self._group.create_task(_confined(name, work), name=name)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)

    async def shielded(self, name: str, work: Coroutine[object, object, T]) -> T:
        """Run work to its end even when the caller is cancelled meanwhile; return its result."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # Nobody may be left to look at a failure: look at it here, so that it is no warning.
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.step(name, _into(outcome, work))
        return await asyncio.shield(outcome)

    async def _watch(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except asyncio.CancelledError:
            if self._stopping:
                raise
            log.critical("loop_died", action="loop_died", loop=name, reason="cancelled")
        except Exception:  # the one place where any defect of any loop ends up
            log.critical("loop_died", action="loop_died", loop=name, exc_info=True)
        else:
            log.critical("loop_died", action="loop_died", loop=name, reason="returned")
        self._dead.append(name)
        self._count_death(name)
        self._on_death()


async def _confined(name: str, work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except Exception:  # one broken task must not take the others with it
        log.exception("step_failed", action="step_failed", step=name)


async def _into(outcome: asyncio.Future[T], work: Coroutine[object, object, T]) -> None:
    try:
        result = await work
    except asyncio.CancelledError:
        outcome.cancel()
        raise
    except Exception as error:  # noqa: BLE001 - carried to whoever awaits the outcome
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
