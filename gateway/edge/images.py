"""`POST /v1/images/generations`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.access.interface import KeyDirectory
from gateway.assets.interface import AssetStore, AssetUnavailableError
from gateway.assets.spool import Spool
from gateway.domain.accounts import Caller
from gateway.domain.errors import (
    GatewayError,
    ShuttingDown,
    StillRunning,
    StorageUnavailable,
    StoreUnavailable,
)
from gateway.domain.images import ImageRequest
from gateway.domain.pricing import QuoteBasis
from gateway.domain.task import Task
from gateway.edge.auth import authenticate
from gateway.edge.drain import Drain
from gateway.edge.edits import EditReader
from gateway.edge.expectation import expectation
from gateway.edge.hangup import still_connected, while_connected
from gateway.edge.keepalive import AnswerCutError, EarlyResponse, Silence, Space, silences
from gateway.edge.parse import FieldRules, parse_generation
from gateway.edge.pictures import Edit
from gateway.edge.record import RequestRecord, record_of
from gateway.edge.render import CHUNK_BYTES, opened, pictures_of, render_answer, render_links
from gateway.edge.streams import PictureStreams
from gateway.service.calls import call_of
from gateway.service.images import ImageService, end_user_of, is_final
from gateway.service.links import Links
from gateway.service.references import References
from gateway.service.task_json import task_fields
from gateway.service.tasks import TaskService
from gateway.service.usage import UsageService
from gateway.tasks.engine import Ticket
from gateway.tasks.interface import AccountChangedError, Call
from gateway.tasks.live import Outcome


class ImageRoutes:
    """Handlers for making pictures. After `keepalive_s` of silence answers begin; zero: never."""

    def __init__(
        self,
        *,
        keys: KeyDirectory,
        images: ImageService,
        rules: FieldRules,
        edits: EditReader,
        references: References,
        tasks: TaskService,
        usage: UsageService,
        assets: AssetStore,
        links: Links,
        streams: PictureStreams,
        drain: Drain,
        help_url: str,
        keepalive_s: float = 0.0,
    ) -> None:
        self._keys = keys
        self._images = images
        self._rules = rules
        self._edits = edits
        self._references = references
        self._tasks = tasks
        self._usage = usage
        self._assets = assets
        self._links = links
        self._streams = streams
        self._drain = drain
        self._help_url = help_url
        self._keepalive_s = keepalive_s

    async def generations(self, request: Request) -> Response:
        """Make pictures from words and answer when they are done."""
        record = record_of(request)
        caller = await authenticate(request, self._keys, self._help_url)
        asked = parse_generation(await request.body(), self._rules)
        record.model = asked.model
        return await self._make(request, caller, asked)

    async def edits(self, request: Request) -> Response:
        """Make pictures from words and pictures and answer when they are done."""
        caller = await authenticate(request, self._keys, self._help_url)
        try:
            with self._references.spool() as spool:
                edit = await self._edits.read(request, spool)
                record_of(request).model = edit.request.model
                keep = partial(self._keep, caller, edit, spool)
                return await self._make(request, caller, edit.request, keep)
        except AssetUnavailableError as error:
            raise StorageUnavailable from error

    async def _keep(self, caller: Caller, edit: Edit, spool: Spool) -> None:
        """Put what an edit brought where every replica finds it, if the edit can be made at all."""
        self._images.plan(caller, edit.request)
        await self._references.keep(caller.team.id, edit.brought)
        spool.close()

    async def _make(
        self,
        request: Request,
        caller: Caller,
        asked: ImageRequest,
        keep: Callable[[], Awaitable[None]] | None = None,
    ) -> Response:
        """Admit a call, after what it needs is kept, and answer it."""
        record = record_of(request)
        call = call_of(
            caller,
            request.url.path,
            asked,
            waiter=record.request_id,
            retry_count=request.headers.get("x-stainless-retry-count", ""),
            idempotency_key=request.headers.get("idempotency-key", ""),
            base_url=str(request.base_url),
            detached=wants_no_answer(request),
        )
        try:
            with ExitStack() as held:
                held.enter_context(self._drain.call())
                ticket = await self._begun(request, caller, asked, call, keep)
                if ticket.joined and ticket.live is None:
                    await self._note_remaining(record, caller, asked)
                if call.detached:
                    return await self._accepted(request, caller, ticket)
                return await self._answer(request, ticket, asked, held)
        except (ShuttingDown, StorageUnavailable):
            if not record.task:
                self._images.turned_away(caller, call)
            raise

    async def _note_remaining(
        self, record: RequestRecord, caller: Caller, asked: ImageRequest
    ) -> None:
        """Note what is left for a call that was attached to a task: it held nothing itself."""
        with suppress(StoreUnavailable):  # its picture is what it came for
            user = end_user_of(caller, asked)
            record.remaining_microusd = await self._usage.remaining_microusd(caller, user)

    async def order(
        self, request: Request, caller: Caller, edit: Edit, spool: Spool, call: Call
    ) -> Task:
        """Start a call that does not wait, after what it brought is kept, and return its task."""
        keep = partial(self._keep, caller, edit, spool) if edit.brought else None
        with self._drain.call():
            ticket = await self._begun(request, caller, edit.request, call, keep)
            return await self._taken(request, caller, ticket)

    async def _begun(
        self,
        request: Request,
        caller: Caller,
        asked: ImageRequest,
        call: Call,
        keep: Callable[[], Awaitable[None]] | None,
    ) -> Ticket:
        """Keep what a call brought and start it. What no task of its own needs is not left there.

        When nobody knows whether there is a task, a sweep removes it in its time.
        """
        may_be_needed = False
        try:
            if keep is not None:
                await keep()
            if not call.detached:
                await still_connected(request)
            may_be_needed = True
            ticket = await self._start(request, caller, asked, call)
            may_be_needed = not ticket.joined
        except GatewayError as refusal:
            may_be_needed = may_be_needed and isinstance(refusal, StoreUnavailable)
            raise
        finally:
            if not may_be_needed:
                self._references.discard(caller.team.id, asked.references)
        return ticket

    async def _taken(self, request: Request, caller: Caller, ticket: Ticket) -> Task:
        """Note what became of a call that does not wait, and return its task."""
        record = record_of(request)
        record.note_ticket(ticket)
        task = await self._tasks.show(caller, ticket.task)
        record.note_times(ticket)
        return task

    async def _accepted(self, request: Request, caller: Caller, ticket: Ticket) -> Response:
        """Answer a call that does not wait with its task."""
        task = await self._taken(request, caller, ticket)
        return Response(
            orjson.dumps(task_fields(task)),
            status_code=202,
            headers={
                "location": f"/v1/images/tasks/{ticket.task}",
                "preference-applied": "respond-async",
            },
            media_type="application/json",
        )

    async def _start(
        self, request: Request, caller: Caller, asked: ImageRequest, call: Call
    ) -> Ticket:
        """Admit the call; once more with a caller read anew when its account has changed."""
        try:
            return await self._admit(request, caller, asked, call)
        except AccountChangedError:
            caller = await authenticate(request, self._keys, self._help_url, anew=True)
        try:
            return await self._admit(request, caller, asked, call)
        except AccountChangedError as error:
            raise StoreUnavailable from error

    async def _admit(
        self, request: Request, caller: Caller, asked: ImageRequest, call: Call
    ) -> Ticket:
        plan = self._images.plan(caller, asked)
        record = record_of(request)
        record.unpriced = plan.quote.basis is QuoteBasis.CONFIGURED
        if self._images.ends_soon(plan.model):
            record.ends, record.successor = plan.model.shutdown_date, plan.model.successor
        silence_s = self._streams.heartbeat_s if asked.stream else self._keepalive_s
        record.expectation = expectation(
            self._images.expected_s(plan), request.headers, silence_s=silence_s
        )
        return await self._images.start(caller, asked, plan, call)

    async def _answer(
        self, request: Request, ticket: Ticket, asked: ImageRequest, held: ExitStack
    ) -> Response:
        """Wait for the task and answer with it, or begin to answer; `held` is until it is there."""
        record = record_of(request)
        record.note_ticket(ticket)
        if asked.stream:
            return await self._streams.answer(request, ticket, asked, held)
        first, *more = silences(self._images.wait_s, self._keepalive_s)
        response = await self._after(request, ticket, asked, first)
        if response is None:
            # What it costs is not known when the headers leave.
            record.remaining_microusd = None
            late = partial(self._late, request, ticket, asked, more)
            response = EarlyResponse(late, held.pop_all())
        return response

    async def _late(
        self,
        request: Request,
        ticket: Ticket,
        asked: ImageRequest,
        more: Sequence[Silence],
        space: Space,
    ) -> Response:
        """Wait on with a space after each silence. Raises AnswerCutError for every error."""
        for silence in more:
            try:
                response = await self._after(request, ticket, asked, silence)
            except GatewayError as error:
                raise AnswerCutError(error) from error
            if response is not None:
                return response
            await space()
        raise AssertionError("the last silence ends with an answer or an error")

    async def _after(
        self, request: Request, ticket: Ticket, asked: ImageRequest, silence: Silence
    ) -> Response | None:
        """Wait for the task and answer with it; None when there is more time to wait.

        A call that goes away leaves the task to its retry.
        """
        record = record_of(request)
        try:
            outcome = await self._outcome(request, ticket, silence)
            if outcome is None:
                return None
            record.note_outcome(ticket, outcome)
            length, chunks = await self._body(request, outcome, asked)
        except GatewayError as error:
            # What is final was an answer: only a retry that says so is given it again. Unless the
            # answer had begun: then it cannot be told to anybody but the retry.
            if is_final(error) and silence.first:
                self._images.delivered(ticket)
            else:
                await self._images.leave(ticket)
            raise
        except Exception:  # whatever it was, the task is its retry's
            await self._images.leave(ticket)
            raise
        finally:
            record.note_times(ticket)
        return StreamingResponse(
            self._until_left(ticket, chunks),
            headers={"content-length": str(length)},
            media_type="application/json",
        )

    async def _outcome(self, request: Request, ticket: Ticket, silence: Silence) -> Outcome | None:
        """Wait for the task; None when there is more time, StillRunning when there is none."""
        waiting = self._images.outcome(ticket, within_s=silence.seconds)
        outcome = await while_connected(request, self._drain, waiting)
        if outcome is None and silence.last:
            raise StillRunning
        return outcome

    async def _body(
        self, request: Request, outcome: Outcome, asked: ImageRequest
    ) -> tuple[int, AsyncIterator[bytes]]:
        """Return the answer's length in bytes and the answer: pictures, or links to them."""
        if asked.response_format == "url":
            urls = await self._links.urls(outcome.task, str(request.base_url))
            return render_links(outcome, asked, urls)
        pieces = [
            await opened(self._assets.read(picture.key, chunk_bytes=CHUNK_BYTES))
            for picture in pictures_of(outcome)
        ]
        return render_answer(outcome, asked, pieces)

    async def _until_left(
        self, ticket: Ticket, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Send the answer, and note whether all of it has left."""
        has_left = False
        try:
            async for chunk in chunks:
                yield chunk
                self._images.leaving()
            has_left = True
        finally:
            if has_left:
                self._images.delivered(ticket)
            else:
                await self._images.leave(ticket)


def wants_no_answer(request: Request) -> bool:
    """Tell whether a call says `Prefer: respond-async` (RFC 7240 §4.1)."""
    wishes = request.headers.get("prefer", "").lower().split(",")
    return any(wish.partition(";")[0].strip() == "respond-async" for wish in wishes)
