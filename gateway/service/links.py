"""Links to pictures: whoever has one may open it for a while, and nobody can make one up.

A link is ``…/v1/assets/<token>.<format>``. The token says which picture it opens and until when, so
that nothing is remembered; the ending is for clients that name files after links.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.domain.clock import Clock
from gateway.domain.ids import TeamId
from gateway.domain.images import KeptReference, PictureFormat
from gateway.domain.references import reference_key
from gateway.domain.task import Task
from gateway.domain.tokens import Purpose, Signer
from gateway.tasks.live import Outcome

#: Where links lead to, below the server's address.
PATH = "/v1/assets/"

#: How long an upstream may open a link to a reference: its own queue included.
REFERENCE_MS = 6 * 3_600_000

_ENDINGS = frozenset(each.value for each in PictureFormat)


@dataclass(frozen=True, slots=True)
class LinkedPicture:
    """What a link opens: an object of the asset store, for `left_s` more seconds."""

    key: str
    format: PictureFormat
    left_s: int


class Links:
    """Makes links and reads them.

    `signer` is asked each time. `keep_ms` is how long pictures are kept after they were made;
    `public_url` is the server's address as others reach it, empty when it is not configured.
    """

    def __init__(
        self,
        signer: Callable[[], Awaitable[Signer]],
        clock: Clock,
        *,
        keep_ms: int,
        public_url: str,
    ) -> None:
        self._signer = signer
        self._clock = clock
        self._keep_ms = keep_ms
        self._public_url = public_url

    async def urls(self, task: Task, base_url: str) -> tuple[str, ...]:
        """Return the links to a task's pictures, in order; the same ones once the task is over.

        `base_url` is where the caller reaches this server, for when no address is configured.
        Raises StoreUnavailable.
        """
        pictures = [
            render.result.stored
            for render in Outcome(task).delivered
            if render.result is not None and render.result.stored is not None
        ]
        if not pictures:
            return ()
        until_s = (
            (task.ended_ms or self._clock.now_ms()) + (task.keep_ms or self._keep_ms)
        ) // 1000
        root = self._public_url or base_url
        return tuple([await self._url(each.key, each.format, until_s, root) for each in pictures])

    async def reference_url(self, team: TeamId, reference: KeptReference) -> str:
        """Return a link to a reference for an upstream. Raises StoreUnavailable."""
        until_s = (self._clock.now_ms() + REFERENCE_MS) // 1000
        return await self._url(
            reference_key(team, reference), reference.format, until_s, self._public_url
        )

    async def _url(
        self, key: str, picture_format: PictureFormat, until_s: int, base_url: str
    ) -> str:
        payload = f"{until_s}/{picture_format}/{key}"
        token = (await self._signer()).token(Purpose.ASSET, payload)
        return f"{base_url.rstrip('/')}{PATH}{token}.{picture_format}"

    async def opened_at(self, url: str) -> LinkedPicture | None:
        """Return what a whole link opens, whatever name this server was called by in it."""
        try:
            path = urlsplit(url).path
        except ValueError:
            return None
        # Whoever is in front of this server may have put a folder of its own before the path.
        _, here, token = path.rpartition(PATH)
        return await self.opened(token) if here else None

    async def opened(self, token: str) -> LinkedPicture | None:
        """Return what the last part of a link opens; None for one that is forged.

        Of one that is over nothing is left, or less. Raises StoreUnavailable.
        """
        signed, _, ending = token.rpartition(".")
        if ending not in _ENDINGS:
            signed = token
        payload = (await self._signer()).payload(Purpose.ASSET, signed)
        if payload is None:
            return None
        until_s, picture_format, key = payload.split("/", 2)
        left_s = int(until_s) - self._clock.now_ms() // 1000
        return LinkedPicture(key, PictureFormat(picture_format), left_s)
