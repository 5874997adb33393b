"""Delivers callbacks: claims what is due, posts it, writes down how it went.

All replicas run one; a claim decides who posts. What follows is protocols/evolink.md §6: any 2xx
within ten seconds is a success, anything else is tried again after 1, 2 and 4 seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import httpx
import structlog

from gateway.background import Background
from gateway.callbacks.deliveries import Claimed, Deliveries, Verdict
from gateway.callbacks.interface import DeliveryStatus, WebhookSecrets
from gateway.callbacks.sign import signed_headers
from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import ID_BYTES, TeamId
from gateway.network.guarded import RefusedError
from gateway.network.transport import NeverSentError

log = structlog.get_logger(__name__)

#: Seconds between tries to write an outcome down; in all well below the margin of a lease.
RECORD_AGAIN_S = (0.2, 1.0)

#: Asks for all teams there are.
Teams = Callable[[], Awaitable[Iterable[TeamId]]]


class Outcome(StrEnum):
    """Why an attempt has no HTTP status."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class CourierSettings:
    """How patient deliveries are, and how many there are at once; seconds.

    A lease is `lease_margin_s` longer than an attempt may take. All teams are looked at every
    `sweep_s`, for what other replicas left behind; what is known here is done on time.
    """

    timeout_s: float = 10.0
    retry_after_s: tuple[float, ...] = (1.0, 2.0, 4.0)
    lease_margin_s: float = 10.0
    sweep_s: float = 5.0
    max_concurrent: int = 32
    max_concurrent_per_team: int = 8


