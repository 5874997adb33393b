"""Sends each command to the server that must run it, once.

Only one thing is ever sent again: a command that a cluster's node has redirected (MOVED, ASK). A
redirection is a proof that nothing ran. Whatever else goes wrong goes to the caller, and who
serves what is looked up anew before a later command.

redis-py's own clients for clusters and Sentinels are not used: `docs/decisions/007`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.config.store_address import Endpoint, StoreAddress, Topology
from gateway.store.connect import (
    Acknowledgement,
    Client,
    Connector,
    NotAcknowledgedError,
    acknowledged,
    close,
)
from gateway.store.topology import Layout, Lookup, NowhereError, OneServer, Sentinels, Shards

log = structlog.get_logger(__name__)

Word = bytes | str | int

#: A slot that moves takes two; more is a cluster in disorder.
_REDIRECTIONS = 5
#: Who serves what is looked up at most this often while servers fail.
_LOOK_EVERY_S = 0.5
#: Parts of a call's time: one asked node or Sentinel, and a lookup in all.
_ASK_PART, _LOOK_PART = 1 / 4, 1 / 2

_SCRIPT_VERBS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})
#: After these nobody knows whether the server is the right one, or is there at all.
_DOUBTFUL = (
    ClusterDownError,
    ReadOnlyError,
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    # The total time limit, or a caller that has gone: both look the same from here.
    asyncio.CancelledError,
)


@dataclass(slots=True, eq=False)
class _Link:
    """The connections to one server, and how many commands are under way on them."""

    client: Client
    busy: int = 0
    retired: bool = False


class Router:
    """The servers of one store. Errors are redis-py's, and may mean that the command ran."""

    def __init__(
        self, lookup: Lookup, connector: Connector, *, follow: bool, look_s: float
    ) -> None:
        self._lookup = lookup
        self._connector = connector
        self._follow = follow
        self._look_s = look_s
        self._links: dict[Endpoint, _Link] = {}
        self._layout: Layout | None = None
        self._doubted = False
        #: How often a server failed, or another one took its place.
        self.doubts = 0
        self._looked_at_s = float("-inf")
        self._looking = asyncio.Lock()
        self._turn = 0
        self._reason = ""

    @classmethod
    def to(cls, address: StoreAddress, *, timeout_s: float, max_connections: int) -> Router:
        """Return a router to a store; it connects when it is used first."""
        servers = Connector.to_servers(
            address, timeout_s=timeout_s, max_connections=max_connections
        )
        ask_s = timeout_s * _ASK_PART
        lookup: Lookup
        match address.topology:
            case Topology.ALONE:
                lookup = OneServer(address)
            case Topology.SENTINEL:
                sentinels = Connector.to_sentinels(address, timeout_s=ask_s)
                lookup = Sentinels(address, sentinels, ask_s=ask_s)
            case Topology.CLUSTER:
                lookup = Shards(address, servers, ask_s=ask_s)
        follow = address.topology is Topology.CLUSTER
        return cls(lookup, servers, follow=follow, look_s=timeout_s * _LOOK_PART)

    async def execute(self, *words: Word, acknowledgement: Acknowledgement | None = None) -> Any:
        """Run one command where its keys live; one without keys on any primary.

        One that was not acknowledged as asked raises NotAcknowledgedError, and ran.
        """
        layout = await self._current()
        endpoint, asking = self._owner(layout, words), False
        for _ in range(_REDIRECTIONS):
            try:
                return await self._run(
                    endpoint, words, asking=asking, acknowledgement=acknowledgement
                )
            except AskError as redirection:
                if not self._follow:
                    raise
                endpoint = Endpoint(redirection.host or endpoint.host, redirection.port)
                asking = not isinstance(redirection, MovedError)
                if not asking:
                    self._doubt()
        return await self._run(endpoint, words, asking=asking, acknowledgement=acknowledgement)

    async def execute_everywhere(self, *words: Word) -> list[Any]:
        """Run one command on every primary, one after another."""
        layout = await self._current()
        return [await self._run(primary, words) for primary in layout.primaries]

    async def aclose(self) -> None:
        """Close every connection."""
        for endpoint in tuple(self._links):
            await close(self._links.pop(endpoint).client)

    def _owner(self, layout: Layout, words: tuple[Word, ...]) -> Endpoint:
        if len(layout.primaries) > 1 and (key := routing_key(words)) is not None:
            owner = layout.owners.get(key_slot(key))
            if owner is not None:
                return owner
        self._turn = (self._turn + 1) % len(layout.primaries)
        return layout.primaries[self._turn]

    async def _run(
        self,
        endpoint: Endpoint,
        words: tuple[Word, ...],
        *,
        asking: bool = False,
        acknowledgement: Acknowledgement | None = None,
    ) -> Any:
        link = self._links.get(endpoint)
        if link is None:
            link = self._links[endpoint] = _Link(self._connector.open(endpoint))
        link.busy += 1
        try:
            if asking:
                return await _ask(link.client, words, acknowledgement)
            if acknowledgement is not None:
                return await acknowledged(link.client, words, acknowledgement)
            return await link.client.execute_command(*words)
        except NotAcknowledgedError:
            raise
        except _DOUBTFUL as error:
            self._doubt()
            if isinstance(error, ReadOnlyError):
                # It was demoted. A connection by name would go on leading there for ever.
                await self._retire(endpoint, link)
            raise
        finally:
            link.busy -= 1
            if link.retired and not link.busy:
                await close(link.client)

    def _doubt(self) -> None:
        self._doubted = True
        self.doubts += 1

    async def _retire(self, endpoint: Endpoint, link: _Link) -> None:
        """Use these connections no more, and close them when the last command is through."""
        if self._links.get(endpoint) is link:
            del self._links[endpoint]
        link.retired = True
        if not link.busy:
            await close(link.client)

    async def _current(self) -> Layout:
        # Whoever knows where to go does not wait for one who looks again.
        if self._layout is None or (self._is_due() and not self._looking.locked()):
            async with self._looking:
                if self._layout is None or self._is_due():
                    await self._look()
        if self._layout is None:
            raise NowhereError(self._reason)
        return self._layout

    def _is_due(self) -> bool:
        age_s = _now_s() - self._looked_at_s
        return age_s >= (_LOOK_EVERY_S if self._doubted else self._lookup.max_age_s)

    async def _look(self) -> None:
        """Find out who serves what; what was known stays known when nobody can tell."""
        known = self._layout.primaries if self._layout is not None else ()
        self._looked_at_s = _now_s()
        try:
            async with asyncio.timeout(self._look_s):
                found = await self._lookup.find(known)
        except (RedisError, OSError, TimeoutError) as error:
            reason = str(error) or "nobody answers"
            if reason != self._reason:
                log.warning("store_not_found", action="store_not_found", reason=reason)
            self._reason = reason
            return
        self._doubted, self._reason = False, ""
        self._layout = found
        if set(known) - set(found.primaries):
            primaries = [str(primary) for primary in found.primaries]
            log.info("store_moved", action="store_moved", primaries=primaries)
            self.doubts += 1
        for endpoint, link in tuple(self._links.items()):
            if endpoint not in found.primaries:
                await self._retire(endpoint, link)


def routing_key(words: tuple[Word, ...]) -> bytes | None:
    """Return the key by whose slot a command finds its node; None when any node will do.

    That is the first key of a script, else the first argument, be it a key or not: a cluster
    redirects whoever guesses wrong, and a pattern goes where its hash tag lives.
    """
    if words[0] in _SCRIPT_VERBS:
        key = words[3] if int(words[2]) else None
    else:
        key = words[1] if len(words) > 1 else None
    if key is None or isinstance(key, bytes):
        return key
    return str(key).encode()


async def _ask(
    client: Client, words: tuple[Word, ...], acknowledgement: Acknowledgement | None
) -> Any:
    """Run a command on the node that is taking its slot over: both on one connection."""
    async with client.client() as connection:
        await connection.execute_command("ASKING")
        if acknowledgement is not None:
            return await acknowledged(connection, words, acknowledgement)
        return await connection.execute_command(*words)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
