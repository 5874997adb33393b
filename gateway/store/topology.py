"""Who serves what: one server, the primary that Sentinels name, or the shards of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.config.store_address import Endpoint, StoreAddress
from gateway.store.connect import Connector

#: What a server that does not know its own host writes for it.
_UNKNOWN_HOSTS = (b"", b"?", None)


class NowhereError(RedisConnectionError):
    """Nobody who was asked knows where the store's servers are."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The primaries there are; in a cluster also which of them owns which slot."""

    primaries: tuple[Endpoint, ...]
    owners: Mapping[int, Endpoint] = field(default_factory=dict, repr=False)


class Lookup(Protocol):
    """Finds out who serves what."""

    #: How long an answer is good for while all is well.
    max_age_s: float

    async def find(self, known: Sequence[Endpoint]) -> Layout:
        """Return the layout as it is now; `known` are the primaries that there were.

        Raises RedisError, OSError or TimeoutError.
        """
        ...


class OneServer:
    """A server by its address."""

    max_age_s = inf

    def __init__(self, address: StoreAddress) -> None:
        self._layout = Layout(address.endpoints)

    async def find(self, known: Sequence[Endpoint]) -> Layout:  # noqa: ARG002 - it never changes
        """Return the one server."""
        return self._layout


class Sentinels:
    """Servers of which one is the primary, whichever the Sentinels have made it.

    All are asked at once until most have answered, or `ask_s` is over: one that was cut off from
    the others may still name the old primary, so the highest configuration epoch counts. They are
    asked every second, for an old primary that is alive is told of its successor ten seconds late
    and takes writes until then that will be lost.
    """

    max_age_s = 1.0

    def __init__(self, address: StoreAddress, connector: Connector, *, ask_s: float) -> None:
        self._sentinels = address.endpoints
        self._service = address.service
        self._connector = connector
        self._ask_s = ask_s

    async def find(self, known: Sequence[Endpoint]) -> Layout:  # noqa: ARG002 - Sentinels do not move
        """Return the primary of the newest configuration that a Sentinel knows."""
        answers, failures = [], []
        async with asyncio.TaskGroup() as group:
            asks = [group.create_task(self._ask(sentinel)) for sentinel in self._sentinels]
            for ask in asyncio.as_completed(asks):
                told = await ask
                if isinstance(told, str):
                    failures.append(told)
                else:
                    answers.append(told)
                if 2 * len(answers) > len(asks):
                    break
            for late in asks:
                late.cancel()
        if not answers:
            raise NowhereError(f"no Sentinel knows {self._service!r}: {'; '.join(failures)}")
        _, primary = max(answers, key=lambda answer: answer[0])
        return Layout((primary,))

    async def _ask(self, sentinel: Endpoint) -> tuple[int, Endpoint] | str:
        """Return (configuration epoch, primary), or why there is no answer."""
        try:
            async with asyncio.timeout(self._ask_s), self._connector.opened(sentinel) as client:
                # Both in one go; the second alone is late: a Sentinel that leads a failover
                # keeps the old address in its record until all replicas have followed.
                pipeline = client.pipeline(transaction=False)
                pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                pipeline.execute_command("SENTINEL", "MASTER", self._service)
                place, record = await pipeline.execute()
        except TimeoutError:
            return f"{sentinel}: no answer"
        except (RedisError, OSError) as error:
            return f"{sentinel}: {error}"
        return _epoch_of(record), Endpoint(place[0].decode(), int(place[1]))


class Shards:
    """A cluster: each node knows which primary owns which slot.

    Nodes are asked one after another, another one first each time, until one answers within
    `ask_s`. Nodes redirect whoever is wrong, and an old primary of a cluster takes no writes.
    """

    max_age_s = inf

    def __init__(self, address: StoreAddress, connector: Connector, *, ask_s: float) -> None:
        self._seeds = address.endpoints
        self._connector = connector
        self._ask_s = ask_s
        self._turn = 0

    async def find(self, known: Sequence[Endpoint]) -> Layout:
        """Return the shards as the first node that answers sees them."""
        nodes = list(dict.fromkeys((*known, *self._seeds)))
        self._turn = (self._turn + 1) % len(nodes)
        failures = []
        for node in nodes[self._turn :] + nodes[: self._turn]:
            try:
                async with asyncio.timeout(self._ask_s), self._connector.opened(node) as client:
                    layout = layout_of(await client.execute_command("CLUSTER", "SLOTS"), node)
            except TimeoutError:
                failures.append(f"{node}: no answer")
            except (RedisError, OSError) as error:
                failures.append(f"{node}: {error}")
            else:
                if layout.primaries:
                    return layout
                failures.append(f"{node}: no slots are served")
        raise NowhereError(f"no node knows the cluster: {'; '.join(failures)}")


def layout_of(slots: Sequence[Any], asked: Endpoint) -> Layout:
    """Read the answer to CLUSTER SLOTS: [first, last, [host, port, ..] of the primary, ..] each."""
    owners: dict[int, Endpoint] = {}
    for first, last, (host, port, *_), *_ in slots:
        owner = Endpoint(asked.host if host in _UNKNOWN_HOSTS else host.decode(), port)
        owners.update(dict.fromkeys(range(first, last + 1), owner))
    return Layout(tuple(dict.fromkeys(owners.values())), owners)


def _epoch_of(record: Sequence[bytes]) -> int:
    """Return the configuration epoch in SENTINEL MASTER's answer, names and values in turn."""
    return int(record[record.index(b"config-epoch") + 1])
