"""What all replicas learn about how long renders take, and the schedules made of it.

Asked from memory: nobody waits for the store. A loop hands in what was seen here and fetches what
was seen everywhere, every few seconds and for the classes in use only. A batch is sent once at
most: losing one is harmless, and a store that is down costs nothing but news.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import orjson

from gateway.domain.catalog import Catalog
from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.latency import (
    FORECAST_PRIORS,
    LATENCY_GRID,
    RATIO_GRID,
    Forecast,
    ForecastKind,
    Grid,
    Histogram,
    LatencyClass,
    Lognormal,
)
from gateway.domain.schedule import PollLimits, Schedule
from gateway.store.client import Reply, Store
from gateway.store.keyspace import latency_key
from gateway.store.scripts import load_script
from gateway.tasks.heralds import Heralds
from gateway.tasks.scouts import Scouts

#: What is believed of a class until the catalogue or a render says more.
ANY_LATENCY = Lognormal(median=15.0, sigma=0.8)

#: How often what was seen is handed in and fetched.
REFRESH_EVERY_S = 5.0
#: A class that nobody asked for this long is forgotten here; the store still knows it.
FORGET_AFTER_S = 3600.0
#: In an hour an observation loses half its weight, and the hash goes after 30 days.
HALF_LIFE_MS = 3_600_000
KEEP_MS = 30 * 86_400_000
#: No more observations count than this, so that a busy class follows a change in about as many.
MAX_WEIGHT = 300
#: So many renders must have been seen before the first wait is theirs.
PROVEN_BY = 5
#: A schedule is made anew when this share of the observations lies elsewhere.
MOVED = 0.05

#: Where ends are announced (`heralds.py`), a task has so many polls on average: the one that reads
#: the end, and some for what is not announced after all.
HERALDED_BUDGET = 1.5
#: An end that was announced came this long before the callback, at most.
ANNOUNCED_WITHIN_S = 1.0

#: The names of the histograms in the store end in the number of their grids: other grids get
#: another number, so that releases do not add weights to each other's buckets.
_GRIDS = "1"
_LATENCY = f"latency.{_GRIDS}"
_AT_MS = "at_ms"

#: Tells what the catalogue believes of a class, or None.
Priors = Callable[[LatencyClass], Lognormal | None]
#: By histogram and bucket, the weights of a batch.
_Batch = dict[str, dict[int, float]]


def priors_of(catalog: Catalog) -> Priors:
    """Return what a catalogue's offers believe, by provider, model, operation and quality."""
    believed = {
        (offer.provider, offer.upstream_model, offer.operation, quality): latency
        for model in catalog.models.values()
        for offer in model.offers
        for quality, latency in offer.latency.items()
    }
    return lambda asked: believed.get((asked.provider, asked.model, asked.operation, asked.quality))


@dataclass(frozen=True, slots=True)
class PollingLimits:
    """The shortest gap by provider, in seconds, and how many polls a task may have on average."""

    floors_s: Mapping[str, float]
    budget: float


@dataclass(slots=True, eq=False)
class _Known:
    """A class in use: the schedule in force, whether anything stands behind it, what is new.

    `heralded` is the schedule for when ends are announced; made when it is first asked for.
    `observed` counts what was seen here.
    """

    schedule: Schedule
    scouts: Scouts
    founded: bool
    used_s: float
    batch: _Batch = field(default_factory=dict)
    heralded: Schedule | None = None
    observed: int = 0


