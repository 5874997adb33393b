"""Settings in, a wired gateway out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.assembly.front import make_front, refuse_weak
from gateway.assembly.gateway import Gateway
from gateway.assembly.house import open_house
from gateway.config.load import Loaded


@asynccontextmanager
async def build(
    loaded: Loaded,
    *,
    reached: Callable[[str], None] = lambda _: None,
    house: bytes = b"",
    shared_metrics: Path | None = None,
) -> AsyncIterator[Gateway]:
    """Wire a gateway and open what it needs; close it all in reverse.

    `reached` is told where renders are, at every point where a crash would matter; for tests.
    Workers of one parent are given their `house` (how their ids begin) and the folder of the
    metrics that they share.
    Raises ConfigError for secrets that are missing, a weak admin key, a store that would lose
    money and pictures that other gateways would not find, EmbeddedServerError when the store of
    our own cannot be started, and AssetUnavailableError for a picture store that cannot be opened.
    """
    refuse_weak(loaded.require_secrets().admin_key)
    async with open_house(
        loaded, reached=reached, house=house, shared_metrics=shared_metrics
    ) as gateway:
        gateway.take(make_front(gateway, loaded))
        yield gateway