class Courier:
    """Delivers the callbacks of all teams, for ever."""

    def __init__(
        self,
        *,
        deliveries: Deliveries,
        secrets: WebhookSecrets,
        client: httpx.AsyncClient,
        background: Background,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        observe: Callable[[str], None],
        settings: CourierSettings,
    ) -> None:
        self._deliveries = deliveries
        self._secrets = secrets
        self._client = client
        self._background = background
        self._clock = clock
        self._random_bytes = random_bytes
        self._observe = observe
        self._settings = settings
        #: When to look at each team next, on the monotonic clock.
        self._visits: dict[TeamId, float] = {}
        self._next_sweep_s = 0.0
        self._in_hand: set[tuple[TeamId, str]] = set()
        self._per_team: Counter[TeamId] = Counter()
        #: Teams that found every place taken by others.
        self._crowded_out: set[TeamId] = set()
        self._woken = asyncio.Event()

    def wake(self, team: TeamId) -> None:
        """Look at a team now: a callback of it was written down."""
        self._visits[team] = self._clock.monotonic_s()
        self._woken.set()

    async def run(self, teams: Teams) -> None:
        """Deliver what is due, as it becomes due."""
        self._next_sweep_s = self._clock.monotonic_s()
        while True:
            self._woken.clear()
            await self.visit_due(teams)
            next_s = min([self._next_sweep_s, *self._visits.values()])
            try:
                async with asyncio.timeout(max(0.0, next_s - self._clock.monotonic_s())):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def visit_due(self, teams: Teams) -> None:
        """Start what is due now, of every team that it is time to look at."""
        await self._sweep(teams)
        now_s = self._clock.monotonic_s()
        for team in [team for team, visit_s in self._visits.items() if visit_s <= now_s]:
            await self._visit(team)

    async def _sweep(self, teams: Teams) -> None:
        now_s = self._clock.monotonic_s()
        if now_s < self._next_sweep_s:
            return
        self._next_sweep_s = now_s + self._settings.sweep_s
        try:
            found = await teams()
        except StoreUnavailable:
            return
        for team in found:
            self._visits[team] = now_s

    async def _visit(self, team: TeamId) -> None:
        """Start what is due of one team, as far as there is room, and note when to look again."""
        self._visits.pop(team, None)
        settings = self._settings
        room = min(
            settings.max_concurrent_per_team - self._per_team[team],
            settings.max_concurrent - len(self._in_hand),
        )
        if room <= 0:
            self._crowded_out.add(team)
            return
        try:
            listed = await self._deliveries.earliest(team, count=self._per_team[team] + room + 1)
        except StoreUnavailable:
            # The next sweep comes back to it.
            return
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        for delivery, due_ms in listed:
            if (team, delivery) in self._in_hand:
                continue
            if due_ms > now_ms:
                again_s = now_s + (due_ms - now_ms) / 1000
                # It may have been woken while the store was asked.
                self._visits[team] = min(again_s, self._visits.get(team, again_s))
                return
            if room == 0:
                # What is in hand looks again when it is done.
                return
            room -= 1
            self._take(team, delivery)

    def _take(self, team: TeamId, delivery: str) -> None:
        self._in_hand.add((team, delivery))
        self._per_team[team] += 1
        self._background.step("callback", self._attend(team, delivery))

    async def _attend(self, team: TeamId, delivery: str) -> None:
        try:
            await self._attempt(team, delivery)
        except StoreUnavailable:
            # Still due, or due again when its lease ends: a sweep finds it, here or elsewhere.
            log.warning("callback_unrecorded", action="callback_unrecorded", delivery=delivery)
        else:
            self.wake(team)
        finally:
            self._in_hand.discard((team, delivery))
            self._per_team[team] -= 1
            while self._crowded_out:
                self.wake(self._crowded_out.pop())

    async def _attempt(self, team: TeamId, delivery: str) -> None:
        settings = self._settings
        claimed = await self._deliveries.claim(
            team,
            delivery,
            self._random_bytes(ID_BYTES).hex(),
            lease_ms=round((settings.timeout_s + settings.lease_margin_s) * 1000),
        )
        if claimed is None:
            return
        secrets = await self._secrets.of_team(team)
        last = await self._post(claimed, secrets.all)
        verdict = self._verdict(claimed, last)
        if not await self._record(claimed, verdict):
            return
        told = "retried" if verdict.status is DeliveryStatus.PENDING else verdict.status.value
        self._observe(told)
        log.info(
            "callback", action="callback", delivery=delivery, team=team, outcome=told, last=last
        )

    async def _record(self, claimed: Claimed, verdict: Verdict) -> bool:
        """Write an outcome down, with patience: what is not written down is posted again."""
        for pause_s in RECORD_AGAIN_S:
            try:
                return await self._deliveries.record(claimed, verdict)
            except StoreUnavailable:
                await asyncio.sleep(pause_s)
        return await self._deliveries.record(claimed, verdict)

    async def _post(self, claimed: Claimed, secrets: Sequence[str]) -> str:
        """Post once; return the HTTP status, or the word for why there is none."""
        headers = signed_headers(
            secrets, delivery=claimed.id, at_ms=self._clock.now_ms(), body=claimed.body
        )
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                request = self._client.build_request(
                    "POST",
                    claimed.url,
                    content=claimed.body,
                    headers={"content-type": "application/json", **headers},
                )
                response = await self._client.send(request, stream=True)
                # What a receiver says beyond its status is not read.
                await response.aclose()
        except TimeoutError:
            return Outcome.TIMEOUT
        except (RefusedError, httpx.InvalidURL):
            return Outcome.REFUSED
        except NeverSentError:
            return Outcome.UNREACHABLE
        except httpx.HTTPError:
            return Outcome.NO_ANSWER
        return str(response.status_code)

    def _verdict(self, claimed: Claimed, last: str) -> Verdict:
        if last.isdecimal() and httpx.codes.is_success(int(last)):
            return Verdict(DeliveryStatus.DELIVERED, last)
        if claimed.tries >= len(self._settings.retry_after_s):
            return Verdict(DeliveryStatus.FAILED, last)
        retry_ms = round(self._settings.retry_after_s[claimed.tries] * 1000)
        return Verdict(DeliveryStatus.PENDING, last, due_ms=self._clock.now_ms() + retry_ms)
