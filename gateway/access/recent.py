"""Values that are read from the store for a moment: at most `max_age_s` old, read once for all.

Age counts from the moment a read began, so a value is never older than it is taken for. Callers
that come while a read young enough for them is on its way wait for that one; its failure is theirs
too, so that a store that hangs makes nobody wait for more than one read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

#: Reads the value of a key; is given the last one, which may be still true.
Read = Callable[[K, T | None], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class _Known(Generic[T]):
    """A value, and when the read that brought it began."""

    value: T
    began_s: float


@dataclass(frozen=True, slots=True)
class _Flight(Generic[T]):
    """A read on its way; lands None when whoever made it left before it ended."""

    began_s: float
    landed: asyncio.Future[_Known[T] | StoreUnavailable | None]


class Recent(Generic[K, T]):
    """Keeps the last value of every key that was asked for; bounding the keys is the caller's."""

    def __init__(self, read: Read[K, T], clock: Clock, *, max_age_s: float) -> None:
        self._read = read
        self._clock = clock
        self._max_age_s = max_age_s
        self._known: dict[K, _Known[T]] = {}
        self._flights: dict[K, _Flight[T]] = {}

    def last(self, key: K) -> T | None:
        """Return the last value that was read, however old; None when none ever was."""
        known = self._known.get(key)
        return None if known is None else known.value

    async def recent(self, key: K) -> T:
        """Return a value whose read began at most `max_age_s` before this call.

        Raises StoreUnavailable.
        """
        return await self._since(key, self._clock.monotonic_s() - self._max_age_s)

    async def fresh(self, key: K) -> T:
        """Return a value whose read began after this call. Raises StoreUnavailable."""
        return await self._since(key, self._clock.monotonic_s())

    async def _since(self, key: K, since_s: float) -> T:
        while True:
            known = self._known.get(key)
            if known is not None and known.began_s > since_s:
                return known.value
            flight = self._flights.get(key)
            if flight is None or flight.began_s <= since_s:
                return await self._fly(key)
            landed = await asyncio.shield(flight.landed)
            if isinstance(landed, StoreUnavailable):
                raise StoreUnavailable from landed
            if landed is not None:
                return landed.value

    async def _fly(self, key: K) -> T:
        flight: _Flight[T] = _Flight(
            self._clock.monotonic_s(), asyncio.get_running_loop().create_future()
        )
        self._flights[key] = flight
        landed: _Known[T] | StoreUnavailable | None = None
        try:
            value = await self._read(key, self.last(key))
            landed = _Known(value, flight.began_s)
            before = self._known.get(key)
            # Reads may overtake each other: the one that began last knows best.
            if before is None or before.began_s <= flight.began_s:
                self._known[key] = landed
        except StoreUnavailable as error:
            landed = error
            raise
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.landed.set_result(landed)
        return value
