from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway.providers.interface import Balance, BalanceOutcome, NoBalance
from gateway.service.upstreams import Upstreams
from gateway.telemetry.metrics import Metrics
from tests.support.clock import LoopClock, in_virtual_time


class Account:
    """Says what it is told to say, one answer after the other, the last for ever."""

    def __init__(self, *answers: BalanceOutcome, takes_s: float = 0.0) -> None:
        self._answers: Iterator[BalanceOutcome] = iter(answers)
        self._last = answers[-1]
        self._takes_s = takes_s
        self.asked_s: list[float] = []

    async def balance(self) -> BalanceOutcome:
        """Answer the next one."""
        self.asked_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._takes_s)
        return next(self._answers, self._last)


class House:
    """One account and its figures."""

    def __init__(self, account: Account) -> None:
        self.metrics = Metrics(CollectorRegistry(), version="1")
        providers: Any = {"evolink": account}
        self.upstreams = Upstreams(providers, {"evolink": 60.0}, self.metrics, LoopClock())

    def shown(self, name: str) -> float | None:
        """Return a gauge of the account."""
        return self.metrics.registry.get_sample_value(f"gateway_{name}", {"provider": "evolink"})


async def test_what_is_left_is_shown() -> None:
    """An account that is served is up, and its credits are shown, also below zero."""
    house = House(Account(Balance(-12.5)))
    await house.upstreams.ask("evolink")

    assert (1, -12.5) == (house.shown("provider_up"), house.shown("provider_credits"))


async def test_an_account_that_is_not_served_is_down() -> None:
    """What it had stays as it was told last; going down and coming back are lines in the log."""
    house = House(Account(Balance(7), NoBalance("HTTP 502"), NoBalance("HTTP 502"), Balance(None)))
    seen = []
    with capture_logs() as logs:
        for _ in range(4):
            await house.upstreams.ask("evolink")
            seen.append((house.shown("provider_up"), house.shown("provider_credits")))

    assert seen == [(1, 7), (0, 7), (0, 7), (1, 7)]
    assert [(line["action"], line.get("reason")) for line in logs] == [
        ("provider_down", "HTTP 502"),
        ("provider_up", None),
    ]


async def test_nothing_is_shown_that_was_never_told() -> None:
    """No answer yet is no balance of zero, which would wake somebody up."""
    house = House(Account(NoBalance("never sent")))
    await house.upstreams.ask("evolink")

    assert (0, None) == (house.shown("provider_up"), house.shown("provider_credits"))


def test_it_is_asked_at_once_and_then_as_often_as_told() -> None:
    """A slow answer does not shift the next question, and leaves a pause before it."""

    async def asked(takes_s: float) -> list[float]:
        account = Account(Balance(1), takes_s=takes_s)
        began_s = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            await asyncio.wait_for(House(account).upstreams.run(), 200)
        return [moment - began_s for moment in account.asked_s]

    assert in_virtual_time(asked(15.0)) == [0, 60, 120, 180]
    assert in_virtual_time(asked(90.0)) == [0, 120]
