"""The connection to Redis or Valkey, with the truth about what may have happened.

redis-py's own retries are off: by default it repeats a command ten times, and one EVAL across a
stall was seen to run twice (design rule 17). Every call has one total time limit; a call that
failed may or may not have been executed, and the caller decides whether to repeat it, which every
script of ours allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Self, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from gateway.domain.errors import StoreUnavailable
from gateway.store.scripts import Script

T = TypeVar("T")

#: What the store may answer, and what goes in as arguments. Scripts answer bytes, integers and
#: lists; redis-py makes mappings and sets of what some plain commands answer.
Reply = bytes | int | None | list["Reply"] | dict[bytes, "Reply"] | set[bytes]
Argument = bytes | str | int

#: Refusals that pass: the server is loading, failing over, full, or read-only for the moment.
_PASSING = (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisConnectionError,
    RedisTimeoutError,
)


class Store:
    """Runs commands and scripts on one server, each within `timeout_ms` in all."""

    def __init__(self, url: str, *, timeout_ms: int, max_connections: int = 64) -> None:
        self._timeout_s = timeout_ms / 1000
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=self._timeout_s,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            protocol=2,
            # On by default; it skips the pool's check for left-over answers.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        # redis-py's execute_command is not annotated.
        self._redis: Any = Redis.from_pool(pool)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        """Return when the server answers; StoreUnavailable when it does not."""
        await self._within(self._redis.execute_command("PING"))

    async def command(self, *words: Argument) -> Reply:
        """Run one plain command. Raises StoreUnavailable; it may have been executed then."""
        reply: Reply = await self._within(self._redis.execute_command(*words))
        return reply

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply:
        """Run a script by its digest, one round trip when the server knows it.

        Raises StoreUnavailable; the script may have been executed then.
        """
        return await self._within(self._evaluate(script, (len(keys), *keys, *arguments)))

    async def _evaluate(self, script: Script, words: tuple[Argument, ...]) -> Reply:
        try:
            reply: Reply = await self._redis.execute_command("EVALSHA", script.digest, *words)
        except NoScriptError:
            # Refused before anything ran: the server is new or was restarted.
            reply = await self._redis.execute_command("EVAL", script.body, *words)
        return reply

    async def _within(self, call: Awaitable[T]) -> T:
        cancelled_before = _times_cancelled()
        try:
            return await self._translated(call)
        finally:
            # redis-py loses a cancellation that comes while it looks at or closes a connection:
            # a loop that was told to stop would go on for ever.
            if _times_cancelled() > cancelled_before:
                raise asyncio.CancelledError

    async def _translated(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except (*_PASSING, TimeoutError, OSError) as error:
            raise StoreUnavailable from error
        except ResponseError as error:
            if _is_passing_text(str(error)):
                raise StoreUnavailable from error
            raise
        except RedisError as error:
            raise StoreUnavailable from error


def _times_cancelled() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _is_passing_text(message: str) -> bool:
    """Tell refusals that redis-py has no class for, also when a script reports them."""
    return any(word in message for word in ("OOM ", "LOADING", "READONLY", "MISCONF", "BUSY "))
