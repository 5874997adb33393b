"""The connection to Redis or Valkey, with the truth about what may have happened.

Every call has one total time limit, whatever the store is made of; a call that failed may or may
not have been executed, and the caller decides whether to repeat it, which every script of ours
allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Self, TypeVar

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.config.store_address import Topology, parse_store_address
from gateway.domain.errors import StoreUnavailable
from gateway.store.connect import Acknowledgement
from gateway.store.router import Router
from gateway.store.scripts import Script

T = TypeVar("T")

#: What the store may answer, and what goes in as arguments. Scripts answer bytes, integers and
#: lists; redis-py makes mappings and sets of what some plain commands answer.
Reply = bytes | int | None | list["Reply"] | dict[bytes, "Reply"] | set[bytes]
Argument = bytes | str | int

#: Refusals that pass: the server is loading, failing over, full, or read-only for the moment, or
#: a slot is on its way to another node.
_PASSING = (
    AskError,  # with MovedError: redirected more often than a healthy cluster does
    BusyLoadingError,
    ClusterDownError,  # with MasterDownError
    OutOfMemoryError,
    ReadOnlyError,
    RedisConnectionError,
    RedisTimeoutError,
    TryAgainError,
)
#: The first words of those that redis-py has no class for. FAILOVER pauses, and then unblocks.
_PASSING_CODES = frozenset({"BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED"})
#: What a cluster that went down a moment ago answers from within a script.
_CLUSTER_DOWN = "while the cluster is down"


class Store:
    """Runs commands and scripts on one store, each within `timeout_ms` in all.

    `url` is any address of `config/store_address.py`, ValueError otherwise; `max_connections` are
    to each of its servers.
    """

    def __init__(self, url: str, *, timeout_ms: int, max_connections: int = 64) -> None:
        self._timeout_s = timeout_ms / 1000
        address = parse_store_address(url)
        #: How the store's servers hang together.
        self.topology: Topology = address.topology
        self._router = Router.to(
            address, timeout_s=self._timeout_s, max_connections=max_connections
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._router.aclose()

    async def ping(self) -> None:
        """Return when the server answers; StoreUnavailable when it does not.

        The shards of a cluster take turns: one that is silent shows every so many calls.
        """
        await self._within(self._router.execute("PING"))

    async def command(self, *words: Argument) -> Reply:
        """Run one plain command. Raises StoreUnavailable; it may have been executed then.

        In a cluster its keys must share a hash tag (ResponseError); without keys it runs on one
        of the primaries.
        """
        reply: Reply = await self._within(self._router.execute(*words))
        return reply

    async def command_everywhere(self, *words: Argument) -> list[Reply]:
        """Run one plain command on every primary. Raises StoreUnavailable."""
        return await self._within(self._router.execute_everywhere(*words))

    @property
    def doubts(self) -> int:
        """How often a server of it failed, or another one took its place.

        While it stays as it is, what was acknowledged is there.
        """
        return self._router.doubts

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        acknowledgement: Acknowledgement | None = None,
    ) -> Reply:
        """Run a script by its digest, one round trip when the server knows it.

        With an `acknowledgement`, returns only once that was given. Raises StoreUnavailable; the
        script may have been executed then.
        """
        words = (len(keys), *keys, *arguments)
        return await self._within(self._evaluate(script, words, acknowledgement))

    async def _evaluate(
        self,
        script: Script,
        words: tuple[Argument, ...],
        acknowledgement: Acknowledgement | None,
    ) -> Reply:
        execute = partial(self._router.execute, acknowledgement=acknowledgement)
        try:
            reply: Reply = await execute("EVALSHA", script.digest, *words)
        except NoScriptError:
            # Refused before anything ran: the server is new or was restarted.
            reply = await execute("EVAL", script.body, *words)
        return reply

    async def _within(self, call: Awaitable[T]) -> T:
        # redis-py sends with asyncio.wait_for, which before Python 3.12 loses a cancellation that
        # comes as the bytes leave; a loop that was cancelled once would then run for ever.
        cancelled = _cancellations()
        try:
            return await self._bounded(call)
        finally:
            if cancelled < _cancellations():
                raise asyncio.CancelledError

    async def _bounded(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except (*_PASSING, TimeoutError, OSError) as error:
            raise StoreUnavailable from error
        except ResponseError as error:
            if _is_passing(str(error)):
                raise StoreUnavailable from error
            raise
        except RedisError as error:
            raise StoreUnavailable from error


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _is_passing(message: str) -> bool:
    return message.partition(" ")[0] in _PASSING_CODES or _CLUSTER_DOWN in message
