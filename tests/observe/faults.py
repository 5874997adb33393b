"""Faults of a live gateway, and the alerts that each must set off."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx
import redis.asyncio

from tests.observe.stack import SPARE_BYTES, Stack, key_of

Act = Callable[[Stack], Awaitable[object]]

#: Calls of the load that are begun in a second.
LOAD_PER_S = 4.0
_PROMPTS = itertools.count(1)


def prompt(markers: str = "", length: int = 0) -> str:
    """Return a prompt that no other call has."""
    return f"{markers} a fox, number {next(_PROMPTS)}".ljust(length, ".")


async def load(stack: Stack) -> None:
    """Ask for pictures as several teams do, until cancelled; clients that leave are among them."""
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            group.create_task(_one(stack, number))
            await asyncio.sleep(1 / LOAD_PER_S)


async def _one(stack: Stack, number: int) -> None:
    team = ("design", "design", "growth", "ops")[number % 4]
    with suppress(httpx.TransportError):
        match number % 12:
            case 3:
                words = prompt()
                await stack.order(team, words)
                await stack.order(team, words, retry=1)
            case 5:
                # Leaves without its picture, and does not come back.
                await stack.order(team, prompt(), timeout=0.4)
            case 7:
                await stack.order(team, prompt(), quality="nice")
            case 9:
                await stack.order(team, prompt(), n=2)
            case 10:
                await stack.order(team, prompt("[[fail:generation_failed_no_content*1]]"))
            case number if number % 2:
                await stack.order(team, prompt(), model="gpt-image-2")
            case _:
                await stack.order(team, prompt())


async def _many(stack: Stack, count: int, team: str, **fields: object) -> None:
    markers = str(fields.pop("markers", ""))
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_quietly(stack.order(team, prompt(markers), **dict(fields))))


async def _quietly(call: Awaitable[object]) -> None:
    with suppress(httpx.TransportError):
        await call


async def eighty(stack: Stack) -> None:
    """Spend nine tenths of a small budget."""
    for _ in range(7):
        await stack.order("eighty", prompt())


async def full(stack: Stack) -> None:
    """Hold all of a budget for one slow picture, and ask for another."""
    await stack.order("full", prompt("[[latency:10]]", length=40), prefer="respond-async")
    await stack.order("full", prompt())


async def burn(stack: Stack) -> None:
    """Let a team that makes cheap pictures make a dozen dear ones."""
    await _many(stack, 12, "growth", quality="high")


async def lost_orders(stack: Stack) -> None:
    """Lose the answers of orders, and the callbacks that would bring their ids back."""
    await _many(stack, 2, "design", markers="[[drop-response]][[callback:drop]]")


async def other_bills(stack: Stack) -> None:
    """Order from an account that bills by another rate, until it is empty."""
    for _ in range(14):
        await stack.order("ops", prompt(), model="gpt-image-1")
        await asyncio.sleep(0.3)


async def failures(stack: Stack) -> None:
    """Let pictures fail for good, for some seconds."""
    for _ in range(4):
        await _many(stack, 6, "design", markers="[[fail:service_error]]")
        await asyncio.sleep(1)


async def slow_model(stack: Stack) -> None:
    """Let a model take longer than it should."""
    await _many(stack, 8, "design", markers="[[latency:8]]", model="gpt-image-2")


async def unnoticed(stack: Stack) -> None:
    """Keep the ends of pictures from being noticed: no callbacks, and polls that fail."""
    markers = "[[callback:drop]][[poll:internal_error*8]][[latency:1]]"
    await _many(stack, 8, "design", markers=markers)


async def cut_files(stack: Stack) -> None:
    """Let the provider have no more than a half of some pictures."""
    await _many(stack, 2, "design", markers="[[result:truncated]]")


async def stuck(stack: Stack) -> None:
    """Order a picture that never ends."""
    await stack.order(
        "ops", prompt("[[stuck:processing]][[callback:drop]]"), prefer="respond-async"
    )


async def kill_upstream(stack: Stack) -> None:
    """Kill the second provider."""
    stack.second.kill()


async def _until_fires(stack: Stack, alert: str) -> None:
    """Return once somebody is told, or would have been."""
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            while alert not in await stack.firing():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.5)


async def unpriced(stack: Stack) -> None:
    """Ask for a picture that nobody knows the price of."""
    await stack.order("ops", prompt(), model="old-style", quality="auto")


async def mistake(stack: Stack) -> None:
    """Make a mistake in the settings file, and put it right when somebody is told."""
    file = stack.folder / "config.toml"
    right = file.read_text()
    file.write_text(f"{right}\n[teams.design.limits]\nimages_per_year = 7\n")
    try:
        await _until_fires(stack, "GatewaySettingsRefused")
    finally:
        file.write_text(right)


async def fill_disk(stack: Stack) -> None:
    """Leave no room for pictures."""
    ballast = stack.folder / "ballast"
    with ballast.open("wb") as target:
        os.posix_fallocate(target.fileno(), 0, 2 * SPARE_BYTES)
    try:
        await _until_fires(stack, "GatewayPictureStoreFull")
    finally:
        ballast.unlink()


async def break_pictures(stack: Stack) -> None:
    """Put a file where the folder of pictures was."""
    folder, away = stack.folder / "assets", stack.folder / "away"
    folder.rename(away)
    folder.touch()
    try:
        await _until_fires(stack, "GatewayPicturesNotStored")
    finally:
        folder.unlink()
        away.rename(folder)


async def freeze_store(stack: Stack) -> None:
    """Stop the ledger store until somebody is told."""
    os.kill(stack.store_pid, signal.SIGSTOP)
    try:
        await _until_fires(stack, "GatewayLedgerStoreDown")
    finally:
        os.kill(stack.store_pid, signal.SIGCONT)


async def kill_worker(stack: Stack) -> None:
    """Kill one of the workers while it makes pictures; the other takes them over."""
    await _many(stack, 4, "design", markers="[[latency:3]]", timeout=0.5)
    os.kill(stack.workers[0], signal.SIGKILL)


async def kill_loop(stack: Stack) -> None:
    """Put something else where a process reads its messages: a loop cannot go on with that."""
    async with redis.asyncio.from_url(stack.store_url) as store:
        [replica, *_] = await store.zrevrange("replicas", 0, 0)
        await store.set(b"wake:{%b}" % replica, "not a stream", ex=30)


async def kill_gateway(stack: Stack) -> None:
    """Kill all of the gateway."""
    stack.gateway.kill()


@dataclass(frozen=True)
class Fault:
    """What is done, in words, and the alerts that must fire after it."""

    what: str
    act: Act
    alerts: Sequence[str]


#: Those of a group are done at once; a group begins when all alerts of the one before have fired.
GROUPS: Sequence[Sequence[Fault]] = (
    (
        Fault(
            "a team spends 92 % of its budget, and nobody listens",
            eighty,
            ["GatewayBudgetAt80Percent", "GatewayAnnouncementsFail"],
        ),
        Fault(
            "one slow picture holds a whole budget, another is refused",
            full,
            ["GatewayBudgetExhausted", "GatewayBudgetRefusesCalls"],
        ),
        Fault("a team makes twelve dear pictures at once", burn, ["GatewayBurnRate"]),
        Fault("the answers of two orders are lost", lost_orders, ["GatewayPossibleCharge"]),
        Fault(
            "an account with 6 credits bills at another rate",
            other_bills,
            ["GatewayBillingDrift", "GatewayUpstreamCreditsLow", "GatewayUpstreamOutOfCredits"],
        ),
        Fault(
            "pictures fail at the upstream",
            failures,
            ["GatewayErrorRatio", "GatewaySloBurnFast", "GatewaySloBurnSlow"],
        ),
        Fault("a model takes 8 s", slow_model, ["GatewaySlowModel"]),
        Fault("polls fail and callbacks are lost", unnoticed, ["GatewayDetectionLag"]),
        Fault("a picture never ends", stuck, ["GatewayTasksStuck"]),
        Fault("the provider has a half of two pictures", cut_files, []),
    ),
    (
        Fault(
            "the second provider is killed",
            kill_upstream,
            ["GatewayUpstreamDown", "GatewayUpstreamFailing"],
        ),
        Fault("a worker is killed amid pictures", kill_worker, []),
        Fault("a picture is asked for that has no price", unpriced, ["GatewayUnpricedCalls"]),
        Fault("the settings file gets a mistake", mistake, ["GatewaySettingsRefused"]),
        Fault("the disk of the pictures is full", fill_disk, ["GatewayPictureStoreFull"]),
    ),
    (Fault("the pictures' folder is gone", break_pictures, ["GatewayPicturesNotStored"]),),
    (Fault("the ledger store is stopped", freeze_store, ["GatewayLedgerStoreDown"]),),
    (Fault("a message queue is overwritten", kill_loop, ["GatewayBackgroundLoopDead"]),),
)

#: After everything was looked at: there is nothing to look at any more.
LAST = (Fault("the gateway is killed", kill_gateway, ["GatewayDown"]),)

#: A team's key, for requests that are no order.
NOISE_KEY = key_of("design")

#: What is so from the start: the catalogue names the end of a model in ten days.
STANDING = frozenset({"GatewayModelRetires"})
