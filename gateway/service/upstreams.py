"""Whether the accounts upstream can be used and what they have left: asked now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from gateway.domain.clock import Clock
from gateway.providers.interface import Balance, NoBalance, Provider
from gateway.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Upstreams:
    """Shows in metrics how each provider's account stands; for operators, never for money.

    `every_s` says how often each is asked; those that are not in it are not. Each process asks for
    itself, so that one that cannot reach the provider says so.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        every_s: Mapping[str, float],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._every_s = every_s
        self._metrics = metrics
        self._clock = clock
        self._up: dict[str, bool] = {}

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as group:
            for name in self._every_s:
                group.create_task(self._follow(name), name=f"balance_of_{name}")

    async def _follow(self, name: str) -> None:
        """Ask one provider for ever, as often as is told, however long it takes to answer."""
        while True:
            asked_s = self._clock.monotonic_s()
            await self.ask(name)
            spent_s = self._clock.monotonic_s() - asked_s
            await asyncio.sleep(max(self._every_s[name] - spent_s, self._every_s[name] / 2))

    async def ask(self, name: str) -> None:
        """Ask one provider once, and show what it says; a change of mind is a line in the log."""
        outcome = await self._providers[name].balance()
        match outcome:
            case Balance(credits_):
                if credits_ is not None:
                    self._metrics.provider_credits.labels(name).set(credits_)
                self._show(name, up=True)
            case NoBalance(reason):
                self._show(name, up=False, reason=reason)

    def _show(self, name: str, *, up: bool, reason: str = "") -> None:
        self._metrics.provider_up.labels(name).set(up)
        was_up = self._up.get(name, True)
        self._up[name] = up
        if up and not was_up:
            log.info("provider_up", action="provider_up", provider=name)
        elif was_up and not up:
            log.warning("provider_down", action="provider_down", provider=name, reason=reason)
