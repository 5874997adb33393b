"""Links to references, as an order needs them when it is submitted.

References are in the asset store before a task exists, so that whichever replica submits it can
find them there. From there they go up to the upstream's file service, each team's bytes once for as
long as the link is good, or are linked to where this gateway serves them. Uploads cost nothing: one
that nobody knows the fate of is simply done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

import structlog

from gateway.assets.interface import AssetStore, AssetUnavailableError
from gateway.domain.clock import Clock
from gateway.domain.ids import TeamId
from gateway.domain.images import KeptReference, LinkedReference, Reference, References
from gateway.domain.references import reference_key
from gateway.domain.task import FailureKind, SubmitOrder
from gateway.providers.interface import FileService, FileToUpload, Uploaded, UploadFailed
from gateway.store.client import Store
from gateway.store.keyspace import upload_key
from gateway.store.scripts import load_script
from gateway.tasks.patience import until_stored

log = structlog.get_logger(__name__)

#: Bytes of a file that are in memory while it goes up, and files that go up at once.
CHUNK_BYTES = 256 * 1024
UPLOADS_AT_ONCE = 8

#: A file that somebody else brings up is waited for so long, then brought up once more.
CLAIM_MS = 30_000
#: How often it is looked whether it is there.
LOOK_AGAIN_S = 0.1

#: Signs a link to a reference of a team that this gateway serves.
MakeLink = Callable[[TeamId, KeptReference], Awaitable[str]]


class NoLinkError(Exception):
    """A reference cannot be linked to; nothing was ordered. The message is for the operator."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class ReferenceLinks(Protocol):
    """Finds links to the references of orders."""

    async def urls(self, team: TeamId, order: SubmitOrder) -> tuple[str, ...]:
        """Return a link for each reference, in their order, the mask's last. Raises NoLinkError."""
        ...

    async def forget(self, team: TeamId, order: SubmitOrder) -> None:
        """Have links made anew next time: the upstream could not use these."""
        ...

    async def drop(self, team: TeamId, references: References) -> None:
        """Remove what was kept for an order of which nothing will be submitted any more."""
        ...


class StoredReferenceLinks:
    """Implements `ReferenceLinks`; `services` are file services by provider, else links are ours.

    A link that was made before is used again when it is good for `valid_ms` yet.
    """

    def __init__(
        self,
        store: Store,
        assets: AssetStore,
        clock: Clock,
        *,
        services: Mapping[str, FileService],
        make_link: MakeLink,
        random_bytes: Callable[[int], bytes],
        valid_ms: int,
    ) -> None:
        self._store = store
        self._assets = assets
        self._clock = clock
        self._services = services
        self._make_link = make_link
        self._random_bytes = random_bytes
        self._valid_ms = valid_ms
        self._claim = load_script("tasks/lua/claim_upload.lua")
        self._room = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def urls(self, team: TeamId, order: SubmitOrder) -> tuple[str, ...]:
        """Return a link for each reference, in their order, the mask's last. Raises NoLinkError."""
        # The same file may be there twice, as a picture and as its mask.
        wanted = list(dict.fromkeys(order.references.all))
        async with asyncio.TaskGroup() as group:
            found = [group.create_task(self._found(team, order, each)) for each in wanted]
        links: dict[Reference, str] = {}
        for reference, task in zip(wanted, found, strict=True):
            link = task.result()
            if isinstance(link, UploadFailed):
                raise NoLinkError(link.kind, link.reason)
            links[reference] = link
        return tuple(links[each] for each in order.references.all)

    async def forget(self, team: TeamId, order: SubmitOrder) -> None:
        """Have links made anew next time: the upstream could not use these."""
        keys = [
            upload_key(team, order.account, each.digest)
            for each in order.references.all
            if isinstance(each, KeptReference)
        ]
        if keys:
            await until_stored(partial(self._store.command, "DEL", *keys))

    async def drop(self, team: TeamId, references: References) -> None:
        """Remove what was kept for an order of which nothing will be submitted any more.

        What cannot be removed now, goes with a sweep.
        """
        # One without a place may be another task's, too.
        keys = [reference_key(team, each) for each in references.kept if each.place]
        try:
            await self._assets.remove(keys)
        except AssetUnavailableError:
            log.warning("references_left", action="references_left", team=team, files=len(keys))

    async def _found(
        self, team: TeamId, order: SubmitOrder, reference: Reference
    ) -> str | UploadFailed:
        if isinstance(reference, LinkedReference):
            return reference.url
        service = self._services.get(order.provider)
        if service is None:
            return await self._make_link(team, reference)
        key = upload_key(team, order.account, reference.digest)
        claim = f"claim:{self._random_bytes(8).hex()}"
        ask = partial(
            self._store.run, self._claim, [key], [claim, str(CLAIM_MS), str(self._valid_ms)]
        )
        while True:
            match await until_stored(ask):
                case [b"url", bytes(url)]:
                    return url.decode()
                case [b"claimed"]:
                    return await self._upload(service, team, reference, key)
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _upload(
        self, service: FileService, team: TeamId, reference: KeptReference, key: str
    ) -> str | UploadFailed:
        async with self._room:
            outcome = await service.upload(
                FileToUpload(
                    reference.format,
                    reference.size_bytes,
                    self._assets.read(reference_key(team, reference), chunk_bytes=CHUNK_BYTES),
                )
            )
        if isinstance(outcome, UploadFailed):
            await until_stored(partial(self._store.command, "DEL", key))
            return outcome
        await self._remember(key, outcome)
        return outcome.url

    async def _remember(self, key: str, uploaded: Uploaded) -> None:
        left_ms = uploaded.expires_ms - self._clock.now_ms()
        # One that is used up at once is still good for the order it was made for.
        note = ("SET", key, f"url:{uploaded.url}", "PX", max(left_ms, 1))
        await until_stored(partial(self._store.command, *note))