class Latencies:
    """Schedules and quantiles by class; see the module's promise."""

    def __init__(
        self, store: Store, clock: Clock, *, limits: PollingLimits, priors: Priors
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._priors = priors
        self._learn = load_script("tasks/lua/learn.lua")
        self._known: dict[LatencyClass, _Known] = {}
        self._heralds = Heralds()
        self._proving = asyncio.Event()

    def believe(self, priors: Priors, limits: PollingLimits) -> None:
        """Take what another catalogue believes, and other limits, in place of the last ones.

        Limits hold at once; what is believed is mixed into what was seen from the next refresh on.
        """
        anew = limits != self._limits
        self._priors, self._limits = priors, limits
        for latency_class, known in self._known.items() if anew else ():
            schedule = known.schedule
            known.schedule = Schedule(
                schedule.latencies,
                self._limits_of(latency_class),
                schedule.ratios,
                proven=schedule.proven,
            )
            known.heralded = None

    def schedule_for(self, latency_class: LatencyClass) -> Schedule:
        """Return the schedule in force; for a class new to this process it is the catalogue's.

        One of few polls where the upstream's callbacks have lately announced the ends.
        """
        known = self._use(latency_class)
        if not self._heralds.trusted(latency_class.provider):
            return known.schedule
        if known.heralded is None:
            limits = self._limits_of(latency_class)
            known.heralded = Schedule(
                known.schedule.latencies,
                replace(limits, budget=min(limits.budget, HERALDED_BUDGET)),
                known.schedule.ratios,
                proven=known.schedule.proven,
                # Callbacks tell of faster renders by themselves.
                probing=False,
            )
        return known.heralded

    def holds_back(self, latency_class: LatencyClass, call: Callable[[], None]) -> bool:
        """Tell whether a new render should wait for what others tell of its class.

        Then `call` is called when that is known. Otherwise it is asked about as the schedule says.
        """
        known = self._use(latency_class)
        if known.schedule.proven or known.scouts.may_go():
            return False
        known.scouts.wait(call)
        return True

    def quantile(self, latency_class: LatencyClass, share: float) -> float | None:
        """Return seconds within which this share of renders ends; None where nothing is known."""
        known = self._use(latency_class)
        return known.schedule.latencies.quantile(share) if known.founded else None

    def observe(
        self,
        latency_class: LatencyClass,
        last_pending_s: float,
        terminal_s: float,
        forecasts: Sequence[Forecast] = (),
        *,
        called_s: float | None = None,
    ) -> None:
        """Note that a render ended between two polls, in seconds after its submit.

        `last_pending_s` is 0 when the first poll saw the end; `called_s` is when a callback had
        announced it, None when none had. Not for tasks that were adopted:
        their intervals hold the outage (design rule 21). What cannot be is ignored.
        """
        if not 0 <= last_pending_s <= terminal_s < math.inf:
            return
        self._heralds.note(latency_class.provider, announced=called_s is not None)
        if called_s is not None:
            # Nobody asked for long before: the poll that the callback brought saw the end itself.
            last_pending_s = min(max(last_pending_s, called_s - ANNOUNCED_WITHIN_S), terminal_s)
        known = self._use(latency_class)
        schedule, batch = known.schedule, known.batch
        known.observed += 1
        if known.observed > PROVEN_BY and not schedule.proven:
            self._proving.set()
        _add(batch, _LATENCY, schedule.latencies.spread(last_pending_s, terminal_s))
        for forecast in forecasts:
            ratios = schedule.ratios.get(forecast.kind) or _unproven(forecast.kind)
            total_s = forecast.total_s
            weights = ratios.spread(last_pending_s / total_s, terminal_s / total_s)
            _add(batch, _field(forecast.kind), weights)

    def misled(self, latency_class: LatencyClass) -> None:
        """Note a callback that announced an end before there was one."""
        self._heralds.note(latency_class.provider, announced=False)

    async def run(self) -> None:
        """Exchange news with the store for ever."""
        while True:
            # Somebody may wait for what was seen of a new class.
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_EVERY_S):
                    await self._proving.wait()
            self._proving.clear()
            try:
                await self.refresh()
            except StoreUnavailable:
                continue

    async def refresh(self) -> None:
        """Hand in what was seen and fetch what was learned. Raises StoreUnavailable."""
        now_s = self._clock.monotonic_s()
        for latency_class, known in list(self._known.items()):
            if known.batch:
                await self._hand_in(latency_class, known)
            elif now_s - known.used_s > FORGET_AFTER_S:
                del self._known[latency_class]
            else:
                key = latency_key(latency_class.name)
                self._take_over(latency_class, known, await self._store.command("HGETALL", key))

    async def _hand_in(self, latency_class: LatencyClass, known: _Known) -> None:
        # Taken out first: after a call without an answer nobody knows whether it was counted.
        batch, known.batch = known.batch, {}
        flat = {
            name: [word for pair in sorted(weights.items()) for word in pair]
            for name, weights in batch.items()
        }
        arguments = (HALF_LIFE_MS, MAX_WEIGHT, KEEP_MS, LATENCY_GRID.buckets, orjson.dumps(flat))
        key = latency_key(latency_class.name)
        reply = await self._store.run(self._learn, [key], arguments)
        self._take_over(latency_class, known, reply)

    def _take_over(self, latency_class: LatencyClass, known: _Known, reply: Reply) -> None:
        """Put a new schedule in force when what the store knows has moved."""
        learned = _Learned.read(reply, self._clock.now_ms())
        prior = self._priors(latency_class)
        latencies = learned.histogram(_LATENCY, LATENCY_GRID)
        known.founded = prior is not None or latencies.total > 0
        proven = latencies.total >= PROVEN_BY
        # A kind of forecast counts from when it was first compared with an end.
        ratios = {
            kind: ratio.with_prior(FORECAST_PRIORS[kind])
            for kind in ForecastKind
            if (ratio := learned.histogram(_field(kind), RATIO_GRID)).total > 0
        }
        latencies = latencies.with_prior(prior or ANY_LATENCY)
        if known.schedule.proven != proven or _moved(known.schedule, latencies, ratios):
            known.schedule = Schedule(
                latencies, self._limits_of(latency_class), ratios, proven=proven
            )
            known.heralded = None
        if proven:
            known.scouts.tell()

    def _use(self, latency_class: LatencyClass) -> _Known:
        known = self._known.get(latency_class)
        if known is None:
            prior = self._priors(latency_class)
            latencies = Histogram.empty(LATENCY_GRID).with_prior(prior or ANY_LATENCY)
            schedule = Schedule(latencies, self._limits_of(latency_class), proven=False)
            known = self._known[latency_class] = _Known(
                schedule, Scouts(self._clock), prior is not None, 0.0
            )
        known.used_s = self._clock.monotonic_s()
        return known

    def _limits_of(self, latency_class: LatencyClass) -> PollLimits:
        return PollLimits(self._limits.floors_s[latency_class.provider], self._limits.budget)


