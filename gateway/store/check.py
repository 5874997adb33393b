"""What a server of somebody else must be like, so that money in it stays true."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from redis.exceptions import AuthenticationError, ResponseError

from gateway.config.problems import ConfigError, Problem
from gateway.config.store_address import Topology
from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement

log = structlog.get_logger(__name__)

#: The first that runs scripts with declared flags, and answers what they may do without memory.
_OLDEST_MAJOR = 7
_OLDEST_WITH_WAITAOF = (7, 2)


async def check_server(store: Store, acknowledgement: Acknowledgement | None = None) -> None:
    """Refuse servers that break a promise by design, warn of those that may by accident.

    Every primary is asked, also whether it can give the `acknowledgement` that orders wait for.
    Raises ConfigError with all that must be changed, a password too, and StoreUnavailable when the
    store does not answer. Managed servers may forbid INFO, which is where it is told: that is
    warned of.
    """
    try:
        answers = await store.command_everywhere("INFO")
    except StoreUnavailable as error:
        if isinstance(error.__cause__, AuthenticationError):
            problem = "the server refuses this user name and password"
            raise ConfigError([Problem("redis.url", problem)]) from None
        raise
    except ResponseError:
        log.warning("store_unchecked", action="store_unchecked", reason="INFO is forbidden")
        return
    problems: dict[str, None] = {}  # a set that keeps its order: shards tend to be alike
    for answer in answers:
        told: Any = answer
        problems |= dict.fromkeys(_refusals(told, store.topology))
        _warn(told)
        if acknowledgement is not None:
            problems |= dict.fromkeys(_unable(told, acknowledgement))
    if problems:
        raise ConfigError([Problem("redis.url", problem) for problem in problems])


async def check_when_reachable(
    store: Store, acknowledgement: Acknowledgement | None = None, *, again_s: float = 5.0
) -> None:
    """Check a store that did not answer at the start, as soon as it does; then rest for ever.

    A loop for the background: the ConfigError it may raise ends the process.
    """
    while True:
        try:
            await check_server(store, acknowledgement)
            break
        except StoreUnavailable:
            await asyncio.sleep(again_s)
    await asyncio.Event().wait()


def _refusals(told: Mapping[str, Any], topology: Topology) -> list[str]:
    refusals = []
    version = str(told.get("redis_version", _OLDEST_MAJOR))
    if int(version.split(".", maxsplit=1)[0]) < _OLDEST_MAJOR:
        refusals.append(f"expected Redis 7 or newer, or Valkey; this server is {version}")
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        refusals.append(
            f"expected a server with maxmemory-policy noeviction; this one has {policy}, and would"
            " forget money when its memory is full"
        )
    if told.get("cluster_enabled") and topology is not Topology.CLUSTER:
        refusals.append("this server is part of a cluster; write redis+cluster:// before its host")
    return refusals


def _unable(told: Mapping[str, Any], acknowledgement: Acknowledgement) -> list[str]:
    """Return why a server can never acknowledge what it will be asked to; warn if not now."""
    if told.get("connected_slaves", acknowledgement.replicas) < acknowledgement.replicas:
        reason = (
            f"{told['connected_slaves']} of {acknowledgement.replicas} replicas are there: no"
            " picture is ordered until enough of them acknowledge it"
        )
        log.warning("store_without_replicas", action="store_without_replicas", reason=reason)
    if not acknowledgement.on_disk:
        return []
    major, minor = (int(part) for part in str(told.get("redis_version", "7.2")).split(".")[:2])
    if (major, minor) < _OLDEST_WITH_WAITAOF:
        return ["acknowledge_on_disk needs Valkey, or Redis 7.2 or newer"]
    if not told.get("aof_enabled", 1):
        return ["acknowledge_on_disk needs a server with appendonly yes"]
    return []


def _warn(told: Mapping[str, Any]) -> None:
    if not {"maxmemory_policy", "aof_enabled"} <= told.keys():
        log.warning("store_unchecked", action="store_unchecked", reason="INFO does not tell all")
    elif not told["aof_enabled"]:
        reason = "appendonly is off: what was written since the last snapshot dies with the server"
        log.warning("store_without_aof", action="store_without_aof", reason=reason)
