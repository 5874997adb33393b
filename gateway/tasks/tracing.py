"""What traces learn of tasks: a span for each render, and one for each phase of it below.

call ── generate_content ─┬ upload    bringing references up
                          ├ queue     waiting for the account's turn
                          ├ submit    the POST is below it
                          ├ follow    nobody knows what became of the submit
                          ├ render    each poll is below it
                          ├ fetch
                          └ store
"""

from __future__ import annotations

from gateway.domain.images import TokenUsage
from gateway.tasks.interface import Ending
from gateway.tasks.live import LiveRender
from gateway.telemetry import conventions as names
from gateway.telemetry.traces import Attributes, Kind, Span, Tracer

#: What an upstream says of its model is told as far as it looks like one.
MAX_MODEL_CHARS = 128


class Tracing:
    """Translates the engine's steps into spans, as `Accounting` does into metrics."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begun(self, one: LiveRender) -> None:
        """Begin the span of a render that this process begins to run, in the trace of its call.

        The span of whoever ran it before never ended, and is not told of.
        """
        task = one.live.task
        if not task.trace:
            return
        model = str(task.order.body.get("model", task.model))
        one.span = self._tracer.begin(
            f"{names.GENERATE_CONTENT} {model}",
            parent=task.trace,
            kind=Kind.CLIENT,
            attributes={
                names.GEN_AI_OPERATION_NAME: names.GENERATE_CONTENT,
                names.GEN_AI_PROVIDER_NAME: task.order.provider,
                names.GEN_AI_REQUEST_MODEL: model,
                names.GEN_AI_OUTPUT_TYPE: names.IMAGE,
                names.TEAM: task.team,
                names.TASK: task.id,
                names.RENDER: one.index,
                names.OPERATION: task.operation.value,
                names.SIZE: task.size,
                names.QUALITY: task.quality,
                names.ADOPTED: one.live.adopted or None,
            },
        )

    def stage(self, one: LiveRender, phase: str) -> Span:
        """Begin a phase of a render where the one before ends; return its span."""
        one.stage.end()
        one.stage = one.span.child(phase)
        return one.stage

    def made_by(self, one: LiveRender, model: str) -> None:
        """Note which model the upstream says it has used."""
        if 0 < len(model) <= MAX_MODEL_CHARS:
            one.span.tell({names.GEN_AI_RESPONSE_MODEL: model})

    def concluded(self, one: LiveRender, ending: Ending) -> None:
        """Note how a render has ended and what it costs; its picture may be still to come."""
        if not one.span.is_recording:
            return
        one.span.tell(
            {
                names.GEN_AI_RESPONSE_ID: one.render.upstream_id or None,
                names.STATE: one.render.state.value,
                names.TRIES: one.render.tries,
                names.POLLS: one.polls,
                names.COST_MICROUSD: ending.charge.total_microusd,
                **_tokens(ending.usage),
            }
        )
        if ending.failure is not None:
            one.span.fail(ending.failure.value)

    def stored(self, one: LiveRender, store_s: float) -> None:
        """Tell storing apart from fetching: both went on at once, and this is its share."""
        one.stage.end(ago_s=store_s)
        one.stage = one.span.child("store", ago_s=store_s)

    def settled(self, one: LiveRender) -> None:
        """End a render's span: nothing more will come of it."""
        result = one.render.result
        if result is not None and result.lost:
            one.span.fail("result_lost")
        one.stage.end()
        one.span.end()

    def left(self, one: LiveRender) -> None:
        """End a render's span here; whoever goes on with it has another one in the same trace."""
        one.span.tell({names.MOVED: True})
        one.stage.end()
        one.span.end()


def _tokens(usage: TokenUsage | None) -> Attributes:
    if usage is None:
        return {}
    return {
        names.GEN_AI_USAGE_INPUT_TOKENS: usage.input_total,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: usage.output_total,
        names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: usage.text_cached_input
        + usage.image_cached_input,
    }
