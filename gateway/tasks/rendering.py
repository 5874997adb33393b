"""One render from whatever state the journal tells, to its picture."""

from __future__ import annotations

from gateway.domain.task import Event, FailureKind, RenderState
from gateway.tasks.finishing import Finishing
from gateway.tasks.live import LiveRender
from gateway.tasks.steps import Steps
from gateway.tasks.submitting import Submitting


class Rendering:
    """Runs renders."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._submitting = Submitting(steps, self.run)
        self._finishing = Finishing(steps, self.run)

    async def run(self, one: LiveRender) -> None:
        """Go on with a render from where it is; returns when it is settled or waits to be polled.

        Raises OwnershipLostError when somebody else decides about it by now.
        """
        match one.render.state:
            case RenderState.QUEUED if one.live.task.order.prompt is None:
                # Whoever knew it is gone. Nothing was ordered, and a retry brings it again.
                self._steps.note(one, "prompt_gone")
                await self._steps.end(one, Event.EXPIRE, FailureKind.WITHDRAWN)
            case RenderState.QUEUED:
                await self._submitting.submit(one)
            case RenderState.SUBMITTING | RenderState.UNKNOWN if one.render.result is None:
                await self._submitting.follow_unknown(one)
            case RenderState.SUBMITTED if one.submitted_s:
                self._finishing.poll_later(one)
            case RenderState.SUBMITTED:
                # Somebody else submitted it; nobody knows when it was last polled.
                self._steps.tracing.stage(one, "render")
                clock = self._steps.clock
                elapsed_s = (clock.now_ms() - one.render.submitted_ms) / 1000
                one.submitted_s = one.last_pending_s = clock.monotonic_s() - elapsed_s
                await self._finishing.poll(one)
            case RenderState.COMPLETED if not one.render.settled:
                await self._finishing.ingest(one)
            case _:
                self._steps.settled(one)
