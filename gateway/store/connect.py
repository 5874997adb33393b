"""Clients of single servers, with redis-py's own ways of repeating things switched off.

By default redis-py repeats a command ten times, and one EVAL across a stall was seen to run twice
(design rule 17).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio import UnixDomainSocketConnection as UnixConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from gateway.config.store_address import Endpoint, Login, StoreAddress, Tls

#: What redis-py says of itself on each connection. By default it looks that up for each one, in
#: its package's metadata, which takes milliseconds.
_DRIVER = DriverInfo()

#: redis-py's client: its `execute_command` is not annotated.
Client = Any


@dataclass(frozen=True, slots=True)
class Connector:
    """Opens clients of the servers, or of the Sentinels, of one store."""

    login: Login
    tls: Tls | None
    db: int
    timeout_s: float
    max_connections: int

    @classmethod
    def to_servers(
        cls, address: StoreAddress, *, timeout_s: float, max_connections: int
    ) -> Connector:
        """Return what connects to the servers of a store."""
        return cls(address.login, address.tls, address.db, timeout_s, max_connections)

    @classmethod
    def to_sentinels(cls, address: StoreAddress, *, timeout_s: float) -> Connector:
        """Return what connects to the Sentinels of a store."""
        return cls(address.sentinel_login, address.tls, 0, timeout_s, max_connections=1)

    def open(self, endpoint: Endpoint) -> Client:
        """Return a client with connections of its own; none is made before the first command."""
        pool = BlockingConnectionPool(
            max_connections=self.max_connections,
            timeout=self.timeout_s,
            socket_timeout=self.timeout_s,
            socket_connect_timeout=self.timeout_s,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            protocol=2,
            # On by default; it skips the pool's check for left-over answers.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            username=self.login.username or None,
            password=self.login.password or None,
            driver_info=_DRIVER,
            db=self.db,
            **self._way_to(endpoint),
        )
        return Redis.from_pool(pool)

    @asynccontextmanager
    async def opened(self, endpoint: Endpoint) -> AsyncIterator[Client]:
        """Open a client for the length of a block."""
        client = self.open(endpoint)
        try:
            yield client
        finally:
            await close(client)

    def _way_to(self, endpoint: Endpoint) -> dict[str, Any]:
        if endpoint.path:
            return {"connection_class": UnixConnection, "path": endpoint.path}
        way: dict[str, Any] = {"host": endpoint.host, "port": endpoint.port}
        if self.tls is None:
            return way | {"connection_class": Connection}
        return way | {
            "connection_class": SSLConnection,
            "ssl_check_hostname": self.tls.check_hostname,
            **self.tls.files,
        }


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who must have a change before it counts: so many replicas, within so long.

    `on_disk` asks for it to be in their append-only files too, and in that of the primary.
    """

    replicas: int
    within_ms: int
    on_disk: bool = False

    def words(self) -> tuple[str | int, ...]:
        """Return the command that waits for it, on the connection that made the change."""
        if self.on_disk:
            return ("WAITAOF", 1, self.replicas, self.within_ms)
        return ("WAIT", self.replicas, self.within_ms)

    def is_given(self, reply: Any) -> bool:
        """Tell whether enough of them have it, by the answer to that command."""
        if self.on_disk:
            here, there = reply
            return bool(here) and there >= self.replicas
        return int(reply) >= self.replicas


class NotAcknowledgedError(RedisConnectionError):
    """A change was made, and too few replicas have said that they have it."""


async def acknowledged(
    client: Client, words: Sequence[bytes | str | int], acknowledgement: Acknowledgement
) -> Any:
    """Run a command and wait for its acknowledgement, in one round trip on one connection.

    Raises NotAcknowledgedError; the command ran then.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command(*words)
    pipeline.execute_command(*acknowledgement.words())
    reply, given = await pipeline.execute(raise_on_error=False)
    for answer in (reply, given):
        if isinstance(answer, Exception):
            raise answer
    if not acknowledgement.is_given(given):
        raise NotAcknowledgedError(f"acknowledged by {given!r} only")
    return reply


async def close(client: Client) -> None:
    """Close every connection of a client, also when the caller is cancelled meanwhile.

    redis-py closes them in tasks of their own; cancelled before they ran, they leave them open.
    """
    await asyncio.shield(client.aclose())
