"""`POST /v1/images/generations`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.access.interface import KeyDirectory
from gateway.assets.interface import AssetStore, AssetUnavailableError
from gateway.domain.accounts import Caller
from gateway.domain.errors import InternalError, StoreUnavailable
from gateway.domain.images import ImageRequest
from gateway.domain.pricing import QuoteBasis
from gateway.edge.auth import authenticate
from gateway.edge.drain import Drain
from gateway.edge.parse import parse_generation
from gateway.edge.record import RequestRecord, record_of
from gateway.edge.render import CHUNK_BYTES, render_answer
from gateway.ledger.holds import tightest
from gateway.service.images import ImageService
from gateway.tasks.interface import AccountChangedError
from gateway.tasks.live import LiveTask

#: Phases in which the gateway waits for the upstream; the rest of a request is its own overhead.
UPSTREAM_PHASES = ("submit", "render", "fetch")


class ImageRoutes:
    """Handlers for making pictures."""

    def __init__(
        self,
        *,
        keys: KeyDirectory,
        images: ImageService,
        assets: AssetStore,
        drain: Drain,
        help_url: str,
    ) -> None:
        self._keys = keys
        self._images = images
        self._assets = assets
        self._drain = drain
        self._help_url = help_url

    async def generations(self, request: Request) -> Response:
        """Make a picture from words and answer when it is done."""
        record = record_of(request)
        caller = await authenticate(request, self._keys, self._help_url)
        asked = parse_generation(await request.body(), self._images.find_model)
        record.model = asked.model
        with self._drain.call():
            live = await self._start(request, caller, asked)
            try:
                delivered = await self._images.finish(live)
            finally:
                _note(record, live)
        record.cost_microusd = delivered.charge.total_microusd
        pieces = self._assets.read(delivered.picture.key, chunk_bytes=CHUNK_BYTES)
        length, chunks = render_answer(delivered, live.task, asked, await _opened(pieces))
        return StreamingResponse(
            chunks, headers={"content-length": str(length)}, media_type="application/json"
        )

    async def _start(self, request: Request, caller: Caller, asked: ImageRequest) -> LiveTask:
        """Admit the call; once more with a caller read anew when its account has changed."""
        try:
            return await self._admit(request, caller, asked)
        except AccountChangedError:
            caller = await authenticate(request, self._keys, self._help_url, anew=True)
        try:
            return await self._admit(request, caller, asked)
        except AccountChangedError as error:
            raise StoreUnavailable from error

    async def _admit(self, request: Request, caller: Caller, asked: ImageRequest) -> LiveTask:
        plan = self._images.plan(caller, asked)
        record_of(request).unpriced = plan.quote.basis is QuoteBasis.CONFIGURED
        return await self._images.start(caller, asked, plan)


async def _opened(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Read the first piece now: a picture that cannot be read must still become an error."""
    try:
        first = await anext(pieces)
    except (AssetUnavailableError, StopAsyncIteration) as error:
        raise InternalError from error
    return _resumed(first, pieces)


async def _resumed(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _note(record: RequestRecord, live: LiveTask) -> None:
    """Write on the record what the task has learned."""
    record.task = live.task.id
    record.rates = live.rates
    record.provider = live.task.render.order.provider
    record.phases_s = dict(live.phases_s)
    record.upstream_s = sum(live.phases_s.get(phase, 0.0) for phase in UPSTREAM_PHASES)
    budget = tightest(live.budgets)
    record.remaining_microusd = None if budget is None else budget.remaining_microusd