@dataclass(frozen=True, slots=True)
class _Learned:
    """A class as the store has it, and by how much it has aged since it was written."""

    weights: Mapping[str, tuple[float, ...]]
    aging: float

    @classmethod
    def read(cls, reply: Reply, now_ms: int) -> _Learned:
        """Read the hash, as plain commands and as scripts answer it."""
        if isinstance(reply, list):
            reply = dict(zip(reply[::2], reply[1::2], strict=True))  # type: ignore[arg-type] # names are bytes
        if not isinstance(reply, dict):
            raise TypeError("the store answers names and values here")
        texts = {name.decode(): value for name, value in reply.items()}
        at_ms = texts.pop(_AT_MS, b"")
        age_ms = max(now_ms - int(at_ms), 0) if isinstance(at_ms, bytes) and at_ms else 0
        weights = {
            name: tuple(map(float, text.split(b",")))
            for name, text in texts.items()
            if isinstance(text, bytes)
        }
        return cls(weights, 0.5 ** (age_ms / HALF_LIFE_MS))

    def histogram(self, name: str, grid: Grid) -> Histogram:
        """Return one of the histograms; empty when there is none."""
        weights = self.weights.get(name)
        if weights is None:
            return Histogram.empty(grid)
        return Histogram(grid, weights).scaled(self.aging)


def _moved(
    schedule: Schedule, latencies: Histogram, ratios: Mapping[ForecastKind, Histogram]
) -> bool:
    if schedule.ratios.keys() != ratios.keys():
        return True
    pairs = [
        (schedule.latencies, latencies),
        *((schedule.ratios[kind], ratios[kind]) for kind in ratios),
    ]
    return any(before.distance(after) > MOVED for before, after in pairs)


def _field(kind: ForecastKind) -> str:
    return f"{kind}.{_GRIDS}"


def _unproven(kind: ForecastKind) -> Histogram:
    return Histogram.empty(RATIO_GRID).with_prior(FORECAST_PRIORS[kind])


def _add(batch: _Batch, name: str, weights: Mapping[int, float]) -> None:
    sums = batch.setdefault(name, {})
    for bucket, weight in weights.items():
        sums[bucket] = sums.get(bucket, 0.0) + weight
