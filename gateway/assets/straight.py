"""Pictures that are paid for and that the store does not take, or give, at the moment.

As long as its result link lives, such a picture is passed on straight from the upstream: whoever
waits for it does not wait for a disk to be cleared or a bucket to come back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from gateway.assets.interface import (
    AssetStore,
    AssetUnavailableError,
    ByteSpan,
    KeepOf,
    LinkDeadError,
    LinkUnavailableError,
    OpenPicture,
    PictureFetcher,
    StoredObject,
)
from gateway.domain.images import Output, StoredPicture
from gateway.domain.task import Render, Task, picture_key

log = structlog.get_logger(__name__)

#: Links that are remembered, the latest: a store is down for minutes, or somebody looks after it.
REMEMBERED = 4096
#: Bytes in which a picture is looked at.
_LOOK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """Where a picture comes from, and what it is delivered as."""

    provider: str
    link: str
    output: Output


class StraightAssets:
    """A store that reads what it cannot give from result links; implements `AssetStore`."""

    def __init__(self, store: AssetStore, fetchers: Mapping[str, PictureFetcher]) -> None:
        self._store = store
        self._fetchers = fetchers
        self._sources: OrderedDict[str, Source] = OrderedDict()

    async def with_straight(self, task: Task) -> Task:
        """Return a task as if those of its pictures were stored that their links still give.

        Their keys are read from the links for as long as the store has no such object.
        """
        for render in task.renders:
            result = render.result
            if result is None or result.settled:
                continue
            picture = await self.straight(task, render)
            if picture is not None:
                task = task.with_render(replace(render, result=replace(result, stored=picture)))
        return task

    async def straight(self, task: Task, render: Render) -> StoredPicture | None:
        """Return a picture as its link gives it; None when it does not, or says no size."""
        key = self.remember(task, render)
        try:
            opened = await self._open(self._sources[key], _LOOK_BYTES)
        except (LinkUnavailableError, LinkDeadError, AssetUnavailableError) as error:
            log.info("not_straight", action="not_straight", task=task.id, reason=str(error))
            return None
        async with aclosing(opened.pieces) as pieces:
            # A generator that was never begun does not close what it stands for.
            await anext(pieces, None)
        if opened.size_bytes is None:
            return None
        log.warning("straight_delivery", action="straight_delivery", task=task.id, team=task.team)
        return StoredPicture(key, opened.size_bytes, opened.format)

    def remember(self, task: Task, render: Render) -> str:
        """Remember where the picture of a render that is done comes from; return its key."""
        if render.result is None:
            raise AssertionError("only a render that is done has a link")
        key = picture_key(task.team, task.id, render.index)
        self._sources[key] = Source(task.order.provider, render.result.links[0], task.output)
        self._sources.move_to_end(key)
        while len(self._sources) > REMEMBERED:
            self._sources.popitem(last=False)
        return key

    async def _open(self, source: Source, chunk_bytes: int) -> OpenPicture:
        fetcher = self._fetchers[source.provider]
        return await fetcher.open(source.link, source.output, chunk_bytes=chunk_bytes)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a whole object, as the store does."""
        return await self._store.put(key, chunks)

    async def find(self, key: str) -> StoredObject | None:
        """Return what the store knows of an object."""
        return await self._store.find(key)

    async def read(
        self, key: str, *, chunk_bytes: int, part: ByteSpan | None = None
    ) -> AsyncGenerator[bytes]:
        """Stream an object as the store does, or a whole one from its link where that fails.

        Raises AssetUnavailableError.
        """
        source = self._sources.get(key) if part is None else None
        has_begun = False
        try:
            async with aclosing(
                self._store.read(key, chunk_bytes=chunk_bytes, part=part)
            ) as pieces:
                async for piece in pieces:
                    has_begun = True
                    yield piece
        except AssetUnavailableError:
            if has_begun or source is None:
                raise
        else:
            return
        try:
            opened = await self._open(source, chunk_bytes)
            async with aclosing(opened.pieces) as pieces:
                async for piece in pieces:
                    yield piece
        except (LinkUnavailableError, LinkDeadError) as error:
            raise AssetUnavailableError(f"cannot read, and the link fails: {error}") from error

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, and forget where they came from."""
        for key in keys:
            self._sources.pop(key, None)
        await self._store.remove(keys)

    async def sweep(self, now_ms: int, keep_ms: KeepOf) -> int:
        """Remove old objects, as the store does."""
        return await self._store.sweep(now_ms, keep_ms)

    async def ping(self) -> None:
        """Return when the store answers."""
        await self._store.ping()
