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


@dataclass(frozen=True, slots=True)
class _Named:
    """What a Sentinel says: a primary, and the number of the configuration that made it one."""

    epoch: int
    primary: Endpoint


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
        told: asyncio.Queue[_Named | str] = asyncio.Queue()
        answers: list[_Named] = []
        failures: list[str] = []
        silent = set(self._sentinels)
        async with asyncio.TaskGroup() as group:
            asks = [
                (sentinel, group.create_task(self._ask(sentinel, silent, told)))
                for sentinel in self._sentinels
            ]
            while len(answers) + len(failures) < len(asks) and 2 * len(answers) <= len(asks):
                answer = await told.get()
                if isinstance(answer, str):
                    failures.append(answer)
                else:
                    answers.append(answer)
            # Those that have answered are closing their connection, and are let.
            for sentinel, ask in asks:
                if sentinel in silent:
                    ask.cancel()
        if not answers:
            raise NowhereError(f"no Sentinel knows {self._service!r}: {'; '.join(failures)}")
        return Layout((max(answers, key=lambda answer: answer.epoch).primary,))

    async def _ask(
        self, sentinel: Endpoint, silent: set[Endpoint], told: asyncio.Queue[_Named | str]
    ) -> None:
        """Put what a Sentinel says into `told`, or why it says nothing."""
        answer: _Named | str
        async with self._connector.opened(sentinel) as client:
            try:
                async with asyncio.timeout(self._ask_s):
                    # Both in one go; the second alone is late: a Sentinel that leads a failover
                    # keeps the old address in its record until all replicas have followed.
                    pipeline = client.pipeline(transaction=False)
                    pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                    pipeline.execute_command("SENTINEL", "MASTER", self._service)
                    (host, port), record = await pipeline.execute()
                answer = _Named(_epoch_of(record), Endpoint(host.decode(), int(port)))
            except TimeoutError:
                answer = f"{sentinel}: no answer"
            except (RedisError, OSError) as error:
                answer = f"{sentinel}: {error}"
            silent.discard(sentinel)
            told.put_nowait(answer)


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
            told = await self._ask(node)
            if isinstance(told, Layout):
                return told
            failures.append(told)
        raise NowhereError(f"no node knows the cluster: {'; '.join(failures)}")

    async def _ask(self, node: Endpoint) -> Layout | str:
        """Return what a node says, or why it says nothing."""
        async with self._connector.opened(node) as client:
            try:
                async with asyncio.timeout(self._ask_s):
                    layout = layout_of(await client.execute_command("CLUSTER", "SLOTS"), node)
            except TimeoutError:
                return f"{node}: no answer"
            except (RedisError, OSError) as error:
                return f"{node}: {error}"
        return layout if layout.primaries else f"{node}: no slots are served"


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
