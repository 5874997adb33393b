"""Pictures as a stream of events, each as soon as it is there (protocols/openai_images.md §5).

The head waits for the first event or the first heartbeat. What goes wrong before is an answer of
its own, with its status; after that it is the stream's last event, with the same code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.assets.interface import AssetStore
from gateway.domain.clock import Clock
from gateway.domain.errors import GatewayError, InternalError, StillRunning
from gateway.domain.images import ImageRequest, Operation
from gateway.domain.task import Render
from gateway.edge.drain import Drain
from gateway.edge.errors import envelope
from gateway.edge.hangup import while_connected
from gateway.edge.record import record_of
from gateway.edge.render import CHUNK_BYTES, completed_fields, opened, resumed, stored_of
from gateway.edge.sse import HEARTBEAT, MEDIA_TYPE, EventLines
from gateway.service.images import ImageService, is_final
from gateway.tasks.engine import Ticket
from gateway.tasks.live import Outcome

log = structlog.get_logger(__name__)

#: What the event of a picture is called, by how it was made; mixing them breaks clients.
COMPLETED = {
    Operation.GENERATION: "image_generation.completed",
    Operation.EDIT: "image_edit.completed",
}

#: A wait that is over still looks whether something came meanwhile.
LAST_LOOK_S = 0.01


@dataclass(slots=True)
class _Call:
    """A call that is answered with a stream.

    `held` is until all of its pictures are there, `left_s` how long it may still wait for them;
    `sent` are the pictures that were sent.
    """

    request: Request
    ticket: Ticket
    asked: ImageRequest
    held: ExitStack
    left_s: float
    lines: EventLines = field(default_factory=EventLines)
    sent: set[int] = field(default_factory=set)


class PictureStreams:
    """Answers calls with streams in which no silence is longer than `heartbeat_s`."""

    def __init__(
        self,
        *,
        images: ImageService,
        assets: AssetStore,
        drain: Drain,
        clock: Clock,
        heartbeat_s: float,
    ) -> None:
        self._images = images
        self._assets = assets
        self._drain = drain
        self._clock = clock
        self.heartbeat_s = heartbeat_s

    async def answer(
        self, request: Request, ticket: Ticket, asked: ImageRequest, held: ExitStack
    ) -> Response:
        """Wait for a picture or the first heartbeat, and answer with a stream from there on.

        `held` is taken over. Raises what the picture has come to, StillRunning, ShuttingDown and
        ClientDisconnect.
        """
        call = _Call(request, ticket, asked, held, self._images.wait_s)
        chunks = self._pictures(call)
        try:
            first = await anext(chunks)
        except GatewayError as error:
            await self._failed(ticket, error)
            raise
        except Exception:  # whatever it was, the task is its retry's
            await self._images.leave(ticket)
            raise
        record = record_of(request)
        if record.cost_microusd is None:
            # It is not known when the headers leave, and so is not what it leaves.
            record.remaining_microusd = None
        call.held = held.pop_all()
        return _EventStream(self._told(call, resumed(first, chunks)), call.held)

    async def _told(self, call: _Call, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Pass the events on, end with an error that comes of them, and note what has left."""
        record, has_ended = record_of(call.request), False
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
            has_ended = True
            self._images.delivered(call.ticket)
        except ClientDisconnect:
            raise
        except Exception as error:  # a stream never ends without having said how
            failure = error if isinstance(error, GatewayError) else InternalError()
            if failure is not error:
                log.exception("stream_broke", action="stream_broke", request_id=record.request_id)
            told = envelope(failure, record.request_id)
            record.error_code = str(told["code"] or "internal_error")
            has_ended = True
            # Noted first: whoever reads the error may call again at once, and is to be attached.
            await self._failed(call.ticket, failure)
            yield call.lines.error(told)
        finally:
            if not has_ended:
                await self._images.leave(call.ticket)

    async def _failed(self, ticket: Ticket, error: GatewayError) -> None:
        """Note that an error is the answer, or that the task is left to the next call."""
        if is_final(error):
            self._images.delivered(ticket)
        else:
            await self._images.leave(ticket)

    async def _pictures(self, call: _Call) -> AsyncGenerator[bytes]:
        """Write the event of each picture when it is there, and heartbeats meanwhile.

        Raises what the pictures have come to when there is none, and what waiting raises.
        """
        while True:
            outcome = await self._next(call)
            if outcome is None:
                yield HEARTBEAT
                continue
            new = [one for one in outcome.delivered if one.index not in call.sent]
            # Without news it is the deadline that has come.
            is_last = outcome.task.over or not new
            if is_last:
                record_of(call.request).note_outcome(call.ticket, outcome)
                call.held.close()
            for render in new:
                async with aclosing(self._completed(call, outcome, render)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                call.sent.add(render.index)
            if is_last:
                return

    async def _next(self, call: _Call) -> Outcome | None:
        """Wait for pictures that were not sent yet, until the next heartbeat; None without any.

        Raises StillRunning when the call may wait no longer, ClientDisconnect, ShuttingDown, and
        what the task has come to.
        """
        began_s = self._clock.monotonic_s()
        within_s = max(min(self.heartbeat_s, call.left_s), LAST_LOOK_S)
        try:
            waiting = self._images.outcome(call.ticket, within_s=within_s, beyond=len(call.sent))
            outcome = await while_connected(call.request, self._drain, waiting)
        finally:
            record_of(call.request).note_times(call.ticket)
        # Time in which a client takes what it is sent is not waited.
        call.left_s -= self._clock.monotonic_s() - began_s
        if outcome is None and call.left_s <= 0:
            raise StillRunning
        return outcome

    async def _completed(
        self, call: _Call, outcome: Outcome, render: Render
    ) -> AsyncGenerator[bytes]:
        stored = stored_of(render)
        pieces = await opened(self._assets.read(stored.key, chunk_bytes=CHUNK_BYTES))
        fields = completed_fields(outcome.task, render, call.asked)
        kind = COMPLETED[outcome.task.operation]
        async with aclosing(call.lines.picture(kind, fields, pieces)) as chunks:
            async for chunk in chunks:
                yield chunk


class _EventStream(StreamingResponse):
    """Sends events; `held` is left at the latest when that is over."""

    media_type = MEDIA_TYPE

    def __init__(self, events: AsyncGenerator[bytes], held: ExitStack) -> None:
        # Nothing on the way may keep events back, or keep them at all.
        super().__init__(events, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._events = events
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until its end, or until the client goes away."""
        with self._held:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send head and events, and close what they are read from."""
        async with aclosing(self._events):
            await super().stream_response(send)
